"""The latency of the labels of a stream: the time each appeared over the time it was spoken."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from speechattn.plots.style import (
    GREY,
    LINES,
    STYLE,
    as_array,
    family_legend,
    fill,
    heading,
    new_figure,
    say_empty,
)

SHOWN_S = 3.0
"""Seconds of the staircase that have room for the names of labels, around the middle of the stream."""
LETTER_S = 0.02
"""Seconds that a letter takes there; a bar that is shorter than its label has no name."""
LETTER = 0.011
"""Width of a wide letter, as a share of the axis. A name that is nearer than half of it to another is left out."""
MAX_DOTS = 20_000


@matplotlib.rc_context(STYLE)
def arrivals(
    start_s: ArrayLike,
    stop_s: ArrayLike,
    labels: Sequence[str],
    appeared_s: ArrayLike,
    promised_ms: float | None = None,
    title: str = "",
) -> Figure:
    """Draw some seconds of labels at the time when each appeared, and beside it the latency of all of them.

    Each frame was spoken from `start_s` to `stop_s` and its label appeared at `appeared_s`, seconds on one clock. The
    latency is counted from the middle of the frame. `promised_ms` is the algorithmic latency, drawn as a line.
    """
    start, stop, appeared = (as_array(column, "T") for column in (start_s, stop_s, appeared_s))
    middle = (start + stop) / 2
    latency_ms = 1000 * (appeared - middle)
    figure = new_figure(13.0, 5.4)
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    if len(start):
        shown = np.flatnonzero(np.abs(middle - middle[len(middle) // 2]) <= SHOWN_S / 2)
        _draw_staircase(left, start[shown], stop[shown], [labels[int(i)] for i in shown], appeared[shown])
        _draw_latency(right, middle, latency_ms, promised_ms)
    else:
        say_empty(left, "no labels")
        say_empty(right, "no labels")
    heading(figure, title or "When labels appeared", _latency_note(latency_ms))
    family_legend(figure, labels)
    return figure


def _latency_note(latency_ms: NDArray[np.float64]) -> str:
    if not len(latency_ms):
        return "nothing was recognised"
    median, most = np.median(latency_ms), latency_ms.max()
    return f"{len(latency_ms):,} labels, half of them within {median:.0f} ms of being spoken, all within {most:.0f} ms"


def _draw_staircase(
    axes: Axes,
    start: NDArray[np.float64],
    stop: NDArray[np.float64],
    labels: Sequence[str],
    appeared: NDArray[np.float64],
) -> None:
    """Draw each frame as a bar from `start` to `stop` at the time it appeared, above the time it was spoken."""
    ends = [start[0], stop[-1]]
    axes.plot(ends, ends, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    low = ends[0] + 0.75 * (ends[1] - ends[0])
    axes.annotate("spoken", (low, low), (6, -4), textcoords="offset points", va="top", color=GREY)
    bars = np.stack([np.stack([start, appeared], 1), np.stack([stop, appeared], 1)], 1)
    colours = [fill(label) for label in labels]
    axes.add_collection(LineCollection(list(bars), colors=colours, linewidths=7, capstyle="butt", antialiaseds=False))
    letter = LETTER * (ends[1] - ends[0])
    edge, height = -np.inf, -np.inf  # where the last name ends, and its height
    for first, last in _runs(labels, 0, len(labels)):
        # The name is above the longest of its bars; a label that came in several blocks has several.
        begin, end = max(_runs(appeared, first, last), key=lambda run: run[1] - run[0])
        middle, half = (start[begin] + stop[end - 1]) / 2, letter * len(labels[first]) / 2
        beside = appeared[begin] - height < 2.5 * letter  # the height of a line of text
        near = beside and middle - half < edge + letter / 2
        if near or stop[end - 1] - start[begin] < LETTER_S * len(labels[first]):
            continue
        edge, height = middle + half, appeared[begin]
        axes.annotate(labels[first], (middle, height), (0, 6), textcoords="offset points", ha="center", fontsize=7.5)
    axes.set(xlim=ends, ylim=(ends[0], appeared.max() + 0.05 * (ends[1] - ends[0])))
    axes.set(xlabel="spoken at, seconds", ylabel="appeared at, seconds")
    axes.set_title("Labels", fontsize=10.5, fontweight="normal")
    axes.grid()


def _runs(values: Sequence[str] | NDArray[np.float64], first: int, last: int) -> list[tuple[int, int]]:
    """Return (start, stop) of each run of equal values in [first, last)."""
    changes = [i for i in range(first + 1, last) if values[i] != values[i - 1]]
    return list(pairwise([first, *changes, last]))


def _draw_latency(
    axes: Axes, middle: NDArray[np.float64], latency_ms: NDArray[np.float64], promised_ms: float | None
) -> None:
    """Draw the latency of every label; of too many labels every n-th, and the largest latency."""
    dots = np.unique([*range(0, len(middle), max(1, len(middle) // MAX_DOTS)), int(latency_ms.argmax())])
    axes.plot(middle[dots], latency_ms[dots], ".", markersize=2.5, color=LINES[0])
    highest = float(latency_ms.max())
    if promised_ms is not None:
        axes.axhline(promised_ms, color=LINES[1], linewidth=1.2)
        text = f"algorithmic latency, {promised_ms:.0f} ms"
        axes.annotate(
            text,
            (0, promised_ms),
            (4, -3),  # on the left: at the end of the audio labels come early, below the line
            ("axes fraction", "data"),
            "offset points",
            ha="left",
            va="top",
            color=LINES[1],
        )
        highest = max(highest, promised_ms)
    axes.set(xlabel="spoken at, seconds", ylabel="ms", ylim=(min(0.0, float(latency_ms.min())), 1.12 * highest + 1))
    axes.set_title("Latency: from the middle of a frame to its label", fontsize=10.5, fontweight="normal")
    axes.grid(axis="y")
