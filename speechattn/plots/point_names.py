"""Names beside the points of a figure, each on the first side where it covers no point, line or other name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from speechattn.plots.style import INK

FONT_SIZE = 10.5
LETTER = 0.59
"""Mean width of a letter, as a share of the size of the font."""
RADIUS = 6.0
"""Half the side of the square that a point takes, in points of 1/72 inch."""
SIDES = ((9.0, -6.0, "left"), (-9.0, -6.0, "right"), (0.0, -19.0, "center"), (0.0, 9.0, "center"))
"""Right, left, below and above: offset of the text from the point, and its alignment."""
HALO = [withStroke(linewidth=3, foreground="white")]
Box: TypeAlias = tuple[float, float, float, float]
"""Left, lower, right and upper edge, in points of 1/72 inch."""


class Named(NamedTuple):
    """A point in the units of the axes, and its name; "" is none, and the point is only kept free."""

    x: float
    y: float
    name: str


def name_points(figure: Figure, axes: Axes, points: Sequence[Named], line: Sequence[tuple[float, float]] = ()) -> None:
    """Write the names of `points` into `axes`, whose scales are set; names keep off a `line` too, given as (x, y)."""
    figure.draw_without_rendering()  # the layout decides where the axes lie
    at = [_in_points(figure, axes, point.x, point.y) for point in points]
    taken = [_around(x, y, RADIUS) for x, y in at]
    for (x0, y0), (x1, y1) in pairwise(_in_points(figure, axes, *place) for place in line):
        taken += [_around(x0 + share * (x1 - x0), y0 + share * (y1 - y0), 2.0) for share in np.linspace(0, 1, 40)]
    right_edge = axes.bbox.x1 * 72 / figure.dpi
    for place, point in sorted(zip(at, points, strict=True), key=lambda pair: -pair[0][0]):
        if not point.name:
            continue
        own = _around(*place, RADIUS)
        others = [box for box in taken if box != own]
        boxes = [_text_box(*place, point.name, side) for side in SIDES]
        free = [i for i, box in enumerate(boxes) if box[2] <= right_edge + 4 and not _covers(box, others)]
        side = free[0] if free else 0
        _write(axes, point, SIDES[side])
        taken.append(boxes[side])


def _write(axes: Axes, point: Named, side: tuple[float, float, str]) -> None:
    dx, dy, align = side
    axes.annotate(
        point.name,
        (point.x, point.y),
        xytext=(dx, dy),
        textcoords="offset points",
        ha=align,
        va="bottom",
        color=INK,
        fontsize=FONT_SIZE,
        path_effects=HALO,
        zorder=5,
    )


def _text_box(x: float, y: float, text: str, side: tuple[float, float, str]) -> Box:
    dx, dy, align = side
    width = LETTER * FONT_SIZE * len(text)
    start = x + dx - {"left": 0.0, "right": width, "center": width / 2}[align]
    return start, y + dy, start + width, y + dy + 12


def _in_points(figure: Figure, axes: Axes, x: float, y: float) -> tuple[float, float]:
    place = axes.transData.transform((x, y)) * 72 / figure.dpi
    return float(place[0]), float(place[1])


def _around(x: float, y: float, radius: float) -> Box:
    return x - radius, y - radius, x + radius, y + radius


def _covers(box: Box, others: Iterable[Box]) -> bool:
    return any(box[0] < right and left < box[2] and box[1] < top and low < box[3] for left, low, right, top in others)
