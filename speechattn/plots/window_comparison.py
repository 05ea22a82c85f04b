"""What the same weights do with smaller windows: agreement, accuracy and divergence, from the trained window down."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from speechattn.plots.context_band import duration
from speechattn.plots.style import INK, LINES, STYLE, heading, new_figure, say_empty

WIDTH = 7.6
AGREEMENT, ACCURACY, DIVERGENCE = LINES[0], LINES[2], LINES[3]


class Window(NamedTuple):
    """One window: shares in [0, 1], divergence in bits, times in ms; None is not known, or of a time unlimited."""

    name: str
    agreement: float | None
    accuracy: float | None
    kl_bits: float | None
    latency_ms: float | None
    receptive_field_ms: float | None


@matplotlib.rc_context(STYLE)
def window_comparison(windows: Sequence[Window], title: str = "Smaller windows", note: str = "") -> Figure:
    """Draw the labels' agreement with the trained window and the reference, and the divergence of the posteriors.

    `windows[0]` is the trained one; under each stand its look-ahead and what it sees of the input.
    """
    figure = new_figure(WIDTH, 5.0)
    heading(figure, title, note)
    if not windows:
        say_empty(figure.subplots(), "no posteriors to compare")
        return figure
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.6, 1])
    at = range(len(windows))
    _draw(above, [window.agreement for window in windows], AGREEMENT, "same label as with the trained window", 100)
    if any(window.accuracy is not None for window in windows):
        _draw(above, [window.accuracy for window in windows], ACCURACY, "label of the reference", 100, above=False)
    _draw(below, [window.kl_bits for window in windows], DIVERGENCE, "", 1)
    above.set(ylim=(0, 112), ylabel="% of the frames")
    above.set_yticks([0, 25, 50, 75, 100])
    above.legend(loc="lower left", fontsize=9)
    below.set_ylim(0, 1.25 * max([0.1, *(window.kl_bits or 0.0 for window in windows)]))
    below.set_ylabel("divergence, bits")
    below.set_xlim(-0.35, len(windows) - 0.65)
    below.set_xticks(at, [_label(window) for window in windows], fontsize=8.5)
    for axes in (above, below):
        axes.grid(axis="y")
        axes.tick_params(length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
    below.tick_params(axis="x", labelcolor=INK)
    return figure


def _draw(
    axes: Axes, values: Sequence[float | None], colour: str, label: str, scale: float, above: bool = True
) -> None:
    """Draw a line with its numbers above or below its points."""
    points = [(at, scale * value) for at, value in enumerate(values) if value is not None]
    if not points:
        return
    axes.plot(
        *zip(*points, strict=True), "-o", color=colour, linewidth=2.2, markersize=6, label=label or None, clip_on=False
    )
    for at, value in points:
        text = f"{value:.1f}" if scale == 100 else f"{value:.2f}"
        axes.annotate(
            text,
            (at, value),
            (0, 6 if above else -7),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=8.5,
            color=colour,
        )


def _label(window: Window) -> str:
    waited, seen = ("no limit" if ms is None else duration(ms) for ms in (window.latency_ms, window.receptive_field_ms))
    return f"{window.name}\nwaits {waited}\nsees {seen}"
