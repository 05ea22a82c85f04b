"""torchaudio's RNN transducer around our encoder, which is a transcriber as it is: there is no class here.

`RNNT(transcriber=encoder, ...)` and `RNNTBeamSearch` call `forward` and `infer` with the names and the order that
`Encoder` has. What they leave to the caller is here: a predictor and a joiner of the encoder's width, the loss with
its shifted targets, and the end of a stream. The blank is the last symbol: `RNNTBeamSearch` knows no other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from speechattn.encoder.encoder import Encoder
from speechattn.lengths import check_lengths, full_lengths, valid_mask
from speechattn.system.optional_imports import require_torchaudio


def rnnt(encoder: Encoder, num_symbols: int, embedding_dim: int = 256, num_lstm_layers: int = 1) -> nn.Module:
    """A `torchaudio.models.RNNT` with `encoder` as its transcriber, an LSTM predictor, and a joiner that adds the two.

    `num_symbols` counts the blank, which is the last of them.

    Example:
        >>> from speechattn.config import EncoderConfig
        >>> model = rnnt(Encoder(EncoderConfig(input_dim=8, d_model=16, num_heads=2, num_layers=1)), num_symbols=5)
        >>> tokens = torch.tensor([[0, 3]])
        >>> rnnt_loss(model, torch.zeros(1, 20, 8), None, tokens, torch.tensor([2]), blank=4).shape
        torch.Size([])
    """
    models = require_torchaudio("adapters.torchaudio.rnnt").models
    width = encoder.config.d_model
    # torchaudio has no public predictor and joiner; these are the ones that its own factories build from.
    predictor = models.rnnt._Predictor(num_symbols, width, embedding_dim, num_lstm_layers, embedding_dim)
    model: nn.Module = models.RNNT(encoder, predictor, models.rnnt._Joiner(width, num_symbols))
    return model


def rnnt_loss(
    model: nn.Module, frames: Tensor, lengths: Tensor | None, targets: Tensor, target_lengths: Tensor, blank: int
) -> Tensor:
    """Return the mean loss of frames [B, T, F] with `lengths` [B] and targets [B, U] with `target_lengths` [B].

    Targets are symbols below `blank`, the last one; past `target_lengths` they may hold anything, -100 included. The
    loss is float32, whatever the model is. The joiner's output has B * T * (U + 1) * num_symbols numbers:
    EncoderConfig(stack=4) makes it four times smaller.

    Raises:
        ValueError: a target is no symbol, or a row has no frame, so that nothing can be aligned to it.
    """
    torchaudio = require_torchaudio("adapters.torchaudio.rnnt_loss")
    check_lengths(target_lengths, len(targets), targets.shape[1], "target")
    valid = valid_mask(target_lengths, targets.shape[1])
    if not ((targets >= 0) & (targets < blank))[valid].all():
        raise ValueError(f"targets must be symbols in [0, {blank}), got {sorted(set(targets[valid].tolist()))}.")
    targets = targets.masked_fill(~valid, blank)
    shifted = torch.cat([targets.new_full((len(targets), 1), blank), targets], 1)
    lengths = full_lengths(frames) if lengths is None else lengths
    logits, lengths, _, _ = model(frames, lengths, shifted, target_lengths + 1)
    if not (lengths > 0).all():
        raise ValueError(f"every row needs a frame to align, got output lengths {lengths.tolist()}: drop such rows.")
    # torchaudio wants the tensors no longer than their longest row, and 32-bit integers. It has no kernel for bfloat16
    # and float64, and in half precision its sums over frames lose their digits.
    longest, most = int(lengths.max()), int(target_lengths.max())
    loss: Tensor = torchaudio.functional.rnnt_loss(
        logits[:, :longest, : most + 1].float().contiguous(),
        targets[:, :most].int().contiguous(),
        lengths.int(),
        target_lengths.int(),
        blank,
    )
    return loss


@torch.no_grad()
def finish(search: Any, state: Any, hypotheses: list[Any], beam_width: int) -> list[Any]:
    """The hypotheses of a whole stream: the frames that the encoder still owes, searched as the others were.

    `state` and `hypotheses` are what the last `search.infer(...)` returned. An encoder with look-ahead answers that
    much later than it is asked, so the last push leaves it owing; without this call the end of the audio is lost.
    """
    tail = search.model.transcriber.flush(state)
    # `infer` and `forward` of RNNTBeamSearch take frames only; this is where both of them hand on the encoder's output.
    found: list[Any] = search._search(tail, hypotheses, beam_width)
    return found
