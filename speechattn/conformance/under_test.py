"""The encoder under test: a callable, and what it declares about itself. Not here: judging its output."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from speechattn.conformance.results import NonconformingError
from speechattn.context import Context
from speechattn.receptive_field import receptive_field

Encoder = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Reach = Callable[[int, int], tuple[int, int]]

CPU = torch.device("cpu")

# The algorithm or rounding: 1e-10 in float64 is far above any order of summation and far below any wrong frame;
# 1e-5 in float32, for a Linear alone and in a batch already differ by 5e-7.
TOLERANCES = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True)
class EncoderUnderTest:
    """An encoder under test: frames [B, T, features], lengths [B] -> (output [B, T', D], lengths [B]).

    Args:
        encoder: the callable. A module is copied, put into eval mode and cast to `dtype`. Methods `initial_state`,
            `step` and `flush` of it, with the meaning that `speechattn.Encoder` gives them, are its stream.
        features: numbers in an input frame.
        reach: (i, num_frames) -> the half-open range of input frames that output frame i depends on.
        dtype: the precision it promises: float64, or float32 where something inside is float32 by design.
        num_frames: length of the audio in most checks; longer than the reach, so that something lies outside.
        granularity: each push to its stream, except the last, is a multiple of so many frames.
        seed: of all random numbers.
        device: where it runs; what goes in and comes out here is on the CPU.
    """

    encoder: Encoder
    features: int
    reach: Reach
    dtype: torch.dtype
    num_frames: int
    granularity: int = 1
    seed: int = 0
    device: torch.device = CPU

    def __call__(self, frames: Tensor, lengths: Sequence[int] | None = None) -> tuple[Tensor, list[int]]:
        """Return output [B, T', D] and its lengths; without `lengths` all frames are real.

        Raises:
            NonconformingError: the answer is not a pair of that shape.
        """
        if lengths is None:
            lengths = [frames.shape[1]] * frames.shape[0]
        counts = torch.tensor(list(lengths), dtype=torch.int64, device=self.device)
        answer: Any = self.encoder(frames.to(self.device), counts)
        if not (isinstance(answer, (tuple, list)) and len(answer) >= 2):
            raise NonconformingError(f"an encoder must return (output, lengths), got {type(answer).__name__}.")
        output, output_lengths = answer[0].cpu(), [int(length) for length in answer[1]]
        if output.ndim != 3 or output.shape[0] != frames.shape[0] or len(output_lengths) != frames.shape[0]:
            raise NonconformingError(
                f"output must be [{frames.shape[0]}, T, D] and lengths [{frames.shape[0]}], "
                f"got {list(output.shape)} and [{len(output_lengths)}]."
            )
        if output_lengths and not 0 <= min(output_lengths) <= max(output_lengths) <= output.shape[1]:
            raise NonconformingError(f"output lengths {output_lengths} do not fit {output.shape[1]} output frames.")
        return output, output_lengths

    def rows(self, frames: Tensor, lengths: Sequence[int] | None = None) -> list[Tensor]:
        """Return the valid output frames [t, D] of each row."""
        with torch.no_grad():
            output, output_lengths = self(frames, lengths)
        return [row[:length] for row, length in zip(output, output_lengths, strict=True)]

    def frames(self, batch_size: int, num_frames: int, salt: int = 0) -> Tensor:
        """Return normal random frames [B, T, features], the same for the same arguments."""
        generator = torch.Generator().manual_seed(1000 * self.seed + salt)
        shape = (batch_size, num_frames, self.features)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(self.dtype)

    def allowed(self, reference: Sequence[Tensor] | Tensor) -> float:
        """Return the largest error that counts as rounding, relative to the largest number of the reference or 1."""
        tensors = [reference] if isinstance(reference, Tensor) else reference
        largest = max((float(x.abs().max()) for x in tensors if x.numel()), default=1.0)
        return TOLERANCES[self.dtype] * max(1.0, largest)

    def cast(self, dtype: torch.dtype) -> EncoderUnderTest:
        """Return the same encoder in another precision; a callable that is not a module follows its input."""
        encoder = self.encoder
        if isinstance(encoder, nn.Module):
            encoder = copy.deepcopy(encoder).to(dtype)
        return replace(self, encoder=encoder, dtype=dtype)

    def initial_state(self, batch_size: int) -> Any:
        """Return the state of streams that have not begun."""
        return self._stream.initial_state(batch_size)

    def step(self, frames: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Return output [B, m, D] of one push, and the next state; no gradient flows."""
        with torch.no_grad():
            output, state = self._stream.step(frames.to(self.device), state)
        return output.to(CPU, copy=True), state

    def flush(self, state: Any) -> Tensor:
        """Return the pending output [B, m, D]."""
        with torch.no_grad():
            output: Tensor = self._stream.flush(state)
        return output.to(CPU, copy=True)

    @property
    def _stream(self) -> Any:
        """The encoder with its streaming methods."""
        return self.encoder

    @property
    def parameters(self) -> list[Tensor]:
        """Weights whose gradients are checked; none for a callable that is not a module."""
        return list(self.encoder.parameters()) if isinstance(self.encoder, nn.Module) else []

    @property
    def streams(self) -> bool:
        """Whether it can stream."""
        return all(hasattr(self.encoder, name) for name in ("initial_state", "step", "flush"))


def as_reach(declared: Context | Sequence[Context] | Reach | None, encoder: object) -> Reach:
    """Return the declaration as a function (i, num_frames) -> (start, stop).

    A Context is one layer, a sequence of them a stack with the layer next to the input first. None asks the
    encoder's own method `receptive_field`. A function of an encoder with fewer output than input frames raises
    IndexError past the last of them.

    Raises:
        TypeError: it is none of these.
    """
    if declared is None:
        declared = getattr(encoder, "receptive_field", None)
    contexts = (declared,) if isinstance(declared, Context) else declared
    if isinstance(contexts, Sequence) and all(isinstance(context, Context) for context in contexts):
        return lambda i, num_frames: _clipped(receptive_field(contexts, i, num_frames), num_frames)
    if callable(declared):
        function = declared
        return lambda i, num_frames: _clipped(function(i, num_frames), num_frames)
    raise TypeError(
        "reach must say what an output frame depends on: a Context, one Context per layer, or a function "
        f"(i, num_frames) -> (start, stop); got {declared!r}."
    )


def enough_frames(reach: Reach) -> int:
    """Return a number of frames above the widest reach, odd so that no chunk divides it; 47 without a limit."""
    probe, width = 1025, 0
    for i in range(probe):
        try:
            start, stop = reach(i, probe)
        except IndexError:  # an encoder that stacks frames has fewer of them at its output
            break
        width = max(width, stop - start)
    return 47 if width >= probe - 1 else max(33, min(2 * width + 5, 513) | 1)


def _clipped(limits: tuple[int, int | None], num_frames: int) -> tuple[int, int]:
    start, stop = limits
    return max(start, 0), num_frames if stop is None else min(stop, num_frames)


def difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest error; inf where one of the two is not finite.

    Raises:
        NonconformingError: their shapes differ.
    """
    if found.shape != expected.shape:
        raise NonconformingError(f"gives {list(found.shape)} where {list(expected.shape)} is expected.")
    if not found.numel():
        return 0.0
    error = float((found - expected).abs().max())
    return error if error < torch.inf else torch.inf
