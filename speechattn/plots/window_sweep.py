"""What a window is worth: frame accuracy against the context that an encoder sees, and the time that it costs.

The x axis is logarithmic; encoders without limit stand behind a break at its right end. Bars are the lowest and the
highest of the seeds. Points with the same context stand side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from speechattn.plots.point_names import Named, name_points
from speechattn.plots.style import GREY, INK, LINES, STYLE, heading, new_figure, say_empty
from speechattn.system.units import format_duration

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
DODGE = (1.0, 0.9, 1.11, 0.81, 1.23, 0.73, 1.37)
"""Factors that put points with the same context side by side."""


class Mark(NamedTuple):
    """One encoder: mean, lowest and highest accuracy of its seeds, and the seconds of work for one long input.

    `context_ms` is None without limit; `named` writes the label at the point.
    """

    label: str
    family: str
    context_ms: float | None
    mean: float
    low: float
    high: float
    cost_s: float | None = None
    named: bool = False


@matplotlib.rc_context(STYLE | {"font.size": 11})
def window_sweep(marks: Sequence[Mark], title: str, note: str = "", cost_of: str = "") -> Figure:
    """Draw accuracy over context, and below it time over context if any was measured.

    Args:
        marks: the encoders; those of the family "two-sided" are joined by a line.
        title: above the figure.
        note: the grey line below it.
        cost_of: the length of the input whose time is drawn, such as "10 min".
    """
    measured = any(mark.cost_s for mark in marks)
    figure = new_figure(9.0, 7.0 if measured else 5.6)
    ratios = [3.8, 1.0] if measured else [1.0]
    panels = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)
    above, below = panels[0][0], panels[-1][0]
    heading(figure, title, note)
    if not marks:
        say_empty(above, "no runs yet")
        return figure
    widest = max((mark.context_ms for mark in marks if mark.context_ms is not None), default=1000.0)
    places = _places(marks, widest)
    _draw_accuracy(above, places)
    if measured:
        _draw_cost(below, places, cost_of)
    _scale(below, marks, widest)
    _name_points(figure, above, places)
    return figure


def _places(marks: Sequence[Mark], widest: float) -> list[tuple[Mark, float]]:
    """Return each mark with its x: its context, moved a little where an attention encoder before it has the same."""
    taken: Counter[float] = Counter()
    places = []
    for mark in sorted(marks, key=lambda mark: mark.family != "two-sided"):  # which stay in their places
        dodged = mark.family not in ("baseline", "full") and mark.context_ms is not None
        x = mark.context_ms or widest * UNLIMITED
        places.append((mark, x * DODGE[taken[x] % len(DODGE)] if dodged else x))
        taken[x] += dodged
    return places


def _draw_accuracy(axes: Axes, places: Sequence[tuple[Mark, float]]) -> None:
    curve = sorted((x, mark.mean) for mark, x in places if mark.family == "two-sided")
    if curve:
        axes.plot(*zip(*curve, strict=True), color=FAMILIES["two-sided"][0], linewidth=2.4, zorder=2)
    for family, (colour, marker, name) in FAMILIES.items():
        own = [(mark, x) for mark, x in places if mark.family == family]
        if not own:
            continue
        errors = [[mark.mean - mark.low for mark, _ in own], [mark.high - mark.mean for mark, _ in own]]
        axes.errorbar(
            [x for _, x in own],
            [mark.mean for mark, _ in own],
            yerr=errors,
            fmt=marker,
            color=colour,
            markersize=8.5,
            markerfacecolor="white" if family == "depth" else colour,
            markeredgewidth=2.0 if family == "depth" else 0.6,
            markeredgecolor=colour if family == "depth" else "white",
            elinewidth=1.6,
            capsize=3,
            zorder=3 if family == "baseline" else 4,
            label=name,
        )
    for mark, _ in places:
        if mark.family == "full":
            axes.axhline(mark.mean, color=INK, linewidth=0.9, linestyle=(0, (4, 4)), zorder=1)
    axes.set_ylabel("frame accuracy, new speakers")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f} %"))
    axes.grid(axis="y")
    markers = [container.lines[0] for container in axes.containers if isinstance(container, ErrorbarContainer)]
    names = [str(container.get_label()) for container in axes.containers]
    axes.legend(markers, names, loc="lower right", fontsize=10.5, handlelength=1.2, labelspacing=0.4)


def _name_points(figure: Figure, axes: Axes, places: Sequence[tuple[Mark, float]]) -> None:
    """Write the names of the points that have one where they cover neither points nor the line."""
    line = sorted((x, mark.mean) for mark, x in places if mark.family == "two-sided")
    points = [Named(x, mark.mean, mark.label if mark.named else "") for mark, x in places]
    name_points(figure, axes, points, line)


def _draw_cost(axes: Axes, places: Sequence[tuple[Mark, float]], cost_of: str) -> None:
    for mark, x in places:
        if mark.cost_s:
            colour, marker, _ = FAMILIES[mark.family]
            fill = "white" if mark.family == "depth" else colour
            axes.plot(x, mark.cost_s, marker, color=colour, markerfacecolor=fill, markersize=6.5)
    axes.set_yscale("log")
    axes.margins(y=0.2)
    axes.set_ylabel(f"time for\n{cost_of}" if cost_of else "time")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_duration(value)))
    axes.yaxis.set_minor_locator(NullLocator())
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
