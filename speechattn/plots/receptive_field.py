"""The receptive field after each layer of a stack, as a fan that widens from layer to layer.

Level n is the output of layer n, level 0 the input itself; the output of the stack is on top. Layers are counted from
the input, as in the table of `describe`: a bar is the input that an output of that layer depends on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from speechattn.context import Context
from speechattn.plots.context_band import FUTURE, OWN, PAST, caption, duration, unit_of
from speechattn.plots.style import INK, PALE
from speechattn.receptive_field import lookback, receptive_field

Level = tuple[int | None, int | None]
"""Frames [start, stop), None for no limit."""
MAX_CELLS = 80
"""Frames up to which each is drawn as a cell."""


def levels(contexts: Sequence[Context]) -> tuple[list[Level], range]:
    """Return the input frames that one chunk of frames depends on after each layer, none first, and that chunk.

    It is the chunk of the last layer with the largest receptive field, far enough from the start of the audio for it
    to be whole.

    Examples:
        >>> levels([Context.chunked(4, left=3, right=1)] * 2)
        ([(12, 16), (9, 17), (5, 21)], range(12, 16))
    """
    period, chunk = math.lcm(*(context.chunk for context in contexts)), contexts[-1].chunk if contexts else 1
    through = [contexts[:depth] for depth in range(len(contexts) + 1)]
    past = [lookback(layers) for layers in through]
    origin = -(-max(frames or 0 for frames in past) // period) * period

    def seen(depth: int, first: int) -> Level:
        layers = through[depth]
        start, stop = receptive_field(layers, first)[0], receptive_field(layers, first + chunk - 1)[1]
        return None if past[depth] is None else start, stop

    def width(first: int) -> int:
        start, stop = seen(-1, first)
        return 0 if start is None or stop is None else stop - start

    first = max(range(origin, origin + period, chunk), key=width)
    return [seen(depth, first) for depth in range(len(through))], range(first, first + chunk)


def draw_fan(axes: Axes, contexts: Sequence[Context], hop_ms: float, labelled: Sequence[int]) -> None:
    """Draw levels as bars in the colours of past, own chunk and future, with an area from each to the next.

    The depths `labelled` get their distances as text.
    """
    found, own = levels(contexts)
    low = min(own.start, *(start for start, _ in found if start is not None))
    high = max(own.stop, *(stop for _, stop in found if stop is not None))
    endless = any(None in level for level in found)
    room = max(2, (high - low) * 4 // 11, 10 * endless)
    # Room for text beside bars that are longer than the chunk.
    left = low - room if any(start != own.start for start, _ in found) else low - room / 4
    right = high + room if any(stop != own.stop for _, stop in found) else high + room / 4
    unit, unit_ms = unit_of((high - low) * hop_ms)

    def x(*frames: float) -> list[float]:
        return [(frame - own.start) * hop_ms / unit_ms for frame in frames]

    bars = [(left if start is None else start, right if stop is None else stop) for start, stop in found]
    _draw_bars(axes, bars, own, x)
    if len(own) * 150 < right - left:  # the chunk is only some pixels wide
        middle = x(own.start + len(own) / 2) * len(found)
        axes.plot(middle, range(len(found)), "|", color=OWN, markersize=11, markeredgewidth=1.6)
    if right - left <= MAX_CELLS and not endless:
        _draw_cells(axes, x(*range(low + 1, high)), len(found))
    for depth in labelled:
        _write_distances(axes, found[depth], own, depth, x, hop_ms)
    one = len(own) == 1
    target, itself, first = (
        ("one frame", "itself,", "its frame") if one else (f"{len(own)} frames", "the chunk,", "its first frame")
    )
    words = [("input before,", PAST), (itself, OWN), ("input after", FUTURE)]
    caption(axes, f"Input that {target} depend{'s' * one} on, after each layer", words)
    axes.set(xlim=x(left, right), xlabel=f"{unit} from {first}")
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    axes.spines["left"].set_visible(False)


def half_height(num_levels: int) -> float:
    """Return half the height of a bar; levels are 1 apart, and bars are thinner if there are few."""
    return min(0.19, 0.038 * num_levels)


def _draw_bars(axes: Axes, bars: Sequence[tuple[float, float]], own: range, x: Callable[..., list[float]]) -> None:
    half = half_height(len(bars))
    for depth, (start, stop) in enumerate(bars):
        for begin, end, colour in ((start, own.start, PAST), (own.start, own.stop, OWN), (own.stop, stop, FUTURE)):
            axes.fill_between(x(begin, end), depth - half, depth + half, color=colour, linewidth=0)
        if depth:
            bottom, top = depth - 1 + half, depth - half
            axes.fill(x(*bars[depth - 1], stop, start), [bottom, bottom, top, top], color=PALE, linewidth=0)


def _draw_cells(axes: Axes, edges: Sequence[float], num_levels: int) -> None:
    """Draw white lines between frames."""
    half = half_height(num_levels)
    lines = [[(edge, depth - half), (edge, depth + half)] for edge in edges for depth in range(num_levels)]
    axes.add_collection(LineCollection(lines, colors="white", linewidths=0.8))


def _write_distances(
    axes: Axes, level: Level, own: range, depth: int, x: Callable[..., list[float]], hop_ms: float
) -> None:
    """Write how far a level extends beyond the chunk, next to both ends of its bar; inside it if there is no limit."""
    for frame, edge, side, colour in ((level[0], own.start, -1, PAST), (level[1], own.stop, 1, FUTURE)):
        if frame == edge:
            continue
        if frame is None:
            place, coordinates, towards = (0.5 + 0.5 * side, depth), axes.get_yaxis_transform(), -side
            text, colour = f"all {'before' if side < 0 else 'after'}", "white"
        else:
            place, coordinates, towards = (x(frame)[0], depth), axes.transData, side
            text = f"{abs(frame - edge):,} = {duration(abs(frame - edge) * hop_ms)}"
        words = axes.annotate(text, place, (5 * towards, 0), coordinates, "offset points", color=colour, fontsize=8)
        words.set(ha="left" if towards > 0 else "right", va="center")
