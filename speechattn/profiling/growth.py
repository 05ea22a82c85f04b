"""How a quantity grows with the length of audio, and at which length it reaches a size. Not here: what is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression

import numpy as np

CLOSE = 0.1
"""Relative error of a point that still lies on a curve. Blocks of attention and of frames make steps below it."""
MODELS = ((0, 1), (1, 2), (0, 2), (0, 1, 2))
"""Powers of the length in a curve, in the order in which they are tried: constant and slope first, and three terms
last, because the third of them follows the noise and is most of the answer far beyond the longest point."""


@dataclass(frozen=True)
class Curve:
    """constant + slope * length + square * length ** 2, none of them negative."""

    constant: float
    slope: float
    square: float

    def length(self, value: float) -> float:
        """Return the length at which the curve reaches `value`: 0 if it begins above, infinity if it never does.

        Example:
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
    frames. A power T ** p has no constant: through points that are mostly a constant it hides the slope, and says
    hours where it is minutes. Each point must be within CLOSE of the curve, or within `noise`.

    Example:
        >>> curve([10, 60, 600], [310, 360, 900], noise=1)
        Curve(constant=300.0, slope=1.0, square=0.0)
    """
    for powers in MODELS:
        if len(powers) > len(set(lengths)):
            continue
        shares = np.array(
            [[length**power / value for power in powers] for length, value in zip(lengths, values, strict=True)]
        )
        scales = shares.max(axis=0)  # without them the squares of hours drown the constant
        parts = np.linalg.lstsq(shares / scales, np.ones(len(lengths)), rcond=None)[0] / scales
        errors = np.abs(shares @ parts - 1)
        allowed = np.maximum(CLOSE, noise / np.asarray(values))
        if (parts * scales > -1e-9).all() and (errors <= allowed).all():
            terms = {power: max(0.0, float(f"{part:.12g}")) for power, part in zip(powers, parts, strict=True)}
            return Curve(*(terms.get(power, 0.0) for power in range(3)))
    return None


def power(lengths: Sequence[float], values: Sequence[float]) -> float:
    """Return p where values grow as lengths ** p: least squares of the logarithms. For a description, not to extend.

    Example:
        >>> round(power([10, 100, 1000], [2, 200, 20000]), 6)
        2.0
    """
    return linear_regression([math.log(x) for x in lengths], [math.log(value) for value in values]).slope
