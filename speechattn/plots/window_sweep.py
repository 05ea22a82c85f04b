"""What a window is worth: frame accuracy against the context that an encoder sees, and the memory that it costs.

The x axis is logarithmic; encoders without limit stand behind a break at its right end. Bars are the lowest and the
highest of the seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from speechattn.plots.style import GREY, INK, LINES, STYLE, heading, new_figure, say_empty
from speechattn.system.units import format_bytes

FAMILIES: dict[str, tuple[str, str, str]] = {
    "two-sided": (LINES[0], "o", "attention, as much future as past"),
    "past only": (LINES[1], "<", "attention, past only"),
    "little future": (LINES[1], "v", "attention, little future"),
    "future only": (LINES[1], ">", "attention, future only"),
    "chunks": (LINES[2], "s", "attention, chunks"),
    "depth": (LINES[4], "o", "attention, other depths"),
    "full": (INK, "o", "attention without window"),
    "baseline": (GREY, "D", "no attention"),
}
"""Colour, marker and name in the legend of each family of points, in the order of the legend."""
TICKS_MS = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000)
UNLIMITED = 2.4
"""Place of encoders without limit, as a factor behind the widest context."""
HALO = [withStroke(linewidth=3, foreground="white")]


class Mark(NamedTuple):
    """One encoder: mean, lowest and highest accuracy of its seeds, and the memory in bytes of one long input.

    `context_ms` is None without limit; `named` writes the label at the point.
    """

    label: str
    family: str
    context_ms: float | None
    mean: float
    low: float
    high: float
    memory_bytes: float | None = None
    named: bool = False


@matplotlib.rc_context(STYLE | {"font.size": 11})
def window_sweep(marks: Sequence[Mark], title: str, note: str = "", memory_of: str = "") -> Figure:
    """Draw accuracy over context, and below it memory over context if any was measured.

    Args:
        marks: the encoders; those of the family "two-sided" are joined by a line.
        title: above the figure.
        note: the grey line below it.
        memory_of: the length of the input whose memory is drawn, such as "10 min".
    """
    measured = any(mark.memory_bytes for mark in marks)
    figure = new_figure(9.0, 7.0 if measured else 5.4)
    ratios = [3.6, 1.0] if measured else [1.0]
    panels = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)
    above = panels[0][0]
    widest = max((mark.context_ms for mark in marks if mark.context_ms is not None), default=1000.0)
    _draw_accuracy(above, marks, widest * UNLIMITED)
    if measured:
        _draw_memory(panels[1][0], marks, widest * UNLIMITED, memory_of)
    if not marks:
        say_empty(above, "no runs yet")
    else:
        _scale(panels[-1][0], marks, widest)
    heading(figure, title, note)
    return figure


def _draw_accuracy(axes: Axes, marks: Sequence[Mark], unlimited: float) -> None:
    curve = sorted((mark.context_ms, mark.mean) for mark in marks if mark.family == "two-sided" and mark.context_ms)
    axes.plot(*zip(*curve, strict=True) if curve else ((), ()), color=FAMILIES["two-sided"][0], linewidth=2.4, zorder=2)
    for family, (colour, marker, name) in FAMILIES.items():
        own = [mark for mark in marks if mark.family == family]
        if not own:
            continue
        x = [mark.context_ms or unlimited for mark in own]
        errors = [[mark.mean - mark.low for mark in own], [mark.high - mark.mean for mark in own]]
        axes.errorbar(
            x,
            [mark.mean for mark in own],
            yerr=errors,
            fmt=marker,
            color=colour,
            markersize=8,
            markerfacecolor="white" if family == "depth" else colour,
            markeredgewidth=1.8 if family == "depth" else 0.5,
            markeredgecolor=colour if family == "depth" else "white",
            elinewidth=1.4,
            capsize=3,
            zorder=4 if family != "baseline" else 3,
            label=name,
        )
    for mark in marks:
        if mark.family == "full":
            axes.axhline(mark.mean, color=INK, linewidth=0.9, linestyle=(0, (4, 4)), zorder=1)
        if mark.named:
            _name(axes, mark, mark.context_ms or unlimited, unlimited)
    axes.set_ylabel("frame accuracy, new speakers")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.grid(axis="y")
    axes.legend(loc="lower right", fontsize=10, handlelength=1.2, labelspacing=0.35)


def _name(axes: Axes, mark: Mark, x: float, unlimited: float) -> None:
    """Write the name of a point at its right, of the points at the right end at their left."""
    last = x >= unlimited
    axes.annotate(
        mark.label,
        (x, mark.mean),
        xytext=(-9 if last else 9, 0),
        textcoords="offset points",
        ha="right" if last else "left",
        va="center",
        color=INK,
        fontsize=10.5,
        path_effects=HALO,
        zorder=5,
    )


def _draw_memory(axes: Axes, marks: Sequence[Mark], unlimited: float, memory_of: str) -> None:
    for mark in marks:
        if mark.memory_bytes:
            colour, marker, _ = FAMILIES[mark.family]
            fill = "white" if mark.family == "depth" else colour
            x = mark.context_ms or unlimited
            axes.plot(x, mark.memory_bytes, marker, color=colour, markerfacecolor=fill, markersize=6.5)
    axes.set_yscale("log")
    axes.set_ylabel(f"memory\nof {memory_of}" if memory_of else "memory")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_bytes(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y")


def _scale(axes: Axes, marks: Sequence[Mark], widest: float) -> None:
    """Set the shared x axis: ms on a logarithmic scale, and a last tick for encoders without limit."""
    limited = [mark.context_ms for mark in marks if mark.context_ms is not None]
    unlimited = any(mark.context_ms is None for mark in marks)
    least = min(limited, default=widest)
    axes.set_xscale("log")
    axes.set_xlim(least / 1.25, widest * (UNLIMITED * 1.3 if unlimited else 1.3))
    ticks = [tick for tick in TICKS_MS if least / 1.2 <= tick <= widest * 1.2]
    names = {float(tick): f"{tick} ms" if tick < 1000 else f"{tick / 1000:g} s" for tick in ticks}
    if unlimited:
        names[widest * UNLIMITED] = "no limit"
        axes.text(
            widest * UNLIMITED**0.5, 0, "//", transform=axes.get_xaxis_transform(), ha="center", va="center", color=GREY
        )
    axes.xaxis.set_major_locator(FixedLocator(list(names)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: names.get(value, "")))
    axes.set_xlabel("speech that one output frame sees, through all layers")
