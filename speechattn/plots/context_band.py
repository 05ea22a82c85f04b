"""The mask of one layer as a band, queries downwards and keys to the right, computed by `Context.visible`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.offsetbox import AnnotationBbox, HPacker, TextArea
from matplotlib.ticker import MaxNLocator

from speechattn.context import Context
from speechattn.plots.style import INK, LINES, PALE

PAST, OWN, FUTURE = LINES[0], INK, LINES[1]
"""Colours of the frames before a chunk, in it, and after it."""
MAX_CHUNKS = 48
"""Chunks that can still be distinguished."""
MAX_CELLS = 24
"""Frames up to which each is drawn as a cell."""
MAX_ROWS = 2000
SECONDS_MS = 10_000
"""Times from here on are written in seconds."""


def draw_band(axes: Axes, context: Context, name: str, square: bool = True) -> None:
    """Draw the mask of `context` over enough frames to show its shape, with one chunk of queries highlighted.

    With many chunks the drawing ends before the left context does; the caption still gives its length. Several masks
    above each other are not `square`: each takes the whole width.
    """
    num_frames = shown_frames(context)
    step = context.chunk * -(-num_frames // (MAX_ROWS * context.chunk))
    queries = [*range(0, num_frames, step), num_frames]
    rows = np.array([spans(context, i, num_frames) for i in queries[:-1]])
    chosen = 5 * len(rows) // 8
    for column, colour in enumerate((PAST, OWN, FUTURE)):
        left, right = (np.append(rows[:, i], rows[-1, i]) for i in (column, column + 1))
        # One frame among thousands is narrower than a pixel, so it gets a line around it.
        width = 0.8 * (column == 1)
        axes.fill_betweenx(queries, left, right, step="post", color=colour, alpha=0.28, linewidth=width)
        if left[chosen] < right[chosen]:
            top, bottom = queries[chosen : chosen + 2]
            axes.fill_betweenx([top, bottom], left[chosen], right[chosen], color=colour, linewidth=0.8)
    _draw_edges(axes, num_frames, context.chunk)
    axes.set(xlim=(0, num_frames), ylim=(num_frames, 0), box_aspect=1 if square else None, anchor="NW")
    own = "itself" if context.chunk == 1 else f"its chunk of {context.chunk}"
    before, after = ("all" if side is None else f"{side:,}" for side in (context.left, context.right))
    caption(axes, name, [(f"{before} before,", PAST), (f"{own},", OWN), (f"{after} after", FUTURE)])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(labelsize=8, length=2)
    axes.set_xlabel("key, frames", fontsize=9)
    axes.set_ylabel("query, frames", fontsize=9)


def shown_frames(context: Context) -> int:
    """Return the frames to draw: twice the window, and no more chunks than can be distinguished."""
    limited = sum(side for side in (context.left, context.right) if side is not None)
    wanted = max(12, 5 * context.chunk, 2 * (limited + context.chunk))
    if context.chunk > 1:
        wanted = min(wanted, MAX_CHUNKS * context.chunk)
    return -(-wanted // context.chunk) * context.chunk


def spans(context: Context, i: int, num_frames: int) -> tuple[int, int, int, int]:
    """Return where the past, the own chunk and the future of frame `i` begin, and where the future ends.

    Examples:
        >>> spans(Context.chunked(4, left=3, right=2), i=5, num_frames=12)
        (1, 4, 8, 10)
    """
    start, stop = context.visible(i, num_frames)
    own_start, own_stop = Context.chunked(context.chunk, left=0).visible(i, num_frames)
    assert stop is not None and own_stop is not None
    return start, own_start, own_stop, stop


def _draw_edges(axes: Axes, num_frames: int, chunk: int) -> None:
    """Draw lines between frames if there are few, and behind them lines between chunks."""
    cells = range(1, num_frames) if num_frames <= MAX_CELLS else ()
    chunks = range(chunk, num_frames, chunk) if chunk > 1 and num_frames <= MAX_CHUNKS * chunk else ()
    for edges, colour, order in ((cells, "white", 2), (chunks, PALE, 0)):
        for edge in edges:
            axes.axhline(edge, color=colour, linewidth=0.7, zorder=order)
            axes.axvline(edge, color=colour, linewidth=0.7, zorder=order)


def caption(axes: Axes, title: str, words: Sequence[tuple[str, str]]) -> None:
    """Write a title, and under it `words` (text, colour) in one line."""
    axes.set_title(title[:1].upper() + title[1:], fontsize=10.5, fontweight="normal", pad=22)
    parts: list[Artist] = [TextArea(text, textprops={"color": colour, "fontsize": 9}) for text, colour in words]
    line = HPacker(children=parts, align="baseline", pad=0, sep=3)
    box = AnnotationBbox(
        line, (0, 1), (0, 6), "axes fraction", "offset points", frameon=False, pad=0, box_alignment=(0, 0)
    )
    box.set_in_layout(False)
    axes.add_artist(box)


def duration(ms: float) -> str:
    """Format milliseconds: "640 ms", "23.4 s"."""
    return f"{round(ms, 1):.10g} ms" if ms < SECONDS_MS else f"{round(ms / 1000, 2):,.10g} s"


def unit_of(ms: float) -> tuple[str, float]:
    """Return the unit of an axis that is `ms` long, and the milliseconds in it."""
    return ("ms", 1.0) if ms < SECONDS_MS else ("seconds", 1000.0)
