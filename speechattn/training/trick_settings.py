"""Checks of the settings that make a model more accurate without changing it: averages, views, teachers, masks.

Each `config` is a TrainConfig, whose file imports this one.
"""

from __future__ import annotations

import math
from typing import Any

from speechattn.errors import ConfigError


def check_tricks(config: Any) -> None:
    """Raise ConfigError unless the settings have a meaning."""
    if not 0 <= config.ema < 1:
        raise ConfigError(f"TrainConfig.ema must be a decay from 0 (off) to below 1, 0.999 say, got {config.ema}.")
    if not 0 <= config.consistency < math.inf:
        raise ConfigError(f"TrainConfig.consistency must be a weight of 0 (off) or more, got {config.consistency}.")
    if config.consistency and not config.augment:
        raise ConfigError("TrainConfig.consistency compares two augmented views: without augmentation they are equal.")
    if not 0 < config.teacher_weight <= 1:
        raise ConfigError(f"TrainConfig.teacher_weight must be above 0 and at most 1, got {config.teacher_weight}.")
    for name in ("time_masks", "time_mask_frames"):
        if getattr(config, name) < 0:
            raise ConfigError(f"TrainConfig.{name} must be 0 (off) or more, got {getattr(config, name)}.")
    if not 0 <= config.time_mask_share <= 1:
        raise ConfigError(f"TrainConfig.time_mask_share must be a share from 0 to 1, got {config.time_mask_share}.")
