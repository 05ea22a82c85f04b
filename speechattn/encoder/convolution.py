"""Convolution over frames, depthwise or full, causal or with a declared look-ahead, masked and streamable.

Its window is a Context like any other, so that reach and look-ahead of a stack compose. Zeros stand before the
first and after the last frame of every row.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv2d, pad

from speechattn.context import Context
from speechattn.dtypes import fitting, like
from speechattn.lengths import zero_padding
from speechattn.stream_state import check_kept


class Kernel(nn.Conv1d):
    """A Conv1d [B, D, M] -> [B, D, T] without padding, twice as fast on a CPU for input whose features lie last.

    `FramesConvolution` calls it, and never takes its weight: hooks of pruning and what wraps it have their effect.
    """

    def forward(self, input: Tensor) -> Tensor:
        # oneDNN 3.10 (torch 2.11) never returns from half precision with channels last where AVX512_BF16 is.
        half = input.dtype in (torch.float16, torch.bfloat16)
        if input.is_cpu and (half or torch.is_autocast_enabled("cpu")):
            return conv1d(input.contiguous(), self.weight, self.bias, groups=self.groups)
        # As a picture of height 1 whose channels lie last, as they do in frames: no copy.
        picture = input.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        return conv2d(picture, self.weight.unsqueeze(2), self.bias, groups=self.groups).squeeze(2)


class FramesConvolution(nn.Module):
    """Frames [B, T, D] -> [B, T, D], each a weighted sum of the frames of a window, with weights per feature.

    Args:
        d_model: features of a frame.
        context: the window, two limits and no chunk; its kernel has left + 1 + right taps.
        groups: features that do not mix; d_model (the default) is depthwise, 1 is a full convolution.

    Example:
        >>> FramesConvolution(8, Context.truncated(2, 1))(torch.zeros(1, 10, 8)).shape
        torch.Size([1, 10, 8])
    """

    def __init__(self, d_model: int, context: Context, groups: int | None = None) -> None:
        super().__init__()
        if context.window is None or context.chunk != 1:
            raise ValueError(f"a convolution has a window with two limits and no chunk, got ({context}).")
        self.context, self.d_model = context, d_model
        self.kernel = Kernel(d_model, d_model, context.window, groups=d_model if groups is None else groups)

    def forward(self, input: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Frames [B, T, D], exactly 0 at and past `lengths` [B]; what the padding holds is never used."""
        left, right = self._sides
        input = fitting(input, self, "layer")
        return zero_padding(self._convolve(pad(zero_padding(input, lengths), (0, 0, left, right))), lengths)

    def initial_state(self, batch_size: int = 1) -> Tensor:
        """What a stream keeps: frames [B, n, D] of the past, at most `context.kept_frames`; at first zeros."""
        return like(self).new_zeros(batch_size, self._sides[0], self.d_model)

    @torch.no_grad()
    def step(self, input: Tensor, state: Tensor, final: bool = False) -> tuple[Tensor, Tensor]:
        """The frames [B, m, D] that have become ready after the next n >= 0 frames [B, n, D], and the new state.

        `final` says that these n frames, or none, are the last: everything still owed comes out. The old state is left
        as it was. No gradient flows.

        Raises:
            ValueError: the state is of another batch size, dtype or device.
        """
        input = fitting(input, self, "layer")
        check_kept(state, input, like(self))
        window = torch.cat((state, pad(input, (0, 0, 0, self._sides[1])) if final else input), 1)
        done = max(0, window.shape[1] - sum(self._sides))
        return self._convolve(window), window[:, done:].clone()

    def flush(self, state: Tensor) -> Tensor:
        """The frames [B, m, D] still owed when no more will come."""
        return self.step(state[:, :0], state, final=True)[0]

    @property
    def _sides(self) -> tuple[int, int]:
        assert self.context.left is not None and self.context.right is not None
        return self.context.left, self.context.right

    def _convolve(self, window: Tensor) -> Tensor:
        """[B, left + T + right, D] -> [B, T, D]."""
        num_frames = window.shape[1] - sum(self._sides)
        if num_frames <= 0 or not len(window):
            return window.new_zeros(len(window), max(0, num_frames), window.shape[2])
        frames: Tensor = self.kernel(window.transpose(1, 2)).transpose(1, 2)
        return frames

    def extra_repr(self) -> str:
        return f"context=({self.context})"
