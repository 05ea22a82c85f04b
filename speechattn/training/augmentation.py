"""The augmentation of a training run, as its settings describe it."""

from __future__ import annotations

import dataclasses
import math

from torch import Tensor

from speechattn.augment.frames import Augment
from speechattn.training.config import TrainConfig


def make_augment(config: TrainConfig, mean: Tensor) -> Augment:
    """Return the augmentation of a run; masked frames are the `mean` [F] of the training frames."""
    return dataclasses.replace(
        scaled(Augment.for_features(config.features, mean), config.augment_strength),
        time_masks=config.time_masks,
        time_mask_frames=config.time_mask_frames,
        time_mask_share=config.time_mask_share,
    )


def scaled(augment: Augment, strength: float) -> Augment:
    """Return weaker or stronger changes: ranges times `strength`, and noise of `strength` times the amplitude.

    Masks over frames have settings of their own, and stay.

    Examples:
        >>> half = scaled(Augment(snr_db=(5, 40)), 0.5)
        >>> half.tilt_db, half.frequency_mask_bins, half.warp, half.snr_db and round(half.snr_db[0], 2)
        (3.0, 6, (0.94, 1.06), 11.02)
    """
    if strength == 1:
        return augment
    quieter_db = -20 * math.log10(strength) if strength else math.inf
    noise = augment.snr_db if strength else None
    return dataclasses.replace(
        augment,
        warp=augment.warp and (1 + strength * (augment.warp[0] - 1), 1 + strength * (augment.warp[1] - 1)),
        tilt_db=strength * augment.tilt_db,
        curve_db=strength * augment.curve_db,
        gain_db=strength * augment.gain_db,
        frequency_mask_bins=round(strength * augment.frequency_mask_bins),
        snr_db=noise and (noise[0] + quieter_db, noise[1] + quieter_db),
    )
