"""torchaudio's RNN transducer with `Encoder` as its transcriber.

`RNNT(transcriber=encoder, ...)` and `RNNTBeamSearch` call `forward` and `infer` of any encoder, so no class is needed
here. These functions add a predictor and a joiner of the encoder's width, the loss with its shifted targets, and the
end of a stream. The blank is the last symbol, because `RNNTBeamSearch` supports no other.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from speechattn.encoder.encoder import Encoder
from speechattn.lengths import check_lengths, full_lengths, valid_mask
from speechattn.system.optional_imports import require_torchaudio


def rnnt(encoder: Encoder, num_symbols: int, embedding_dim: int = 256, num_lstm_layers: int = 1) -> nn.Module:
    """Return a `torchaudio.models.RNNT` of `encoder` as transcriber, an LSTM predictor and a joiner that adds both.

    `num_symbols` includes the blank, which is the last symbol.

    Examples:
        >>> from speechattn.config import EncoderConfig
        >>> model = rnnt(Encoder(EncoderConfig(input_dim=8, d_model=16, num_heads=2, num_layers=1)), num_symbols=5)
        >>> tokens = torch.tensor([[0, 3]])
        >>> rnnt_loss(model, torch.zeros(1, 20, 8), None, tokens, torch.tensor([2]), blank=4).shape
        torch.Size([])
    """
    models = require_torchaudio("integrations.torchaudio.rnnt").models
    width = encoder.config.d_model
    # torchaudio has no public predictor and joiner; its own factories use these.
    predictor = models.rnnt._Predictor(num_symbols, width, embedding_dim, num_lstm_layers, embedding_dim)
    model: nn.Module = models.RNNT(encoder, predictor, models.rnnt._Joiner(width, num_symbols))
    return model


def rnnt_loss(
    model: nn.Module, frames: Tensor, lengths: Tensor | None, targets: Tensor, target_lengths: Tensor, blank: int
) -> Tensor:
    """Return the mean loss of frames [B, T, F] with `lengths` [B] and targets [B, U] with `target_lengths` [B].

    Targets are symbols below `blank`, which is the last one; past `target_lengths` they may hold anything, -100
    included. The loss is float32 for any dtype of the model. The output of the joiner has B * T * (U + 1) * num_symbols
    elements, so EncoderConfig(stack=4) makes it four times smaller.

    Raises:
        ValueError: a target is no symbol, or a row has no frame to align.
    """
    torchaudio = require_torchaudio("integrations.torchaudio.rnnt_loss")
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
    # torchaudio requires tensors as long as their longest row, and 32-bit integers. It has no kernel for bfloat16 and
    # float64, and in float16 its sums over frames lose precision.
    max_frames, max_targets = int(lengths.max()), int(target_lengths.max())
    loss: Tensor = torchaudio.functional.rnnt_loss(
        logits[:, :max_frames, : max_targets + 1].float().contiguous(),
        targets[:, :max_targets].int().contiguous(),
        lengths.int(),
        target_lengths.int(),
        blank,
    )
    return loss


@torch.no_grad()
def finish(search: Any, state: Any, hypotheses: list[Any], beam_width: int) -> list[Any]:
    """Search the frames that are pending at the end of a stream; return the hypotheses of the whole stream.

    `state` and `hypotheses` are the results of the last `search.infer(...)`. An encoder with look-ahead delays its
    output by it, so after the last block frames are pending; without this call the end of the audio is lost.
    """
    tail = search.model.transcriber.flush(state)
    # `infer` and `forward` of RNNTBeamSearch accept frames only; both pass the output of the encoder to this method.
    found: list[Any] = search._search(tail, hypotheses, beam_width)
    return found
