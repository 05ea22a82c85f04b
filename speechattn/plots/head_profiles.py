"""Where every head looks: the mean weight by distance, a panel per layer and a row per head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from speechattn.plots.style import GREY, HEAT, INK, STYLE, as_array, heading, new_figure, say_empty

WIDTH = 7.6
"""Inches: letters are still readable where the picture is shrunk to 500 pixels."""
KEPT = 0.002
"""Share of a head's weight on each side that may lie outside the drawn distances, if the window is unlimited."""
WIDE = 500
"""Columns above which the ends without weight are cut off."""


class LayerProfiles(NamedTuple):
    """The heads of one layer.

    `profiles` is [H, D], the mean weight by distance, `offsets_ms` [D] the distances, key minus query; `position` has
    the share of each head's choice that the distance explains, None for a head that chooses nothing; `notes` a few
    words of each head.
    """

    name: str
    offsets_ms: Sequence[float]
    profiles: ArrayLike
    position: Sequence[float | None]
    notes: Sequence[str]


@matplotlib.rc_context(STYLE)
def head_profiles(layers: Sequence[LayerProfiles], title: str = "Where each head looks", note: str = "") -> Figure:
    """Draw the mean weight by distance of every head, the layer next to the input on top.

    To the left of 0 a head looks back, to the right ahead. Brightness is the square root of the weight, on one scale.
    The bars on the right are the share of a head's choice of keys that their distance alone explains.
    """
    arrays = [as_array(layer.profiles, "H, D") for layer in layers]
    heights = [0.23 * len(array) + 0.42 for array in arrays] or [1.0]
    figure = new_figure(WIDTH, sum(heights) + 1.75)
    heading(figure, title, note)
    if not any(array.size for array in arrays):
        say_empty(figure.subplots(), "no heads")
        return figure
    grid = figure.subplots(len(layers), 2, squeeze=False, height_ratios=heights, width_ratios=[1, 0.3])
    brightest = max(float(array.max()) for array in arrays if array.size)
    same = all(list(layer.offsets_ms) == list(layers[0].offsets_ms) for layer in layers)
    heat: QuadMesh | None = None
    for (axes, bars), layer, array in zip(grid, layers, arrays, strict=True):
        heat = _draw_profiles(axes, layer, array, brightest)
        _draw_position(bars, layer, last=bars is grid[-1, 1])
        axes.set_title(layer.name, fontsize=9.5, fontweight="normal", pad=3)
        axes.tick_params(labelbottom=axes is grid[-1, 0] or not same)
    grid[0, 1].set_title("set by distance", fontsize=9.5, fontweight="normal", pad=3)
    grid[-1, 0].set_xlabel("key minus query, ms")
    assert heat is not None
    bar = figure.colorbar(heat, ax=grid, location="bottom", shrink=0.5, aspect=45, pad=0.015, label="mean weight")
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    return figure


def _draw_profiles(axes: Axes, layer: LayerProfiles, array: NDArray[np.float64], brightest: float) -> QuadMesh:
    first, last = _drawn(array)
    offsets = np.asarray(layer.offsets_ms, dtype=np.float64)[first:last]
    step = offsets[1] - offsets[0] if len(offsets) > 1 else 1.0
    edges = np.append(offsets, offsets[-1] + step) - step / 2
    heads = np.arange(len(array) + 1) + 0.5
    norm = PowerNorm(0.5, vmin=0, vmax=brightest)
    heat = axes.pcolormesh(edges, heads, array[:, first:last], cmap=HEAT, norm=norm, rasterized=True)
    axes.axvline(0, color="white", linewidth=0.8, linestyle=(0, (3, 3)), alpha=0.8)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(len(array) + 0.5, 0.5), yticks=range(1, len(array) + 1))
    axes.set_ylabel("head", fontsize=9)
    axes.tick_params(labelsize=8, length=2)
    axes.spines[:].set_visible(False)
    return heat


def _drawn(array: NDArray[np.float64]) -> tuple[int, int]:
    """Return the columns that are drawn: all, or of very many those that hold nearly all weight of every head."""
    count = array.shape[1]
    if count <= WIDE:
        return 0, count
    mass = np.cumsum(array, 1) / np.maximum(array.sum(1, keepdims=True), 1e-12)
    return int((mass < KEPT).sum(1).min()), int(min(count, (mass < 1 - KEPT).sum(1).max() + 1))


def _draw_position(axes: Axes, layer: LayerProfiles, last: bool) -> None:
    """Draw a bar for each head, its percentage, and its note."""
    for head, (share, note) in enumerate(zip(layer.position, layer.notes, strict=True), start=1):
        axes.barh(head, share or 0.0, height=0.66, color=GREY, alpha=0.45, linewidth=0)
        text = "no choice" if share is None else f"{share:.0%}"
        axes.text(0.03, head, text, va="center", fontsize=8, color=INK)
        axes.text(1.03, head, note, va="center", ha="left", fontsize=7.5, color=GREY, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(len(layer.position) + 0.5, 0.5), yticks=[], xticks=[0, 1] if last else [])
    if last:
        axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.tick_params(labelsize=8, length=2)
    axes.spines[["left", "bottom"]].set_visible(False)
