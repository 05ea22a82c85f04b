"""Growth of memory and time with the length of audio, both axes logarithmic.

Each encoder has a line with its name at the end; a cross marks where it ran out of memory or time. A line that rises by
one decade per decade is linear growth, by two quadratic; a horizontal line is constant.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from speechattn.plots.style import GREY, INK, LINES, STYLE, heading, new_figure, say_empty
from speechattn.system.units import format_bytes, format_duration

COLOURS = {
    "truncated": LINES[0],
    "model": LINES[0],
    "chunked": LINES[4],
    "streaming": LINES[2],
    "full": INK,
    "emformer": LINES[1],
    "conformer": LINES[3],
}
BOLD = ("truncated", "model", "streaming")
APART = 0.055
"""Smallest distance of two names, as a share of the axis."""
KINDS = ("memory", "time")
HALO = [withStroke(linewidth=2.5, foreground="white")]


class Failure(NamedTuple):
    """The first length that an encoder failed at, the reason and the limit.

    `kind` is "memory", "time" or another word; `limit` is in bytes or seconds, None if it is not known.
    """

    audio_s: float
    kind: str
    limit: float | None = None


class Line(NamedTuple):
    """The measurements of one encoder: `lengths_s` of audio, extra memory in bytes and seconds of work for each."""

    name: str
    lengths_s: Sequence[float]
    extra_bytes: Sequence[float]
    seconds: Sequence[float]
    failure: Failure | None = None


class End(NamedTuple):
    """The end of a line, and the text written there."""

    x: float
    y: float
    name: str
    text: str
    crossed: bool = False


class Limits(NamedTuple):
    """The limits of a profile: bytes of a process, bytes of the machine, seconds of a pass; None is not drawn."""

    memory_bytes: float | None = None
    machine_bytes: float | None = None
    timeout_s: float | None = None


@matplotlib.rc_context(STYLE)
def memory_growth(lines: Sequence[Line], limits: Limits, title: str, note: str = "") -> Figure:
    """Draw extra memory and seconds of work over the length of audio."""
    figure = new_figure(13.0, 5.4)
    left, right = figure.subplots(1, 2)
    ends = _panel(left, lines, "memory")
    if ends:
        _make_room(left, limits.memory_bytes, limits.machine_bytes)
        _level(left, limits.memory_bytes, f"ceiling, {format_bytes(limits.memory_bytes or 0)}", above=False)
        _level(left, limits.machine_bytes, f"this machine, {format_bytes(limits.machine_bytes or 0)}", above=True)
        _name_ends(left, ends)
    ends = _panel(right, lines, "time")
    if ends:
        _make_room(right, limits.timeout_s)
        _level(right, limits.timeout_s, f"time limit of a pass, {limits.timeout_s or 0:g} s", above=True)
        _real_time(right)
        _name_ends(right, ends)
    heading(figure, title, note)
    return figure


def _panel(axes: Axes, lines: Sequence[Line], kind: str) -> list[End]:
    """Draw one quantity over the length, with a cross where it ended a line; return the ends of the lines."""
    title = "extra memory of a pass" if kind == "memory" else "seconds of work"
    axes.set_title(title, fontsize=10.5, fontweight="normal")
    ends: list[End] = []
    for line in lines:
        values = line.extra_bytes if kind == "memory" else line.seconds
        points = [pair for pair in zip(line.lengths_s, values, strict=True) if pair[1] > 0]
        failure, why = line.failure, ""
        crossed = failure is not None and failure.kind == kind and failure.limit is not None
        if failure is not None and failure.limit is not None and crossed:
            points.append((failure.audio_s, failure.limit))
        elif failure is not None and failure.kind in KINDS:
            why = f"\nout of {failure.kind}"
        if points:
            _draw(axes, line.name, points, crossed)
            ends.append(End(*points[-1], line.name, line.name + why, crossed))
    if not ends:
        say_empty(axes, "nothing ran")
        return ends
    failed = {line.failure.audio_s for line in lines if line.failure is not None}
    _scales(axes, sorted(failed | {seconds for line in lines for seconds in line.lengths_s}), kind)
    return ends


def _draw(axes: Axes, name: str, points: Sequence[tuple[float, float]], crossed: bool) -> None:
    """Draw the line of an encoder, and a dashed one from its end to the cross."""
    colour, ours = COLOURS.get(name, GREY), name in BOLD
    ran = points[: len(points) - crossed]
    width, above = (3.4, 2) if ours else (1.5, 3)  # two equal lines are both visible
    if ran:
        axes.plot(*zip(*ran, strict=True), color=colour, linewidth=width, marker="o", markersize=4.5, zorder=above)
    if crossed:
        towards = zip(*points[-2:], strict=True)
        axes.plot(*towards, color=colour, linewidth=1.2, linestyle=(0, (3, 2)), zorder=2)
        axes.plot(*points[-1], color=colour, marker="X", markersize=9, markeredgecolor="white", zorder=5)


def _scales(axes: Axes, lengths_s: Sequence[float], kind: str) -> None:
    """Set logarithmic axes with ticks at the measured lengths; names stand to the right of them."""
    axes.set(xscale="log", yscale="log", xlabel="length of audio")
    first, last = lengths_s[0], lengths_s[-1]
    decades = math.log10(last / first) or 1.0
    axes.set_xlim(first / 10 ** (0.05 * decades), last * 10 ** (0.03 * decades))
    axes.xaxis.set_major_locator(FixedLocator(list(lengths_s)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: format_duration(seconds)))
    axes.xaxis.set_minor_locator(NullLocator())
    format_value = format_bytes if kind == "memory" else _format_work
    axes.yaxis.set_major_locator(LogLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda number, _: format_value(number)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y")


def _format_work(seconds: float) -> str:
    return f"{seconds:g} s"


def _make_room(axes: Axes, *levels: float | None) -> None:
    """Raise the top of the axis so that a limit and its text lie below it."""
    low, high = axes.get_ylim()
    highest = max([high, *(level for level in levels if level is not None)])
    room = (highest / low) ** 0.09
    axes.set_ylim(low, highest * room)


def _level(axes: Axes, value: float | None, text: str, above: bool) -> None:
    """Draw a limit as a dotted line across the panel; None draws nothing."""
    if value is None:
        return
    axes.axhline(value, color=GREY, linewidth=1.1, linestyle=(0, (1, 1.5)), zorder=1)
    axes.annotate(
        text,
        (0.01, value),
        (0, 3 if above else -3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="bottom" if above else "top",
        fontsize=8.5,
        color=GREY,
        path_effects=HALO,
    )


def _real_time(axes: Axes) -> None:
    """Draw the line where a second of audio takes a second."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    start, stop = max(left, low), min(right, high)
    if start < stop:
        axes.plot([start, stop], [start, stop], color=GREY, linewidth=1.1, linestyle=(0, (1, 1.5)), zorder=1)
        axes.annotate(
            "real time",
            (start, start),
            (2, 4),
            textcoords="offset points",
            va="bottom",
            fontsize=8.5,
            color=GREY,
            path_effects=HALO,
        )
        axes.set(xlim=(left, right), ylim=(low, high))


def _name_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write names beside the ends of lines, moved apart so that none overlap; above the lines that end early."""
    low, high = (math.log10(limit) for limit in axes.get_ylim())
    last = max(end.x for end in ends)
    late = sorted((end for end in ends if end.x == last and not end.crossed), key=lambda end: end.y)
    places = spread([(math.log10(end.y) - low) / (high - low) for end in late], APART)
    left, right = (math.log10(limit) for limit in axes.get_xlim())
    beside = max(1.02, (math.log10(last) - left) / (right - left) + 0.03)
    for end in ends:
        colour = COLOURS.get(end.name, GREY)
        style: Any = {"color": colour, "fontweight": "bold" if end.name in BOLD else "normal", "path_effects": HALO}
        if end.crossed:  # below the limit that it ran into
            side: Any = {"xytext": (0, -9), "textcoords": "offset points", "ha": "center", "va": "top"}
            axes.annotate(end.text, end[:2], fontsize=9.5, **side, **style)
            continue
        if end not in late:  # before the point, or above it where the axis begins, so that no line is under the name
            begins = (math.log10(end.x) - left) / (right - left) < 0.4
            place, align = ((0, 7), "center") if begins else ((-5, 5), "right")
            side = {"xytext": place, "textcoords": "offset points", "ha": align, "va": "bottom"}
            axes.annotate(end.text, end[:2], fontsize=9.5, **side, **style)
            continue
        axes.annotate(
            end.text,
            xy=end[:2],
            xytext=(beside, places[late.index(end)]),
            textcoords="axes fraction",
            va="center",
            fontsize=9.5,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.6, "alpha": 0.5, "shrinkB": 3},
            annotation_clip=False,
            **style,
        )


def spread(places: Sequence[float], apart: float) -> list[float]:
    """Move sorted `places` apart by at least `apart`, each group around its mean.

    Examples:
        >>> [round(place, 2) for place in spread([0.1, 0.5, 0.5, 0.9], 0.1)]
        [0.1, 0.45, 0.55, 0.9]
    """
    groups: list[list[float]] = []  # of each, where its members would put its first
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _start(groups[-2]) + apart * len(groups[-2]) > _start(groups[-1]):
            later = groups.pop()
            groups[-1] += [place - apart * len(groups[-1]) for place in later]
    return [_start(group) + apart * place for group in groups for place in range(len(group))]


def _start(group: Sequence[float]) -> float:
    return sum(group) / len(group)
