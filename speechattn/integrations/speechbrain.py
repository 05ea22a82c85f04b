"""A SpeechBrain lobe: frames and relative lengths in, hidden frames out. It imports nothing of SpeechBrain.

In a hparams file a context is written as its fields:

    encoder: !new:speechattn.integrations.speechbrain.SpeechAttnEncoder
        input_dim: 80
        context: {left: 64, right: 64}
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from speechattn.config import EncoderConfig
from speechattn.dtypes import widened
from speechattn.encoder.encoder import Encoder


class SpeechAttnEncoder(nn.Module):
    """An encoder as a lobe; `settings` are those of EncoderConfig.

    Examples:
        >>> lobe = SpeechAttnEncoder(input_dim=8, d_model=16, num_heads=2, num_layers=1, position_encoding="none")
        >>> hidden = lobe(torch.ones(2, 10, 8), torch.tensor([1.0, 0.5]))
        >>> hidden.shape, hidden[1].abs().sum(-1).count_nonzero().item()
        (torch.Size([2, 10, 16]), 5)
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.encoder = Encoder(EncoderConfig.from_dict(settings))

    def forward(self, x: Tensor, wav_lens: Tensor | None = None) -> Tensor:
        """Return hidden [B, T // stack, d_model] of frames [B, T, input_dim]; `wav_lens` [B] are shares of T in [0, 1].

        Shares are rounded to frames, as in the masks and losses of SpeechBrain. Output frames past the length of a row
        are 0. Pass the same `wav_lens` to the loss; with stack > 1 its rounding may include one of the zeros.
        """
        lengths = None if wav_lens is None else frames_of(wav_lens, x.shape[1])
        output: Tensor
        output, _ = self.encoder(x, lengths)
        return output


def frames_of(wav_lens: Tensor, num_frames: int) -> Tensor:
    """Return lengths [B] int64 in frames, of relative `wav_lens` [B] of `num_frames`."""
    # float16 has whole numbers only up to 2048
    lengths = (wav_lens.to(widened(wav_lens.dtype)) * num_frames).round()
    if not torch.compiler.is_compiling() and ((lengths < 0) | (lengths > num_frames)).any():
        raise ValueError(f"wav_lens must be shares of the longest row, in [0, 1], got {wav_lens.tolist()}.")
    return lengths.long()
