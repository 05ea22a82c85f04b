"""SpecAugment by torchaudio: masks over frames [B, T, F] that respect lengths and a generator.

torchaudio draws from torch's global generator and places masks anywhere in the padded batch. Here each row is
masked over its own frames, and the global generator is set from `generator` for the moment of the draw and put
back afterwards: not a thing to do while another thread draws from it. `Augment` masks without torchaudio, and does
more; this is for those who want the masks of others exactly. Warping of time is left out, as the paper found
it to matter least: `time_stretch` and `change_speed` do it with the labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from speechattn.augment.frames import check_call
from speechattn.lengths import full_lengths
from speechattn.system.optional_imports import require_torchaudio
from speechattn.system.serialization import take_numbers


@dataclass(frozen=True, eq=False)
class SpecAugment:
    """Masks of Park et al. 2019 (arXiv 1904.08779), drawn per row by torchaudio.functional.mask_along_axis_iid.

    Called as `Augment` is: ``spec_augment(frames, lengths, generator)``. The masks of a row depend on the generator,
    the row's place and its own length, not on its neighbours or on padding.

    Args:
        frequency_masks, frequency_mask_bins: how many masks, each narrower than so many bins.
        time_masks, time_mask_frames, time_mask_share: how many, each shorter than so many frames and than
            this share of the row.
        fill: what stands under a mask: a number, or one for each bin [F], such as `Normalize.mean`. The default
            0 is the mean of frames that are normalised already.

    Raises:
        ValueError: a number is negative or the share above 1.

    Example:
        >>> hide = SpecAugment(time_masks=0)
        >>> frames = torch.ones(2, 50, 80)
        >>> first, again = (hide(frames, None, torch.Generator().manual_seed(7)) for _ in range(2))
        >>> torch.equal(first, again), sorted(first.unique().tolist())
        (True, [0.0, 1.0])
    """

    frequency_masks: int = 2
    frequency_mask_bins: int = 12
    time_masks: int = 2
    time_mask_frames: int = 20
    time_mask_share: float = 0.1
    fill: Tensor | float = 0.0

    def __post_init__(self) -> None:
        take_numbers(self)
        for name in ("frequency_masks", "frequency_mask_bins", "time_masks", "time_mask_frames"):
            if getattr(self, name) < 0:
                raise ValueError(f"SpecAugment.{name} must be 0 (off) or more, got {getattr(self, name)}.")
        if not 0 <= self.time_mask_share <= 1:
            raise ValueError(f"SpecAugment.time_mask_share must be from 0 to 1, got {self.time_mask_share}.")

    def __call__(self, frames: Tensor, lengths: Tensor | None, generator: torch.Generator) -> Tensor:
        """New frames [B, T, F]; those at and past `lengths` [B] are returned as they came, NaN included.

        Raises:
            TypeError: generator is not a torch.Generator.
            ValueError: frames are not [B, T, F], or a length is outside [0, T].
            UserError: torchaudio cannot be imported.
        """
        checked = check_call(frames, lengths, generator)
        num_features = frames.shape[2]
        hidden = torch.zeros(frames.shape, dtype=torch.bool)
        counts = (full_lengths(frames) if checked is None else checked).tolist()
        seeds = torch.randint(2**62, (len(counts),), generator=generator, device=generator.device).tolist()
        for row, count, seed in zip(hidden, counts, seeds, strict=True):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                narrow = min(self.frequency_mask_bins, num_features)
                row[:count] |= _masks(num_features, self.frequency_masks, narrow)
                short = min(self.time_mask_frames, int(count * self.time_mask_share))
                row[:count] |= _masks(count, self.time_masks, short)[:, None]
        return torch.where(hidden.to(frames.device), torch.as_tensor(self.fill).to(frames), frames)


def _masks(size: int, count: int, longest: int) -> Tensor:
    """Bool [size], True = hidden: `count` spans of 0 to longest - 1 positions, drawn from the global generator."""
    functional = require_torchaudio("SpecAugment").functional
    kept = torch.ones(1, size, 1)
    if longest and size:
        for _ in range(count):
            kept = functional.mask_along_axis_iid(kept, longest, 0.0, axis=1)
    return kept.flatten() == 0
