"""The probabilities of CTC over time: labels as spikes between long stretches of blank, under the log-mel."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray

from speechattn.framing import Framing
from speechattn.plots.alignment import WIDTH, draw_mel, mel_range
from speechattn.plots.style import (
    GREY,
    INK,
    STYLE,
    as_array,
    family_legend,
    fill,
    frame_edges,
    heading,
    new_figure,
    say_empty,
)

LINE_S = 3.3
"""Longest line of the picture, in seconds."""
SHOWN = 0.01
"""Smallest probability that is drawn."""
BLANK_COLOUR = "#eef0f3"


@matplotlib.rc_context(STYLE)
def ctc_spikes(
    log_mel: ArrayLike,
    posteriors: ArrayLike,
    classes: Sequence[str],
    framing: Framing,
    stack: int = 1,
    title: str = "",
    flavor: str = "kaldi",
) -> Figure:
    """Draw the log-mel [T, F] over seconds, and under it the probability of each class that wins a frame.

    `posteriors` is [T // stack, C], class 0 the blank, which is a grey area. A label is named over its highest frame.
    """
    mel, array = as_array(log_mel, "T, F"), as_array(posteriors, "T, C")
    edges = frame_edges(framing, len(mel))
    figure_lines = max(1, int(np.ceil((edges[-1] - edges[0]) / LINE_S)))
    span = (edges[-1] - edges[0]) / figure_lines if len(mel) else 1.0
    figure = new_figure(WIDTH, 2.7 * figure_lines + 1.3)
    grid = figure.subplots(2 * figure_lines, 1, squeeze=False, height_ratios=[1.0, 1.15] * figure_lines)[:, 0]
    if not len(array):
        for axes in grid:
            say_empty(axes, "no frames")
        return figure
    centers = _centers(edges, len(array), stack)
    for line in range(figure_lines):
        limits = (float(edges[0]) + line * span, float(edges[0]) + (line + 1) * span)
        draw_mel(grid[2 * line], mel, edges, limits, mel_range(mel), framing, flavor)
        _draw_spikes(grid[2 * line + 1], array, centers, classes, limits)
        for axes in grid[2 * line : 2 * line + 2]:
            axes.set_xlim(*limits)
    grid[-1].set_xlabel("seconds")
    hop_ms = framing.hop_ms * stack
    heading(figure, title or "CTC", f"probability of each label in frames of {hop_ms:g} ms")
    patch = Patch(facecolor=BLANK_COLOUR, label="blank")
    family_legend(figure, [classes[label] for label, _ in best_runs(array)], [patch])
    return figure


def best_runs(posteriors: ArrayLike) -> list[tuple[int, int]]:
    """Return (class, frame of its highest probability) of each run of frames that a label wins.

    Examples:
        >>> best_runs([[0.9, 0.1, 0.0], [0.3, 0.6, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7]])
        [(1, 2), (2, 3)]
    """
    array = as_array(posteriors, "T, C")
    best = array.argmax(1)
    starts = np.flatnonzero(np.diff(best, prepend=-1))
    found = []
    for start, stop in zip(starts, [*starts[1:], len(best)], strict=True):
        label = int(best[start])
        if label:
            found.append((label, int(start + array[start:stop, label].argmax())))
    return found


def _centers(edges: NDArray[np.float64], num_frames: int, stack: int) -> NDArray[np.float64]:
    """Return the seconds [T] at the middle of each output frame."""
    return (edges[: num_frames * stack : stack] + edges[stack::stack][:num_frames]) / 2


def _draw_spikes(
    axes: Axes,
    array: NDArray[np.float64],
    centers: NDArray[np.float64],
    classes: Sequence[str],
    limits: tuple[float, float],
) -> None:
    """Draw the blank and each label that wins a frame as areas in the colour of their family, named at the peak."""
    axes.fill_between(centers, array[:, 0], color=BLANK_COLOUR, linewidth=0)
    runs = best_runs(array)
    for label in dict.fromkeys(label for label, _ in runs):
        shown = array[:, label] > SHOWN
        shown = shown | np.roll(shown, 1) | np.roll(shown, -1)  # down to the foot of each spike
        height = np.where(shown, array[:, label], np.nan)
        axes.fill_between(centers, height, color=fill(classes[label]), linewidth=0, alpha=0.9)
        axes.plot(centers, height, color=INK, linewidth=0.7)
    for label, frame in runs:
        if limits[0] <= centers[frame] < limits[1]:
            axes.text(
                centers[frame],
                min(1.0, array[frame, label]) + 0.05,
                classes[label],
                ha="center",
                fontsize=8.5,
                color=INK,
            )
    axes.set(ylim=(0, 1.25), yticks=(0, 0.5, 1))
    axes.tick_params(labelsize=8, colors=GREY)
