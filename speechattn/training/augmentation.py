"""The augmentation of a training run, as its settings describe it."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from speechattn.augment.frames import Augment
from speechattn.training.config import TrainConfig


def make_augment(config: TrainConfig, mean: Tensor) -> Augment:
    """Return the augmentation of a run; masked frames are the `mean` [F] of the training frames."""
    return dataclasses.replace(
        Augment.for_features(config.features, mean),
        time_masks=config.time_masks,
        time_mask_frames=config.time_mask_frames,
        time_mask_share=config.time_mask_share,
    )
