"""Attention weights inside the band that a Context allows, and the weight that fell outside (it must be 0).

The band is drawn from `Context.visible` alone and the weights from what a layer computed: two sources that
have to agree, so the picture is also a check.
"""

from __future__ import annotations

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray

from speechattn.context import Context
from speechattn.pictures.palette import (
    GREY,
    HEAT,
    LINES,
    OUTLINE,
    PALE,
    STYLE,
    as_array,
    heading,
    new_figure,
    say_empty,
)

MOST_FRAMES = 300
"""Queries and keys drawn, from the start: 3 s at one pixel or more for each frame."""


def mass_outside(weights: ArrayLike, context: Context) -> float:
    """Share of all attention that lies on keys outside `Context.visible`: exactly 0.0 when the window is honoured.

    `weights` is [H, T, T] or [T, T], queries in rows. Signs are dropped, so that negative weights cannot hide
    positive ones; rows of zeros (padding) count nothing; a NaN gives NaN. No weight at all gives 0.0.

    Example:
        >>> mass_outside(np.eye(3), Context.truncated(0, 0)), mass_outside(np.ones((2, 2)), Context.causal())
        (0.0, 0.25)
    """
    array = np.abs(_heads(weights))
    total = float(array.sum())
    outside = float(array[:, ~_band(context, array.shape[-1])].sum())
    return outside / total if total or math.isnan(total) else 0.0


@matplotlib.rc_context(STYLE)
def attention_band(weights: ArrayLike, context: Context, title: str = "Attention weights") -> Figure:
    """The weights of each head, queries downwards and keys to the right, with the allowed band outlined.

    `weights` is [H, T, T] or [T, T]. Colour is the square root of the weight, so that weak attention shows.
    Of a longer utterance the first 300 frames are drawn; the mass outside the band is of all of it.
    """
    array = _heads(weights)
    num_heads, num_frames = array.shape[0], array.shape[-1]
    columns = min(4, max(1, num_heads))
    rows = max(1, math.ceil(num_heads / columns))
    figure = new_figure(max(3.2 * columns + 0.7, 6.6), (3.15 if columns > 1 else 5.2) * rows + 0.9)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    shown = np.abs(array[:, :MOST_FRAMES, :MOST_FRAMES])
    heat = None
    for head, axes in enumerate(grid.flat):
        axes.set_visible(head < num_heads)
        if head < num_heads and shown.shape[1]:
            heat = _draw_head(axes, shown[head], context, _brightest(shown))
            axes.set_title(f"head {head + 1}" if num_heads > 1 else "", fontsize=10, fontweight="normal", pad=5)
    if heat is None:
        grid[0, 0].set_visible(True)
        say_empty(grid[0, 0], "no frames")
    else:
        figure.supxlabel("key frame", fontsize=10, color=GREY)
        figure.supylabel("query frame", fontsize=10, color=GREY)
        bar = figure.colorbar(heat, ax=grid, shrink=0.9, aspect=30, pad=0.012, extend="max", label="weight")
        bar.outline.set_visible(False)
    part = f", first {MOST_FRAMES} of {num_frames} frames" if num_frames > MOST_FRAMES else ""
    _heading(figure, f"{title}{part}", mass_outside(weights, context), f"outlined: {context}")
    return figure


def _brightest(weights: NDArray[np.float64]) -> float:
    """The weight drawn brightest, the same for all heads: one frame that sees a single key must not dim the rest."""
    positive = weights[np.isfinite(weights) & (weights > 0)]
    return float(np.percentile(positive, 99.5)) if positive.size else 1.0


def _draw_head(axes: Axes, weights: NDArray[np.float64], context: Context, brightest: float) -> AxesImage:
    """One head as a heat map with the outline of the band."""
    num_frames = len(weights)
    norm = PowerNorm(0.5, vmin=0, vmax=brightest)
    heat = axes.imshow(weights, cmap=HEAT, norm=norm, interpolation="nearest", extent=(0, num_frames, num_frames, 0))
    edges = np.arange(num_frames + 1)
    for side in _spans(context, num_frames):
        axes.stairs(side, edges, orientation="horizontal", baseline=None, color=OUTLINE, linewidth=1.1)
    axes.set(xlim=(0, num_frames), ylim=(num_frames, 0))
    return heat


@matplotlib.rc_context(STYLE)
def attention_profile(weights: ArrayLike, context: Context, title: str = "Where heads look") -> Figure:
    """Mean weight of each head against key minus query: how far back and ahead it really looks.

    `weights` is [H, T, T] or [T, T]. The mean at a distance is over all pairs of frames of the utterance at
    that distance; the distances that the Context allows are shaded.
    """
    array = _heads(weights)
    num_heads, num_frames = array.shape[0], array.shape[-1]
    figure = new_figure(9.5, 3.9)
    axes = figure.subplots()
    if not num_frames:
        say_empty(axes, "no frames")
        return figure
    allowed = context.offsets()
    margin = max(3, len(allowed) // 12)
    first = max(allowed[0] - margin, 1 - num_frames)
    last = min(allowed[-1] + margin, num_frames - 1)
    distances = np.arange(first, last + 1)
    for head in range(num_heads):
        profile = [float(np.diagonal(array[head], offset=int(distance)).mean()) for distance in distances]
        style = ("-", "--", ":", "-.")[head // len(LINES) % 4]
        axes.plot(distances, profile, style, color=LINES[head % len(LINES)], label=f"head {head + 1}", linewidth=1.7)
    axes.axvspan(max(allowed[0], first) - 0.5, min(allowed[-1], last) + 0.5, color=PALE, alpha=0.55, linewidth=0)
    axes.axvline(0, color=GREY, linewidth=0.8, linestyle=(0, (3, 3)))
    axes.set(xlim=(first - 0.5, last + 0.5), ylim=(0, None), xlabel="key minus query, frames", ylabel="mean weight")
    if num_heads > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), fontsize=9)
    _heading(figure, title, mass_outside(weights, context), f"shaded: {context}")
    return figure


def _heading(figure: Figure, title: str, outside: float, band: str) -> None:
    """The title and, under it, the mass outside the band, in alarm unless it is exactly 0."""
    heading(figure, title, f"mass outside the band: {outside:.2g}     {band}", alarm=outside != 0)


def _heads(weights: ArrayLike) -> NDArray[np.float64]:
    """Weights as [H, T, T] float64; [T, T] is one head."""
    array = as_array(weights, "T, T" if np.ndim(weights) == 2 else "H, T, T")
    array = array[None] if array.ndim == 2 else array
    if array.shape[-1] != array.shape[-2]:
        raise ValueError(f"expected as many keys as queries, [H, T, T], got shape {list(array.shape)}.")
    return array


def _spans(context: Context, num_frames: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First key and the key after the last one, for each query: two arrays [T]."""
    spans = np.array([context.visible(i, num_frames) for i in range(num_frames)], dtype=np.int64).reshape(-1, 2)
    return spans[:, 0], spans[:, 1]


def _band(context: Context, num_frames: int) -> NDArray[np.bool_]:
    """Bool [T, T], True where the key may be seen."""
    starts, stops = _spans(context, num_frames)
    keys = np.arange(num_frames)
    return np.asarray((keys >= starts[:, None]) & (keys < stops[:, None]))
