"""Where each head looks, frame by frame under the log-mel, and the weight that fell outside its window (must be 0).

Two sources have to agree: the window is drawn from `Context.visible` alone, the weights are what a layer computed.
Weights are drawn from their window [H, T, window]; T x T is only ever looked at to see that nothing lies elsewhere.
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
from speechattn.plots.alignment import WIDTH, draw_lane, draw_mel, levels
from speechattn.plots.disagreement import Labelled
from speechattn.plots.style import (
    GREY,
    HEAT,
    INK,
    LINES,
    PALE,
    STYLE,
    as_array,
    frame_edges,
    heading,
    new_figure,
    say_empty,
)


def mass_outside(weights: ArrayLike, context: Context) -> float:
    """Share of all attention that lies on keys outside `Context.visible`: exactly 0.0 when the window is honoured.

    `weights` is [H, T, T] or [T, T], queries in rows. Signs are dropped, so that negative weights cannot hide
    positive ones; rows of zeros (padding) count nothing; a NaN gives NaN. No weight at all gives 0.0.

    Example:
        >>> mass_outside(np.eye(3), Context.truncated(0, 0)), mass_outside(np.ones((2, 2)), Context.causal())
        (0.0, 0.25)
    """
    array = as_array(weights, "T, T" if np.ndim(weights) == 2 else "H, T, T")
    array = np.abs(array if array.ndim == 3 else array[None])
    if array.shape[-1] != array.shape[-2]:
        raise ValueError(f"expected as many keys as queries, [H, T, T], got shape {list(array.shape)}.")
    keys = np.arange(array.shape[-1])
    spans = np.array([context.visible(i, len(keys)) for i in keys.tolist()], dtype=np.int64).reshape(-1, 2)
    seen = (keys >= spans[:, :1]) & (keys < spans[:, 1:])
    total, outside = float(array.sum()), float(array[:, ~seen].sum())
    return outside / total if total or math.isnan(total) else 0.0


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
) -> Figure:
    """What each head attends to while the utterance passes: a strip per head, under the log-mel and its labels.

    Time runs to the right; upwards is how far ahead a head looks, downwards how far back. What a frame may not see,
    before the audio's start or past a window's end, is left grey. On the right stands the mean of each strip. Colour
    is the square root of the weight, so that weak attention shows, and the same for all heads.

    `weights` is [H, T, window] as `attention_weights` gives it, `log_mel` [n, F] the frames of the same audio, of
    which T groups went into the layer. `outside`, if given, is written down as `mass_outside` of the layer.
    """
    array, mel = as_array(weights, "H, T, window"), as_array(log_mel, "T, F")
    num_heads, num_frames = array.shape[:2]
    height = min(1.1, max(0.5, 8.8 / max(1, num_heads)))
    figure = new_figure(WIDTH, 2.6 + num_heads * height)
    said = [] if outside is None else [f"mass outside the window: {outside:.2g}"]
    heading(figure, title, "     ".join([*said, f"window: {context}"]), alarm=outside not in (None, 0))
    if not array.size or not mel.size:
        say_empty(figure.subplots(), "no frames")
        return figure
    ratios = [1.3, 0.22, *[height] * num_heads]
    grid = figure.subplots(num_heads + 2, 2, squeeze=False, height_ratios=ratios, width_ratios=[1, 0.085])
    edges = frame_edges(framing, len(mel))
    _draw_audio(grid[:2], mel, edges, reference, framing, flavor)
    rows, strips, label = _by_row(array, context, framing.hop_ms * (stack := max(1, len(mel) // num_frames)))
    brightest = _brightest(array)
    seconds = (float(edges[0]), float(edges[min(stack * num_frames, len(mel))]))
    for head, (strip, profile) in enumerate(grid[2:]):
        heat = _draw_strip(strip, strips[head], (*seconds, float(rows[0]), float(rows[-1])), brightest)
        _draw_profile(profile, strips[head], rows, LINES[head % len(LINES)])
        strip.set_title(f"head {head + 1}", fontsize=9, fontweight="normal", pad=2.5)
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
    """The log-mel, and under it a lane of labels."""
    above, lane = grid[:, 0]
    window = (float(edges[0]), float(edges[-1]))
    draw_mel(above, mel, edges, window, levels(mel), framing, flavor)
    above.set_yticks(above.get_yticks()[::2], [label.get_text() for label in above.get_yticklabels()[::2]])
    draw_lane(lane, reference, window, 0.0)
    lane.set_ylim(0, 1)
    for axes in (lane, *grid[:, 1]):
        axes.axis("off")


def _by_row(
    weights: NDArray[np.float64], context: Context, frame_ms: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    """Edges of rows [R + 1], weights [H, R, T], NaN where there is nothing to see, and what the rows are.

    Rows are the distances of a key from its query; the keys themselves, in seconds, where the window is no shorter
    than the audio and distances would be mostly empty.
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
    return np.append(offsets, offsets[-1] + 1) - 0.5, found, "key minus query, frames"


def _brightest(weights: NDArray[np.float64]) -> float:
    """The weight drawn brightest, the same for all heads: one frame that sees a single key must not dim the rest."""
    positive = weights[np.isfinite(weights) & (weights > 0)]
    return float(np.percentile(positive, 99.5)) if positive.size else 1.0


def _draw_strip(
    axes: Axes, weights: NDArray[np.float64], extent: tuple[float, float, float, float], brightest: float
) -> AxesImage:
    """One head: weights [R, T] over seconds."""
    heat = axes.imshow(
        weights,
        cmap=matplotlib.colormaps[HEAT].with_extremes(bad=PALE),
        norm=PowerNorm(0.5, vmin=0, vmax=brightest),
        interpolation="nearest",
        aspect="auto",
        origin="lower",
        extent=extent,
    )
    first, last = extent[2:]
    axes.set_yticks(sorted({math.ceil(first), 0, math.floor(last)}))
    axes.tick_params(labelsize=8, length=2)
    axes.spines[:].set_visible(False)
    return heat


def _draw_profile(axes: Axes, weights: NDArray[np.float64], rows: NDArray[np.float64], colour: str) -> None:
    """The mean weight of each row, over the frames that see it, as large as fits, and where it is highest."""
    seen = np.isfinite(weights).sum(1)
    mean = np.nansum(weights, 1) / np.maximum(seen, 1)
    axes.stairs(mean, rows, orientation="horizontal", fill=True, color=colour, alpha=0.3, linewidth=0)
    axes.stairs(mean, rows, orientation="horizontal", baseline=None, color=colour, linewidth=1.2)
    axes.axhline(0, color=GREY, linewidth=0.6, linestyle=(0, (3, 3)))
    peak = int(np.argmax(mean))
    at = f"{(rows[peak] + rows[peak + 1]) / 2:.3g}"
    axes.set_title(f"{mean[peak]:.2f} at {at}", fontsize=8, fontweight="normal", color=INK, pad=2.5)
    axes.set(ylim=(rows[0], rows[-1]), xlim=(0, 1.08 * (mean[peak] or 1.0)), xticks=[], yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
