"""Normalisation by the mean and standard deviation of a corpus: two vectors, fitted once, saved with the model.

Not by those of an utterance, whose mean is known only at its end, so that a stream could not give the same frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Self

import torch
from torch import Tensor, nn

from speechattn.dtypes import check_floating, widened
from speechattn.errors import UserError
from speechattn.lengths import check_lengths, zero_padding
from speechattn.system.serialization import whole

MIN_STD = 1e-2
"""0.04 dB in log-mel: a feature that varies less is constant, and dividing by its deviation would magnify rounding."""


Moments = tuple[int, Tensor, Tensor]
"""The number of frames, their mean [F] and the summed squares of their deviations from it [F], in float64."""


def moments(frames: Tensor) -> Moments:
    """Return the moments of frames [T, F]; of no frames, zeros."""
    wide = frames.detach().to("cpu", torch.float64)
    if not len(wide):
        return 0, wide.new_zeros(wide.shape[1]), wide.new_zeros(wide.shape[1])
    mean = wide.mean(0)
    return len(wide), mean, (wide - mean).square().sum(0)


def _all_moments(corpus: Iterable[Tensor]) -> Iterator[Moments]:
    width = None
    for index, frames in enumerate(corpus):
        if frames.ndim != 2 or (width is not None and frames.shape[1] != width):
            wanted = "[T, F]" if width is None else f"[T, {width}]"
            raise ValueError(f"item {index} of the corpus must be frames {wanted}, got {list(frames.shape)}.")
        if not len(frames):
            continue
        width = frames.shape[1]
        if not bool(frames.isfinite().all()):
            raise UserError(f"item {index} of the corpus holds NaN or infinite frames; leave it out or repair it.")
        yield moments(frames)


class Normalize(nn.Module):
    """Module that returns (frames - mean) / std per feature; the identity until it is fitted or loaded.

    It has no state: a stream calls it on the frames of each push, and there is nothing to flush. Mean and deviation
    stay float32 in a half precision model, and it computes in float32 at least.

    Shape:
        frames [B, T, num_features], lengths [B] int64 or None -> [B, T, num_features] of the same dtype, 0 at and past
        `lengths`.

    Examples:
        >>> normalize = Normalize.fit([torch.tensor([[0.0], [2.0]]), torch.tensor([[4.0]])])
        >>> normalize.mean.tolist(), normalize(torch.tensor([[[2.0]]])).tolist()
        ([2.0], [[[0.0]]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        num_features = whole("num_features", num_features)
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("std", torch.ones(num_features))

    @classmethod
    def fit(cls, corpus: Iterable[Tensor], *, min_std: float = MIN_STD) -> Normalize:
        """Return a Normalize with the mean and population deviation of all frames of `corpus`, an iterable of [T, F].

        Every frame has the same weight, however long its utterance. Sums are float64 and merged utterance by utterance
        (Chan, Golub and LeVeque 1979), so that a large mean loses no precision. `std` is at least `min_std`.

        Raises:
            ValueError: an item is not [T, F], or F changes.
            UserError: the corpus holds no frames, or frames that are not finite.
        """
        return cls.of_moments(_all_moments(corpus), min_std=min_std)

    @classmethod
    def of_moments(cls, parts: Iterable[Moments], *, min_std: float = MIN_STD) -> Normalize:
        """Return the same from the `moments` of each item, which may have been computed before.

        Raises:
            UserError: there are no frames.
        """
        count, mean, squares = 0, torch.zeros(0), torch.zeros(0)
        for own_count, own_mean, own_squares in parts:
            if not own_count:
                continue
            if not count:
                count, mean, squares = own_count, own_mean, own_squares
                continue
            total = count + own_count
            difference = own_mean - mean
            squares = squares + own_squares + difference.square() * (count * own_count / total)
            mean = mean + difference * (own_count / total)
            count = total
        if not count:
            raise UserError("there are no frames to compute a mean from: the corpus is empty, or shorter than one hop.")
        normalize = cls(len(mean))
        normalize.mean.copy_(mean)
        normalize.std.copy_((squares / count).sqrt().clamp(min=min_std))
        return normalize

    def forward(self, frames: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return normalised frames, exactly 0 at and past `lengths` whatever the padding holds.

        Raises:
            TypeError: frames are not floats.
            ValueError: frames are not [B, T, num_features], or a length is outside [0, T].
        """
        check_floating(frames)
        if frames.ndim != 3 or frames.shape[-1] != len(self.mean):
            raise ValueError(f"frames must be [B, T, {len(self.mean)}], got {list(frames.shape)}.")
        lengths = check_lengths(lengths, frames.shape[0], frames.shape[1])
        dtype = widened(frames.dtype)
        normalized = (frames.to(dtype) - self.mean.to(dtype)) / self.std.to(dtype)
        return zero_padding(normalized.to(frames.dtype), lengths)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move mean and deviation without rounding them to half precision."""
        kept = self.mean, self.std
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in zip(("mean", "std"), kept, strict=True):
            after = getattr(self, name)
            if after.dtype != widened(after.dtype):
                setattr(self, name, before.to(after.device, widened(after.dtype)))
        return self

    def extra_repr(self) -> str:
        """Return the settings that `repr` shows."""
        return f"{len(self.mean)}"
