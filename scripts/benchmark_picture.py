"""The picture of benchmark_attention.py: time and memory a frame over the number of frames, both axes logarithmic.

A flat line is linear, a rising one is not; the dotted line is the floor, a window's products at the speed of one large
product. Lines are named where they end. Drawn is the first context of the rows, on one thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from speechattn.plots.style import GREY, INK, LINES, STYLE, heading, new_figure

OURS = {"auto": "speechattn", "native": "native", "banded": "speechattn, torch"}
COLOURS = {
    "auto": LINES[0],
    "native": LINES[0],
    "banded": LINES[4],
    "longformer": LINES[2],
    "local-attention": LINES[1],
    "flex": LINES[3],
    "sdpa-full": "#9ca3af",
    "sdpa-mask": "#6b7280",
    "dense": INK,
}
APART = 0.065
"""Least distance of two names, as a part of the axis."""


@matplotlib.rc_context(STYLE)
def draw(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> Figure:
    """Return a row of two panels for each pass: microseconds and kilobytes a frame."""
    alone = [row for row in rows if "ms" in row and row["threads"] == 1]
    mine = [row for row in alone if row["context"] == alone[0]["context"]] if alone else []
    passes = list(dict.fromkeys(row["name"] for row in mine))
    figure = new_figure(13.0, 0.7 + 4.4 * max(1, len(passes)))
    panels = figure.subplots(max(1, len(passes)), 2, squeeze=False)
    for (left, right), name in zip(panels, passes, strict=True):
        rest = [row for row in mine if row["name"] == name]
        time = {by: points(rest, by, lambda row: 1000 * row["ms"] / row["frames"]) for by in names(rest)}
        floor = points(rest, rest[0]["by"], lambda row: 1000 * row["floor_ms"] / row["frames"])
        memory = {by: points(rest, by, lambda row: row["kb_per_frame"] or 0) for by in names(rest)}
        panel(left, time, floor, f"{name}: time of a frame", "\N{MICRO SIGN}s")
        panel(right, memory, [], f"{name}: memory of a frame", "KB")
    context = mine[0]["context"] if mine else ""
    note = f"{about['cpu']}, one thread, float32, 4 heads of 64     dotted: the products alone"
    heading(figure, f"Attention to (before, after) = ({context.replace(',', ', ')}) frames", note)
    return figure


def names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what was measured, ours last so that it is drawn over the others; native only where there is no auto."""
    found = list(dict.fromkeys(row["by"] for row in rows))
    if "auto" in found and "native" in found:
        found.remove("native")
    return sorted(found, key=lambda by: by in OURS)


def points(
    rows: Sequence[Mapping[str, Any]], by: str, value: Callable[[Mapping[str, Any]], float]
) -> list[tuple[float, float]]:
    """Return (frames, value) in order, where there is a value that a logarithm can take."""
    mine = sorted((row for row in rows if row["by"] == by), key=lambda row: row["frames"])
    return [(row["frames"], value(row)) for row in mine if value(row) > 0]


def panel(
    axes: Axes,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    floor: Sequence[tuple[float, float]],
    title: str,
    unit: str,
) -> None:
    """Draw lines with their names at their ends."""
    drawn = {by: line for by, line in lines.items() if line}
    axes.set_title(title, fontsize=10.5, fontweight="normal")
    axes.set(xscale="log", yscale="log", xlabel="frames", ylabel=unit)
    axes.grid(axis="y")
    for by, line in drawn.items():
        ours = by in OURS
        axes.plot(
            *zip(*line, strict=True),
            color=COLOURS[by],
            linewidth=2.6 if by in ("auto", "native") else 1.8 if ours else 1.4,
            marker="o",
            markersize=5 if ours else 4,
            zorder=3 if ours else 2,
        )
    ends = [(*line[-1], OURS.get(by, by), COLOURS[by], by in ("auto", "native")) for by, line in drawn.items()]
    if floor:
        axes.plot(*zip(*floor, strict=True), color=GREY, linewidth=1.6, linestyle=(0, (1, 1.5)), zorder=1)
        ends.append((*floor[-1], "floor", GREY, False))
    ticks(axes, sorted({frames for line in [*drawn.values(), floor] for frames, _ in line}))
    label(axes, ends)


def ticks(axes: Axes, frames: Sequence[float]) -> None:
    """Mark the measured lengths on the x axis, and plain numbers on the y axis."""

    def short(number: float, _: int) -> str:
        whole = round(number / 1024)
        return f"{number:g}" if number < 1024 else f"{whole // 1024}M" if whole >= 1024 else f"{whole}k"

    axes.xaxis.set_major_locator(FixedLocator(frames))
    axes.xaxis.set_major_formatter(FuncFormatter(short))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if span(axes) < 2.6 else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: f"{number:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def span(axes: Axes) -> float:
    """Return the powers of ten that the vertical axis covers."""
    low, high = axes.get_ylim()
    return math.log10(high / low)


def label(axes: Axes, ends: Sequence[tuple[float, float, str, str, bool]]) -> None:
    """Write names at the ends (frames, value, name, colour, bold) of lines, moved so that none covers another."""
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    left, right = (math.log10(limit) for limit in axes.get_xlim())
    for last in {end[0] for end in ends}:
        order = sorted((end for end in ends if end[0] == last), key=lambda end: end[1])
        at = [(math.log10(end[1]) - low) / (high - low) for end in order]
        places: list[float] = []
        for place in at:
            places.append(max(place, places[-1] + APART) if places else place)
        shift = sum(place - true for place, true in zip(places, at, strict=True)) / len(order)
        beside = (math.log10(last) - left) / (right - left) + 0.035
        for end, place in zip(order, places, strict=True):
            axes.annotate(
                end[2],
                xy=end[:2],
                xytext=(beside, place - shift),
                textcoords="axes fraction",
                color=end[3],
                fontweight="bold" if end[4] else "normal",
                va="center",
                fontsize=9.5,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
                arrowprops={"arrowstyle": "-", "color": end[3], "lw": 0.6, "alpha": 0.5, "shrinkA": 1, "shrinkB": 3},
                annotation_clip=False,
            )
