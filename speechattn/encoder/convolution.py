"""Convolution over frames, depthwise or full, causal or with a declared look-ahead, masked and streamable.

Its window is a Context, so that receptive field and look-ahead of a stack compose. Every row is padded with zeros
before its first and after its last frame.
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
    """A Conv1d [B, D, M] -> [B, D, T] without padding, twice as fast on a CPU for input with features last.

    `FramesConvolution` calls the module and never reads its weight, so that hooks, pruning and wrappers take effect.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return [B, D, T] for [B, D, M], T = M - taps + 1."""
        # oneDNN 3.10 (torch 2.11) never returns from half precision with channels last where AVX512_BF16 is.
        half = input.dtype in (torch.float16, torch.bfloat16)
        if input.is_cpu and (half or torch.is_autocast_enabled("cpu")):
            return conv1d(input.contiguous(), self.weight, self.bias, groups=self.groups)
        # As an image of height 1 with channels last, as frames are: no copy.
        image = input.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        return conv2d(image, self.weight.unsqueeze(2), self.bias, groups=self.groups).squeeze(2)


class FramesConvolution(nn.Module):
    """Frames [B, T, D] -> [B, T, D], each a weighted sum of the frames of a window, with weights per feature.

    Args:
        d_model: features of a frame.
        context: the window, two limits and no chunk; its kernel has left + 1 + right taps.
        groups: features that do not mix; d_model (the default) is depthwise, 1 is a full convolution.

    Examples:
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
        """Return frames [B, T, D], exactly 0 at and past `lengths` [B]; padding is never read."""
        left, right = self._sides
        input = fitting(input, self, "layer")
        return zero_padding(self._convolve(pad(zero_padding(input, lengths), (0, 0, left, right))), lengths)

    def initial_state(self, batch_size: int = 1) -> Tensor:
        """Return the state of a stream: past frames [B, n, D], at most `context.kept_frames`, zeros at first."""
        return like(self).new_zeros(batch_size, self._sides[0], self.d_model)

    @torch.no_grad()
    def step(self, input: Tensor, state: Tensor, final: bool = False) -> tuple[Tensor, Tensor]:
        """Return the frames [B, m, D] that are ready after the next n >= 0 frames [B, n, D], and the new state.

        With `final` these n frames are the last, and the pending ones are returned too. The old state is not changed.
        No gradient flows.

        Raises:
            ValueError: the state is of another batch size, dtype or device.
        """
        input = fitting(input, self, "layer")
        check_kept(state, input, like(self))
        window = torch.cat((state, pad(input, (0, 0, 0, self._sides[1])) if final else input), 1)
        done = max(0, window.shape[1] - sum(self._sides))
        return self._convolve(window), window[:, done:].clone()

    def flush(self, state: Tensor) -> Tensor:
        """Return the pending frames [B, m, D] at the end of a stream."""
        return self.step(state[:, :0], state, final=True)[0]

    @property
    def _sides(self) -> tuple[int, int]:
        assert self.context.left is not None and self.context.right is not None
        return self.context.left, self.context.right

    def _convolve(self, window: Tensor) -> Tensor:
        """Return [B, T, D] for [B, left + T + right, D]."""
        num_frames = window.shape[1] - sum(self._sides)
        if num_frames <= 0 or not len(window):
            return window.new_zeros(len(window), max(0, num_frames), window.shape[2])
        frames: Tensor = self.kernel(window.transpose(1, 2)).transpose(1, 2)
        return frames

    def extra_repr(self) -> str:
        """Return the window, for what is printed."""
        return f"context=({self.context})"
