"""The attention of each head over time, a strip per head under the log-mel.

The window is computed from `Context`, the weights [H, T, window] come from a layer: the figure shows both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray

from speechattn.context import Context
from speechattn.framing import Framing
from speechattn.plots.alignment import WIDTH, draw_lane, draw_mel, mel_range
from speechattn.plots.disagreement import Labelled
from speechattn.plots.style import (
    GREY,
    HEAT,
    INK,
    PALE,
    STYLE,
    as_array,
    frame_edges,
    heading,
    new_figure,
    say_empty,
)

MIN_TICK_SHARE = 0.15
"""Least distance of a tick from that of 0, as a share of a strip's height: nearer ones would overlap."""


@matplotlib.rc_context(STYLE)
def attention_heads(
    weights: ArrayLike,
    context: Context,
    log_mel: ArrayLike,
    framing: Framing,
    reference: Sequence[Labelled] = (),
    title: str = "Attention",
    outside: float | None = None,
    flavor: str = "kaldi",
    width: float = WIDTH,
    notes: Sequence[str] = (),
) -> Figure:
    """Draw the attention of each head over time: a strip per head, under the log-mel and its labels.

    The x axis is time, the y axis *key minus query*, the time of the key that is looked at minus that of the frame
    that looks: 0 is the frame itself, upwards is ahead, downwards is back. Keys that a frame may not attend to are
    grey: before the start of the audio, after its end, outside the window. The profile on the right is the mean over
    time, and its title its maximum: "0.43 at 0 ms" is a head whose mean weight on the frame itself, 0.43, is its
    largest. Brightness is the square root of the weight, so that weak attention is visible, on one scale for all heads.

    `weights` is [H, T, window] as `attention_weights` returns it, `log_mel` [n, F] the frames of the same audio, of
    which T groups went into the layer. `outside`, if given, is shown as the `mass_outside` of the layer. `width` is
    that of the figure in inches; `notes`, one a head, are written beside the names of the heads.
    """
    array, mel = as_array(weights, "H, T, window"), as_array(log_mel, "T, F")
    num_heads, num_frames = array.shape[:2]
    height = min(1.1, max(0.5, 8.8 / max(1, num_heads)))
    figure = new_figure(width, 2.6 + num_heads * height)
    line = [] if outside is None else [f"mass outside the window: {outside:.2g}"]
    line += [f"window: {context}", "right: mean over time, and its maximum"]
    heading(figure, title, "     ".join(line), alarm=outside not in (None, 0))
    if not array.size or not mel.size:
        say_empty(figure.subplots(), "no frames")
        return figure
    ratios = [1.3, 0.22, *[height] * num_heads]
    beside = 1.5 / width  # room for the title of a profile
    grid = figure.subplots(num_heads + 2, 2, squeeze=False, height_ratios=ratios, width_ratios=[1, beside])
    edges = frame_edges(framing, len(mel))
    _draw_audio(grid[:2], mel, edges, reference, framing, flavor)
    rows, strips, label = _by_distance(array, context, framing.hop_ms * (stack := max(1, len(mel) // num_frames)))
    whole = label.endswith("seconds")
    ends = (rows[:2].mean(), rows[-2:].mean())
    ticks = [0, math.floor(rows[-1])] if whole else sorted({float(ends[0]), 0.0, float(ends[1])})
    max_weight = _max_weight(array)
    seconds = (float(edges[0]), float(edges[min(stack * num_frames, len(mel))]))
    for head, (strip, profile) in enumerate(grid[2:]):
        heat = _draw_strip(strip, strips[head], (*seconds, float(rows[0]), float(rows[-1])), max_weight, ticks)
        _draw_profile(profile, strips[head], rows, "s" if whole else "ms")
        own = f"   {notes[head]}" if notes else ""
        strip.set_title(f"head {head + 1}{own}", fontsize=9, fontweight="normal", pad=2.5)
        strip.tick_params(axis="x", labelbottom=head + 1 == num_heads)
    for axes in grid[:, 0]:
        axes.set_xlim(max(0.0, seconds[0]), seconds[1])
    grid[-1, 0].set_xlabel("seconds")
    figure.supylabel(label, fontsize=10, color=GREY)
    bar = figure.colorbar(
        heat, ax=grid, shrink=0.6, anchor=(0, 0.1), aspect=40, pad=0.008, extend="max", label="weight"
    )
    bar.outline.set_visible(False)
    return figure


def _draw_audio(
    grid: NDArray[Any],
    mel: NDArray[np.float64],
    edges: NDArray[np.float64],
    reference: Sequence[Labelled],
    framing: Framing,
    flavor: str,
) -> None:
    """Draw the log-mel, and under it a lane of labels."""
    above, lane = grid[:, 0]
    window = (float(edges[0]), float(edges[-1]))
    draw_mel(above, mel, edges, window, mel_range(mel), framing, flavor)
    above.set_yticks(above.get_yticks()[::2], [label.get_text() for label in above.get_yticklabels()[::2]])
    draw_lane(lane, reference, window, 0.0)
    lane.set_ylim(0, 1)
    for axes in (lane, *grid[:, 1]):
        axes.axis("off")


def _by_distance(
    weights: NDArray[np.float64], context: Context, frame_ms: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Return edges of rows [R + 1], weights [H, R, T] (NaN: not visible) and the label of the axis.

    A row is a distance of the key from its query. If the window is as long as the audio, most distances would be
    empty: then a row is a key, in seconds.
    """
    num_frames, window = weights.shape[1:]
    seen = context.within(num_frames)
    queries, offsets = np.arange(num_frames), np.array(seen.offsets(), dtype=np.int64)
    starts, _ = seen.span(queries)
    assert starts is not None
    whole = window >= num_frames
    frames = queries[:, None] + 0 * queries if whole else queries + offsets[:, None]
    columns = frames - starts
    inside = (columns >= 0) & (columns < window) & (frames >= 0) & (frames < num_frames)
    found = np.where(inside, weights[:, queries, columns.clip(0, window - 1)], np.nan)
    if whole:
        return np.arange(num_frames + 1) * frame_ms / 1000, found, "key, seconds"
    return (np.append(offsets, offsets[-1] + 1) - 0.5) * frame_ms, found, "key minus query, ms"


def _max_weight(weights: NDArray[np.float64]) -> float:
    """Return the weight drawn brightest in all heads: a percentile, so that a frame with a single key is no maximum."""
    positive = weights[np.isfinite(weights) & (weights > 0)]
    return float(np.percentile(positive, 99.5)) if positive.size else 1.0


def _draw_strip(
    axes: Axes,
    weights: NDArray[np.float64],
    extent: tuple[float, float, float, float],
    max_weight: float,
    ticks: Sequence[float],
) -> AxesImage:
    """Draw the weights [R, T] of one head over seconds, with ticks on the y axis."""
    heat = axes.imshow(
        weights,
        cmap=matplotlib.colormaps[HEAT].with_extremes(bad=PALE),
        norm=PowerNorm(0.5, vmin=0, vmax=max_weight),
        interpolation="nearest",
        aspect="auto",
        origin="lower",
        extent=extent,
    )
    height = abs(extent[3] - extent[2])
    axes.set_yticks([tick for tick in ticks if tick == 0 or abs(tick) > MIN_TICK_SHARE * height])
    axes.tick_params(labelsize=8, length=2)
    axes.spines[:].set_visible(False)
    return heat


def _draw_profile(axes: Axes, weights: NDArray[np.float64], rows: NDArray[np.float64], unit: str) -> None:
    """Draw the mean weight of each row over the frames that see it, and write its maximum and where that is.

    Grey, as the colours of this figure are those of phone families.
    """
    seen = np.isfinite(weights).sum(1)
    mean = np.nansum(weights, 1) / np.maximum(seen, 1)
    axes.stairs(mean, rows, orientation="horizontal", fill=True, color=GREY, alpha=0.3, linewidth=0)
    axes.stairs(mean, rows, orientation="horizontal", baseline=None, color=INK, linewidth=1.0)
    axes.axhline(0, color=GREY, linewidth=0.6, linestyle=(0, (3, 3)))
    peak = int(np.argmax(mean))
    at = f"{(rows[peak] + rows[peak + 1]) / 2:.3g}"
    axes.set_title(f"{mean[peak]:.2f} at {at} {unit}", fontsize=8, fontweight="normal", color=INK, pad=2.5)
    axes.set(ylim=(rows[0], rows[-1]), xlim=(0, 1.08 * (mean[peak] or 1.0)), xticks=[], yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
