"""The recall of each class in several runs, as the difference to the first run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from speechattn.plots.confusion import short_count
from speechattn.plots.style import (
    GREY,
    INK,
    STYLE,
    by_family,
    family_legend,
    fill,
    heading,
    most_frequent,
    new_figure,
    phone_ticks,
    say_empty,
)

Recalls = Mapping[str, Sequence[float | None]]
"""Class -> [recall, reference frames], as in the row of a result."""


@matplotlib.rc_context(STYLE)
def recall_differences(first: Recalls, others: Mapping[str, Recalls], title: str = "Recall of each class") -> Figure:
    """Draw a panel for each of `others`: its recall minus that of `first`, in points, a bar for each class.

    Classes stand in the same order in all panels: by family, and within a family by the first panel, best first. Those
    without reference in either run are left out, and of more than 48 the less frequent ones.
    """
    classes = [name for name in first if all(_known(first, other, name) for other in others.values())]
    kept, left_out = most_frequent([float(first[name][1] or 0) for name in classes])
    classes = [classes[index] for index in kept]
    figure = new_figure(min(13.0, max(6.5, 0.32 * len(classes) + 1.5)), 2.5 * max(1, len(others)) + 1.5)
    heading(
        figure,
        title,
        "     ".join(filter(None, ("points; above 0 the run is better     foot: reference frames", left_out))),
    )
    panels = figure.subplots(max(1, len(others)), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    if not classes or not others:
        say_empty(panels[0], "no classes in common")
        return figure
    differences = {name: [_points(first, other, at) for at in classes] for name, other in others.items()}
    best_first = np.argsort(-np.array(next(iter(differences.values()))), kind="stable").tolist()
    order = [best_first[index] for index in by_family([classes[index] for index in best_first])]
    names = [classes[index] for index in order]
    every = [value for values in differences.values() for value in values]
    room = 0.14 * max(2.0, max(every) - min(every))
    limits = (min(0.0, *every) - 2 * room, max(0.0, *every) + room)
    for axes, (run, values) in zip(panels, differences.items(), strict=True):
        _draw_panel(axes, run, [values[index] for index in order], names, limits)
    for at, name in enumerate(names):
        panels[-1].text(at, limits[0], short_count(int(first[name][1] or 0)), ha="center", va="bottom", fontsize=6.2)
    phone_ticks(panels[-1].xaxis, names, size=8)
    if max(map(len, names)) > 4 and len(names) > 8:
        panels[-1].tick_params(axis="x", labelrotation=90)
    family_legend(figure, names)
    return figure


def _draw_panel(
    axes: Axes, run: str, values: Sequence[float], names: Sequence[str], limits: tuple[float, float]
) -> None:
    axes.bar(range(len(names)), values, width=0.82, color=[fill(name) for name in names])
    for at, value in enumerate(values):
        side = "bottom" if value >= 0 else "top"
        shift = (0, 1.5 if value >= 0 else -1.5)
        axes.annotate(
            f"{value:+.0f}", (at, value), shift, textcoords="offset points", ha="center", va=side, fontsize=7, color=INK
        )
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_title(run, fontsize=10, fontweight="normal", pad=3)
    axes.set(xlim=(-0.6, len(names) - 0.4), ylim=limits, ylabel="points")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")


def _known(first: Recalls, other: Recalls, name: str) -> bool:
    """Return whether both have a recall of a class."""
    return name in other and all(
        pair[0] is not None and math.isfinite(pair[0]) and bool(pair[1]) for pair in (first[name], other[name])
    )


def _points(first: Recalls, other: Recalls, name: str) -> float:
    return 100 * (float(other[name][0] or 0) - float(first[name][0] or 0))
