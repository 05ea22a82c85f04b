"""Smoothing: the settings by which the labels of frames are smoothed. viterbi.py has the algorithm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from speechattn.errors import ConfigError
from speechattn.system.serialization import plain_number, take_numbers, whole


@dataclass(frozen=True)
class Smoothing:
    """The cost of another label, the least duration of a segment, and how long a stream waits.

    Raises:
        ConfigError: a number is negative, or not whole where it counts frames.

    Examples:
        >>> Smoothing(change_cost=3, lag_frames=None)
        Smoothing(change_cost=3.0, min_frames=1, lag_frames=None)
    """

    change_cost: float = 3.0
    """Cost in nats of each change from one label to another; 0 is none."""
    min_frames: int | tuple[int, ...] = 1
    """Least frames of a segment: one number, or one for each class."""
    lag_frames: int | None = 10
    """Frames by which a stream waits before it decides; None: until the label is that of the best whole sequence."""

    def __post_init__(self) -> None:
        if isinstance(self.min_frames, list):
            object.__setattr__(self, "min_frames", tuple(self.min_frames))
        take_numbers(self)
        object.__setattr__(self, "change_cost", _cost(self.change_cost))
        if isinstance(self.min_frames, tuple):
            minima = tuple(whole(f"min_frames[{c}]", least) for c, least in enumerate(self.min_frames))
            object.__setattr__(self, "min_frames", minima)
        else:
            whole("min_frames", self.min_frames)
        if self.lag_frames is not None:
            whole("lag_frames", self.lag_frames, 0)

    def minima(self, num_classes: int) -> tuple[int, ...]:
        """Return the least frames of a segment of each class.

        Raises:
            ConfigError: `min_frames` is given by class, for another number of classes.
        """
        if isinstance(self.min_frames, int):
            return (self.min_frames,) * num_classes
        if len(self.min_frames) != num_classes:
            raise ConfigError(
                f"min_frames must be one number, or one for each of the {num_classes} classes, got "
                f"{len(self.min_frames)} numbers."
            )
        return self.min_frames


def _cost(value: Any) -> float:
    number = plain_number(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
        raise ConfigError(f"change_cost must be a finite number of nats from 0, got {value!r}.")
    return float(number)
