"""The latency after each layer, as bars at the heights of the receptive field."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from speechattn.context import Context
from speechattn.plots.context_band import FUTURE, caption, duration, unit_of
from speechattn.plots.receptive_field import half_height
from speechattn.plots.style import GREY, INK
from speechattn.receptive_field import latency_frames

FRONTEND, FRONTEND_INK = "#ddcc77", "#8a7d1e"


def draw_latency(
    axes: Axes, contexts: Sequence[Context], hop_ms: float, frontend_ms: float, labelled: Sequence[int]
) -> None:
    """Draw minimum, mean and maximum latency of the frames of each level, the frontend's share first.

    The depths `labelled` also get numbers.
    """
    waited = [latency_frames(contexts[:depth]) for depth in range(len(contexts) + 1)]
    waits_ms = [None if frames is None else [frontend_ms + count * hop_ms for count in frames] for frames in waited]
    longest = max(wait[2] for wait in waits_ms if wait is not None)
    unit, unit_ms = unit_of(longest)
    right = 1.04 * longest / unit_ms or 1.0
    axes.axvspan(0, frontend_ms / unit_ms, color=FRONTEND, alpha=0.6, linewidth=0)
    for depth, wait in enumerate(waits_ms):
        ends, alpha = ((0.0, right), 0.2) if wait is None else ((wait[0] / unit_ms, wait[2] / unit_ms), 0.5)
        half = half_height(len(waits_ms))
        axes.fill_between(ends, depth - half, depth + half, color=FUTURE, alpha=alpha, linewidth=0)
    means = [(wait[1] / unit_ms, depth) for depth, wait in enumerate(waits_ms) if wait is not None]
    axes.plot(*zip(*means, strict=True), "-o", color=INK, markersize=4, linewidth=0.8, clip_on=False)
    for depth in labelled:
        wait = waits_ms[depth]
        _write_wait(axes, depth, None if wait is None else [ms / unit_ms for ms in wait], bold=depth == len(contexts))
    if frontend_ms:
        words = f" frontend {duration(frontend_ms)}"
        axes.text(frontend_ms / unit_ms, -0.4, words, va="center", fontsize=8, color=FRONTEND_INK)
    caption(axes, "Latency after each layer", [("minimum /", GREY), ("mean", INK), ("/ maximum of its frames", GREY)])
    axes.set(xlim=(0, right), xlabel=unit)
    if not longest:
        axes.set_xticks([0])
    axes.tick_params(axis="y", length=0, labelleft=False)


def _write_wait(axes: Axes, depth: int, wait: Sequence[float] | None, bold: bool) -> None:
    """Write the numbers of a level to the right of the axes, or that it has no limit."""
    place = axes.get_yaxis_transform()
    words = "unlimited" if wait is None else format_range(wait)
    weight = "bold" if bold else "normal"
    axes.text(1.03, depth, words, transform=place, va="center", fontsize=8.5, fontweight=weight)
    if wait is None:
        words = "until the end of the audio"
        axes.text(0.5, depth, words, transform=place, ha="center", va="center", fontsize=8)


def format_range(wait: Sequence[float]) -> str:
    """Format minimum, mean and maximum, or one number if they are equal.

    Examples:
        >>> format_range([80, 155.0, 1230]), format_range([40, 40.0, 40])
        ('80 / 155 / 1,230', '40')
    """
    return " / ".join(f"{round(value, 2):,.10g}" for value in (wait if wait[0] != wait[2] else wait[:1]))
