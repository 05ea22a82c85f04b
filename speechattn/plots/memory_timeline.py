"""The memory of one pass over time: live bytes of each part of the encoder, and their peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from speechattn.plots.style import GREY, INK, LINES, STYLE, heading, new_figure, say_empty
from speechattn.system.units import format_bytes

MAX_PARTS = len(LINES) - 1
REST = "the rest"
NAMES = {"blocks": "sums of the blocks", "encoder": "encoder itself", "outside": "outside the encoder"}
"""What is drawn for parts that are no layer: tensors made by a block itself are its residual sums."""
ELSEWHERE = 2.0
"""A part that is so many times larger at another moment than at the peak is written with both sizes."""
APART = 0.062
"""Distance of two lines of text, as a share of the axis."""


@matplotlib.rc_context(STYLE)
def memory_alive(
    parts: Mapping[str, Sequence[int]],
    seconds: float,
    peak: int,
    turn: int | None = None,
    title: str = "Memory of a pass",
    note: str = "",
) -> Figure:
    """Draw the live bytes of each part [points] over `seconds` as stacked areas, the largest at the peak lowest.

    The parts that are large at any moment are drawn, and the sum of the others.

    `peak` is the index of the peak, whose bytes are written on the right; `turn` is where the backward pass begins.
    """
    figure = new_figure(13.0, 5.2)
    heading(figure, title, note)
    axes = figure.subplots()
    if not any(len(sizes) for sizes in parts.values()):
        say_empty(axes, "no tensors")
        return figure
    drawn = _largest(parts, peak)
    tops = np.cumsum([sizes for _, sizes in drawn], axis=0) / 1e6
    bottoms = np.concatenate([np.zeros_like(tops[:1]), tops[:-1]])
    edges = np.linspace(0, seconds, tops.shape[1] + 1)
    for bottom, top, colour in zip(bottoms, tops, LINES, strict=False):
        low, high = (np.append(height, height[-1]) for height in (bottom, top))
        axes.fill_between(edges, low, high, step="post", color=colour, alpha=0.8, linewidth=0)
    highest = float(tops[-1].max())
    axes.set(xlim=(0, edges[-1]), ylim=(0, 1.16 * highest), ylabel="MB")
    axes.set_xlabel("seconds; counting slows the pass down")
    if turn is not None:
        _mark_turn(axes, edges[turn])
    axes.plot([edges[peak], edges[-1]], [tops[-1, peak]] * 2, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.plot([edges[peak]], [tops[-1, peak]], "o", color=INK, markersize=6, clip_on=False, zorder=4)
    _write_peak(axes, drawn, peak)
    return figure


def _largest(parts: Mapping[str, Sequence[int]], peak: int) -> list[tuple[str, NDArray[np.int64]]]:
    """Return the parts that are largest at any moment, in the order of the peak, and the sum of the others."""
    by_size = sorted(parts.items(), key=lambda part: (-max(part[1]), -part[1][peak]))
    kept = sorted(by_size[:MAX_PARTS], key=lambda part: (-part[1][peak], -max(part[1])))
    shown = [(NAMES.get(name, name), np.asarray(sizes)) for name, sizes in kept]
    others = [sizes for _, sizes in by_size[MAX_PARTS:]]
    return [*shown, (REST, np.sum(others, axis=0))] if others else shown


def _mark_turn(axes: Axes, turn: float) -> None:
    axes.axvline(turn, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    for words, side, aligned in (("forward", -1, "right"), ("backward", 1, "left")):
        place: Any = ("data", "axes fraction")
        text = axes.annotate(words, (turn, 1), (6 * side, -4), place, "offset points", color=GREY)
        text.set(ha=aligned, va="top")


def _write_peak(axes: Axes, drawn: Sequence[tuple[str, NDArray[np.int64]]], peak: int) -> None:
    """Write the live bytes at the peak beside the axes, in the order and colours of the areas."""
    whole = sum(int(sizes[peak]) for _, sizes in drawn)
    words = [(f"{format_bytes(whole)} at the peak", INK, "bold")]
    for (name, sizes), colour in reversed(list(zip(drawn, LINES, strict=False))):
        words.append((f"{name}  {_size(sizes, peak)}", colour, "normal"))
    for number, (text, colour, weight) in enumerate(words):
        height = 0.86 - number * APART
        axes.text(1.012, height, text, transform=axes.transAxes, color=colour, fontweight=weight, va="center")


def _size(sizes: NDArray[np.int64], peak: int) -> str:
    """Return the bytes of a part at the peak, and its own maximum where that is another."""
    now, most = int(sizes[peak]), int(sizes.max())
    if most > ELSEWHERE * now:
        return f"{format_bytes(now) if now >= most / 100 else '0'}, once {format_bytes(most)}"
    return format_bytes(now)
