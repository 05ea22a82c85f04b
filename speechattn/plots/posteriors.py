"""The probability of every class over time, with the reference outlined."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike

from speechattn.framing import Framing
from speechattn.plots.alignment import WIDTH
from speechattn.plots.disagreement import Labelled
from speechattn.plots.style import (
    HEAT,
    OUTLINE,
    STYLE,
    as_array,
    by_family,
    frame_edges,
    heading,
    most_frequent,
    new_figure,
    phone_ticks,
    say_empty,
)


@matplotlib.rc_context(STYLE)
def posteriors(
    posteriors: ArrayLike,
    classes: Sequence[str],
    framing: Framing,
    reference: Sequence[Labelled] = (),
    seconds: float | None = 5.0,
    title: str = "Posteriors",
) -> Figure:
    """Draw the probability of every class over seconds, with the reference outlined.

    `posteriors` is [T, C] in [0, 1]. The first `seconds` are drawn (None: all of them). Classes are sorted by family,
    and of more than 48 only the most probable are drawn. Colour is the square root of the probability, so that second
    choices are visible.
    """
    array = as_array(posteriors, "T, C")
    if array.shape[1] != len(classes):
        raise ValueError(f"posteriors have {array.shape[1]} classes and there are {len(classes)} class names.")
    edges = frame_edges(framing, len(array))
    end = float(edges[-1]) if seconds is None else min(seconds, float(edges[-1]))
    shown = int(np.searchsorted(edges, end))
    kept, left_out = most_frequent(array[:shown].sum(0))
    order = [kept[index] for index in by_family([classes[index] for index in kept])]
    names = [classes[index] for index in order]
    figure = new_figure(WIDTH, max(0.165 * len(names), 0.7) + 1.6)
    axes = figure.subplots()
    if not len(array):
        say_empty(axes, "no frames")
        return figure
    heat = axes.pcolormesh(
        edges[: shown + 1],
        np.arange(len(names) + 1) - 0.5,
        np.sqrt(np.clip(array[:shown, order].T, 0, 1)),
        cmap=HEAT,
        vmin=0,
        vmax=1,
        rasterized=True,
    )
    _outline(axes, names, reference)
    axes.set(xlim=(max(0.0, float(edges[0])), end), ylim=(len(names) - 0.5, -0.5), xlabel="seconds")
    axes.spines[:].set_visible(False)
    phone_ticks(axes.yaxis, names)
    bar = figure.colorbar(
        heat, ax=axes, aspect=40, pad=0.01, ticks=np.sqrt([0, 0.1, 0.25, 0.5, 1]), label="probability"
    )
    bar.ax.set_yticklabels(["0", "0.1", "0.25", "0.5", "1"])
    bar.outline.set_visible(False)
    part = f"first {end:.1f} of {edges[-1]:.1f} s" if end < edges[-1] else ""
    heading(figure, title, "     ".join(filter(None, (part, "outlined: the reference", left_out))))
    return figure


def _outline(axes: Axes, names: Sequence[str], reference: Sequence[Labelled]) -> None:
    """Draw a box around each reference segment, in the row of its label; a label that is no class has no row."""
    rows = {name: row for row, name in enumerate(names)}
    for segment in reference:
        if segment.label in rows:
            corner, width = (segment.start_s, rows[segment.label] - 0.5), segment.stop_s - segment.start_s
            axes.add_patch(Rectangle(corner, width, 1.0, facecolor="none", edgecolor=OUTLINE, linewidth=1.1))
