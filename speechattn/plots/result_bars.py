"""Scores of several encoders or runs as bars, with intervals where they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from speechattn.plots.style import GREY, INK, LINES, PALE, STYLE, heading, new_figure, say_empty

COLOURS = (LINES[0], "#b3c6dd", "#d8dee7")
"""Fills of the first, second and third score of a row: the main one is dark."""


@matplotlib.rc_context(STYLE)
def result_bars(
    names: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    title: str,
    intervals: Sequence[tuple[float, float] | None] = (),
    note: str = "",
) -> Figure:
    """Draw a group of horizontal bars for each of `names`, from top to bottom in their order.

    Args:
        names: of the encoders or runs.
        series: title of a score -> its value for each name; None has no bar. The first is the main one.
        title: of the figure.
        intervals: (low, high) of the main score of each name, drawn as a line; None has none.
        note: under the title.
    """
    count = max(1, len(series))
    figure = new_figure(9.5, (0.3 + 0.17 * count) * max(1, len(names)) + 1.5)
    axes = figure.subplots()
    heading(figure, title, note)
    if not names or not series:
        say_empty(axes, "no results")
        return figure
    height = 0.78 / count
    longest = 0.1
    for place, (label, values) in enumerate(series.items()):
        at = np.arange(len(names)) + (place - (count - 1) / 2) * height
        axes.barh(at, [value or 0.0 for value in values], 0.94 * height, color=COLOURS[place % 3], label=label)
        for row, value in enumerate(values):
            if value is None:
                continue
            end = value
            interval = intervals[row] if place == 0 and row < len(intervals) else None
            if interval is not None:
                axes.plot(interval, [at[row]] * 2, color=INK, linewidth=1.4, solid_capstyle="butt")
                end = max(value, interval[1])
            axes.annotate(
                f"{value:.3f}", (end, at[row]), (4, 0), textcoords="offset points", va="center", fontsize=8.5, color=INK
            )
            longest = max(longest, end)
    axes.set_yticks(range(len(names)), list(names))
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=10)
    axes.tick_params(axis="x", labelcolor=GREY)
    axes.set(ylim=(len(names) - 0.45, -0.55), xlim=(0, 1.09 * longest))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=PALE)
    if count > 1:
        figure.legend(loc="upper right", ncols=count, fontsize=9)
    return figure
