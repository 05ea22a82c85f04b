"""Growth of a quantity with the length of audio: curves through measurements, and the length of a given value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression

import numpy as np

CLOSE = 0.1
"""Largest relative error of a point on a curve. Steps from blocks of attention and of frames are smaller."""
MODELS = ((0, 1), (1, 2), (0, 2), (0, 1, 2))
"""Powers of the length in a curve, in the order of trying: constant and slope first, three terms last, because the
third term follows the noise and dominates far beyond the longest point."""


@dataclass(frozen=True)
class Curve:
    """constant + slope * length + square * length ** 2, none of them negative."""

    constant: float
    slope: float
    square: float

    def length(self, value: float) -> float:
        """Return the length at which the curve reaches `value`: 0 if it begins above, infinity if it never does.

        Examples:
            >>> Curve(300, 2, 0).length(1000), Curve(0, 0, 4).length(100)
            (350.0, 5.0)
        """
        above = value - self.constant
        if above <= 0:
            return 0.0
        root = math.sqrt(self.slope**2 + 4 * self.square * above)
        return 2 * above / (self.slope + root) if root else math.inf


def curve(lengths: Sequence[float], values: Sequence[float], noise: float) -> Curve | None:
    """Return the simplest curve through all points, by least squares of the relative errors; None if there is none.

    Memory has a part that every call needs, a part for each frame and, where scores are kept, a part for each pair of
    frames. A power T ** p has no constant: through points that are mostly a constant it hides the slope, and
    extrapolates to hours instead of minutes. Each point must be within CLOSE of the curve, or within `noise`.

    Examples:
        >>> curve([10, 60, 600], [310, 360, 900], noise=1)
        Curve(constant=300.0, slope=1.0, square=0.0)
    """
    for powers in MODELS:
        if len(powers) > len(set(lengths)):
            continue
        shares = np.array(
            [[length**power / value for power in powers] for length, value in zip(lengths, values, strict=True)]
        )
        scales = shares.max(axis=0)  # without scales the squares of hours dominate the constant
        parts = np.linalg.lstsq(shares / scales, np.ones(len(lengths)), rcond=None)[0] / scales
        errors = np.abs(shares @ parts - 1)
        allowed = np.maximum(CLOSE, noise / np.asarray(values))
        if (parts * scales > -1e-9).all() and (errors <= allowed).all():
            terms = {power: max(0.0, float(f"{part:.12g}")) for power, part in zip(powers, parts, strict=True)}
            return Curve(*(terms.get(power, 0.0) for power in range(3)))
    return None


def power(lengths: Sequence[float], values: Sequence[float]) -> float:
    """Return p where values grow as lengths ** p: least squares of the logarithms. For a description, not to extend.

    Examples:
        >>> round(power([10, 100, 1000], [2, 200, 20000]), 6)
        2.0
    """
    return linear_regression([math.log(x) for x in lengths], [math.log(value) for value in values]).slope
