"""How far the heads of each layer look, by the class of the frame that looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from speechattn.plots.style import FAMILIES, GREY, INK, LINES, PALE, STYLE, heading, new_figure, say_empty

WIDTH = 7.6


class LayerDistances(NamedTuple):
    """One layer: of each group of queries, a number for every head.

    `distance_ms` is the mean distance of a key without its sign, `frames` over how many frames a head spreads.
    """

    name: str
    distance_ms: Mapping[str, Sequence[float]]
    frames: Mapping[str, Sequence[float]]


@matplotlib.rc_context(STYLE)
def head_distances(layers: Sequence[LayerDistances], title: str = "How far the heads look", note: str = "") -> Figure:
    """Draw the mean over the heads of distance and spread of each layer and group of queries.

    Groups are families of phones in their colours, or others in the colours of lines; within a layer each has a height
    of its own. The axes begin where the dots do.
    """
    groups = list(dict.fromkeys(name for layer in layers for name in layer.distance_ms))
    figure = new_figure(WIDTH, (0.14 * len(groups) + 0.2) * len(layers) + 1.75)
    heading(figure, title, note)
    if not groups:
        say_empty(figure.subplots(), "no classes")
        return figure
    colours = {name: FAMILIES.get(name, LINES[at % len(LINES)]) for at, name in enumerate(groups)}
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, [layer.distance_ms for layer in layers], colours, "mean distance of a key, ms")
    _draw(right, [layer.frames for layer in layers], colours, "frames that share the weight")
    left.set_yticks(range(len(layers)), [layer.name for layer in layers])
    left.set_ylim(len(layers) - 0.5, -0.5)
    handles = [
        Line2D([], [], marker="o", linestyle="", markersize=8, color=colour, markeredgecolor=INK, label=name)
        for name, colour in colours.items()
    ]
    for handle in handles:
        handle.set_markeredgewidth(0.6)
    columns = min(len(handles), 4)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=9, handletextpad=0.2)
    return figure


def _draw(axes: Axes, layers: Sequence[Mapping[str, Sequence[float]]], colours: Mapping[str, str], label: str) -> None:
    """Draw a dot for each layer and group, and a band behind every other layer."""
    heights = dict(zip(colours, np.linspace(-0.36, 0.36, len(colours)) if len(colours) > 1 else [0.0], strict=True))
    for row, values in enumerate(layers):
        if row % 2 == 0:
            axes.axhspan(row - 0.5, row + 0.5, color=PALE, alpha=0.35, linewidth=0)
        for name, numbers in values.items():
            at = (float(np.mean(numbers)), row + heights[name])
            axes.plot(*at, "o", markersize=8, color=colours[name], markeredgecolor=INK, markeredgewidth=0.6)
    axes.margins(x=0.08)
    axes.set_xlabel(label, fontsize=9.5)
    axes.grid(axis="x")
    axes.tick_params(length=0, labelsize=9, labelcolor=GREY)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.spines[["left", "bottom"]].set_visible(False)
