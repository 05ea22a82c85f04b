"""SpecAugment: masks over time and frequency of frames [B, T, F] (Park et al. 2019, arXiv 1904.08779).

The generator given decides every mask, so batch k of epoch e is the same again after a restart and on any device, and
each row is masked inside its own length. torchaudio's masks draw from torch's global generator and ignore lengths;
these have the same widths, in plain torch. Time warping is left out, which the paper found to matter least:
`time_stretch` and `change_speed` change the labels too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from speechattn.dtypes import check_floating
from speechattn.lengths import check_lengths, full_lengths, valid_mask
from speechattn.system.serialization import take_numbers


@dataclass(frozen=True, eq=False, kw_only=True)
class SpecAugment:
    """Random masks, drawn per row: ``spec_augment(frames, lengths, generator)``.

    The masks of a row depend on the generator, the number of rows, the row's place and its own length, not on padding
    or on what other rows hold.

    Raises:
        ValueError: a number is negative or the share above 1.

    Examples:
        >>> spec_augment = SpecAugment(time_masks=0)
        >>> frames = torch.ones(2, 50, 80)
        >>> first, again = (spec_augment(frames, None, torch.Generator().manual_seed(7)) for _ in range(2))
        >>> torch.equal(first, again), sorted(first.unique().tolist())
        (True, [0.0, 1.0])
    """

    frequency_masks: int = 2
    """Masks over feature bins; 0 is off."""
    frequency_mask_bins: int = 12
    """Largest width of one, in bins."""
    time_masks: int = 2
    """Masks over frames; 0 is off."""
    time_mask_frames: int = 20
    """Largest length of one, in frames."""
    time_mask_share: float = 0.1
    """Largest length of one, as a share of the row's valid frames, 0 to 1."""
    fill: Tensor | float = 0.0
    """Value under a mask: a number, or one for each bin [F], such as `Normalize.mean`.

    The default 0 is the mean of frames that are normalised already.
    """

    def __post_init__(self) -> None:
        take_numbers(self)
        self._check_not_negative("frequency_masks", "frequency_mask_bins", "time_masks", "time_mask_frames")
        if not 0 <= self.time_mask_share <= 1:
            raise ValueError(f"{type(self).__name__}.time_mask_share must be from 0 to 1, got {self.time_mask_share}.")

    def _check_not_negative(self, *names: str) -> None:
        for name in names:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{type(self).__name__}.{name} must be 0 (off) or more, got {getattr(self, name)}.")

    def __call__(self, frames: Tensor, lengths: Tensor | None, generator: torch.Generator) -> Tensor:
        """Return masked frames [B, T, F]; those at and past `lengths` [B] are returned unchanged, NaN included.

        Raises:
            TypeError: generator is not a torch.Generator, or frames are not floats.
            ValueError: frames are not [B, T, F], or a length is outside [0, T].
        """
        lengths = check_batch(frames, lengths, generator)
        masked = self.draw_masks(frames, lengths, generator) & valid_mask(lengths, frames.shape[1])[:, :, None]
        return torch.where(masked, torch.as_tensor(self.fill).to(frames), frames)

    def draw_masks(self, frames: Tensor, lengths: Tensor, generator: torch.Generator) -> Tensor:
        """Return the masks as bool [B, T, F], True = masked; those over bins cover padding too."""
        bins = draw_frequency_masks(frames, generator, self.frequency_masks, self.frequency_mask_bins)
        max_frames = (lengths * self.time_mask_share).long().clamp(max=self.time_mask_frames)
        return bins[:, None] | draw_time_masks(frames, lengths, generator, self.time_masks, max_frames)[:, :, None]


def check_batch(frames: Tensor, lengths: Tensor | None, generator: torch.Generator) -> Tensor:
    """Return `lengths` [B] on the device of `frames`, all of T where they are None.

    Raises:
        TypeError: generator is not a torch.Generator, or frames are not floats.
        ValueError: frames are not [B, T, F], or a length is outside [0, T].
    """
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator with a seed, got {type(generator).__name__}.")
    check_floating(frames)
    if frames.ndim != 3:
        raise ValueError(f"frames must be [B, T, F], got {list(frames.shape)}.")
    checked = check_lengths(lengths, frames.shape[0], frames.shape[1])
    return full_lengths(frames) if checked is None else checked.to(frames.device)


def draw_frequency_masks(frames: Tensor, generator: torch.Generator, count: int, max_bins: int) -> Tensor:
    """Return `count` masks over the bins of each row as bool [B, F], True = masked, each 0 to `max_bins` wide."""
    batch_size, _, bins = frames.shape
    extent = torch.full((batch_size,), bins, device=frames.device)
    return _spans(extent.clamp(max=max_bins), extent, count, bins, generator)


def draw_time_masks(
    frames: Tensor, lengths: Tensor, generator: torch.Generator, count: int, max_frames: Tensor
) -> Tensor:
    """Return `count` masks over each row's valid frames as bool [B, T], each 0 to `max_frames` [B] long."""
    return _spans(torch.minimum(max_frames, lengths), lengths, count, frames.shape[1], generator)


def draw_uniform(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Return numbers in [0, 1), drawn on the generator's device so that the device of `like` does not change them."""
    return torch.rand(shape, generator=generator, device=generator.device).to(like)


def _spans(max_width: Tensor, extent: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Return `count` spans a row, joined, as bool [B, size]: each 0 to max_width [B] long, inside [0, extent [B])."""
    width_draw, start_draw = draw_uniform((2, len(extent), count), generator, extent.float())
    width = (width_draw * (max_width[:, None] + 1)).long().minimum(max_width[:, None])
    last_start = extent[:, None] - width
    start = (start_draw * (last_start + 1)).long().minimum(last_start)[:, :, None]
    position = torch.arange(size, device=extent.device)
    inside: Tensor = (position >= start) & (position < start + width[:, :, None])
    return inside.any(1)
