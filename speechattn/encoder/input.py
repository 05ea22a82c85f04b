"""InputLayer: splices neighbours to each frame, then stacks several frames into one. It has no weights.

Both are windows with zeros beyond the ends, so they stream as a convolution does.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from speechattn.config import NO_SPLICE, EncoderConfig
from speechattn.context import Context
from speechattn.dtypes import check_floating
from speechattn.lengths import check_lengths, zero_padding


class InputState(NamedTuple):
    """The state of the input layer in a stream."""

    window: Tensor  # [B, n, input_dim]: frames whose neighbours have not all arrived
    rest: Tensor  # [B, fewer than stack, spliced features]: frames of an incomplete stack


class InputLayer:
    """Frames [B, T, input_dim] -> [B, T // stack, entry_dim] of an `EncoderConfig`."""

    def __init__(self, config: EncoderConfig) -> None:
        self.config = config

    def __call__(self, input: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return frames with zeroed padding, spliced and stacked, and checked lengths [B] or None.

        Raises:
            TypeError, ValueError: input is not [B, T, input_dim], or lengths do not fit it.
        """
        self.check(input)
        lengths = check_lengths(lengths, input.shape[0], input.shape[1])
        whole = input.shape[1] // self.config.stack * self.config.stack
        if self.config.splice == NO_SPLICE:
            input = input[:, :whole]
        x = stack(splice(zero_padding(input, lengths), self.config.splice, whole), self.config.stack)
        return x, None if lengths is None else lengths // self.config.stack

    def initial_state(self, like: Tensor, batch_size: int) -> InputState:
        """Return the state before the first frame; dtype and device are those of `like`."""
        window = like.new_zeros(batch_size, self.config.splice.left or 0, self.config.input_dim)
        return InputState(window, like.new_zeros(batch_size, 0, self.config.entry_dim // self.config.stack))

    def step(self, input: Tensor, state: InputState, final: bool) -> tuple[Tensor, InputState]:
        """Return the frames [B, m, entry_dim] that are ready after the next ones [B, n, input_dim], and the state."""
        self.check(input)
        if final:
            input = pad(input, (0, 0, 0, self.config.splice.right or 0))
        window = torch.cat((state.window, input), 1)
        width = len(self.config.splice.offsets())
        done = max(0, window.shape[1] - width + 1)
        spliced = splice_valid(window, width) if done else state.rest[:, :0]
        frames = torch.cat((state.rest, spliced), 1)
        whole = frames.shape[1] // self.config.stack * self.config.stack
        return stack(frames, self.config.stack), InputState(window[:, done:].clone(), frames[:, whole:].clone())

    def check(self, input: Tensor) -> None:
        """Raise TypeError or ValueError unless input is frames [B, T, input_dim] of floats."""
        check_floating(input)
        if input.ndim != 3 or input.shape[2] != self.config.input_dim:
            raise ValueError(
                f"input must be frames [B, T, {self.config.input_dim}], got {list(input.shape)}. "
                "Waveforms go through a frontend first: sa.LogMel(num_mels)(waveform)."
            )


def splice(input: Tensor, window: Context, num_frames: int) -> Tensor:
    """Return the first frames with their neighbours: [B, T, F] -> [B, num_frames, (left + 1 + right) * F].

    Beyond the ends are zeros. `num_frames` leaves out a remainder that no stack takes: to cut it off later is a copy.
    """
    assert window.left is not None and window.right is not None
    if window == NO_SPLICE:
        return input[:, :num_frames]  # pad would copy it
    width = len(window.offsets())
    return splice_valid(pad(input, (0, 0, window.left, window.right))[:, : num_frames + width - 1], width)


def splice_valid(padded: Tensor, width: int) -> Tensor:
    """Return `width` consecutive frames side by side: [B, T + width - 1, F] -> [B, T, width * F]."""
    if width == 1:
        return padded
    num_frames = padded.shape[1] - width + 1
    return torch.cat([padded[:, shift : shift + num_frames] for shift in range(width)], 2)


def stack(frames: Tensor, size: int) -> Tensor:
    """Return `size` frames as one: [B, T, F] -> [B, T // size, size * F]; a remainder is dropped."""
    if size == 1:
        return frames
    whole = frames.shape[1] // size
    return frames[:, : whole * size].reshape(len(frames), whole, size * frames.shape[2])
