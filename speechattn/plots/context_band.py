"""Who sees whom in one layer: the band of a context, queries downwards and keys to the right.

Drawn from `Context.visible` alone, in the colours that the whole picture of a stack has.
"""

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
"""What lies before the frames of a chunk, these frames themselves, and what lies after them."""
MOST_CHUNKS = 48
"""Steps of the staircase that an eye can still tell apart."""
MOST_CELLS = 24
"""Frames up to which each is drawn as a cell of its own."""
MOST_ROWS = 2000
SECONDS_MS = 10_000
"""From here on time is told in seconds."""


def draw_band(axes: Axes, context: Context, name: str) -> None:
    """The mask of `context` over as many frames as show its shape, a chunk of queries in full colour among pale ones.

    Where the chunks would become too narrow to see, the picture ends before a long past does, and its words say so.
    """
    num_frames = shown_frames(context)
    step = context.chunk * -(-num_frames // (MOST_ROWS * context.chunk))
    queries = [*range(0, num_frames, step), num_frames]
    rows = np.array([spans(context, i, num_frames) for i in queries[:-1]])
    chosen = 5 * len(rows) // 8
    for column, colour in enumerate((PAST, OWN, FUTURE)):
        left, right = (np.append(rows[:, i], rows[-1, i]) for i in (column, column + 1))
        # One frame among thousands is less than a pixel: a line around it is not.
        width = 0.8 * (column == 1)
        axes.fill_betweenx(queries, left, right, step="post", color=colour, alpha=0.28, linewidth=width)
        if left[chosen] < right[chosen]:
            top, bottom = queries[chosen : chosen + 2]
            axes.fill_betweenx([top, bottom], left[chosen], right[chosen], color=colour, linewidth=0.8)
    _draw_edges(axes, num_frames, context.chunk)
    axes.set(xlim=(0, num_frames), ylim=(num_frames, 0), box_aspect=1, anchor="NW")
    own = "itself" if context.chunk == 1 else f"its chunk of {context.chunk}"
    before, after = ("all" if side is None else f"{side:,}" for side in (context.left, context.right))
    caption(axes, name, [(f"{before} before,", PAST), (f"{own},", OWN), (f"{after} after", FUTURE)])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(labelsize=8, length=2)
    axes.set_xlabel("key, frames", fontsize=9)
    axes.set_ylabel("query, frames", fontsize=9)


def shown_frames(context: Context) -> int:
    """Frames over which the shape of `context` can be seen: twice its window, and chunks wide enough to be seen."""
    limited = sum(side for side in (context.left, context.right) if side is not None)
    wanted = max(12, 5 * context.chunk, 2 * (limited + context.chunk))
    if context.chunk > 1:
        wanted = min(wanted, MOST_CHUNKS * context.chunk)
    return -(-wanted // context.chunk) * context.chunk


def spans(context: Context, i: int, num_frames: int) -> tuple[int, int, int, int]:
    """Where the past, the own chunk and the future of frame `i` begin, and where the future ends.

    Example:
        >>> spans(Context.chunked(4, left=3, right=2), i=5, num_frames=12)
        (1, 4, 8, 10)
    """
    start, stop = context.visible(i, num_frames)
    own_start, own_stop = Context.chunked(context.chunk, left=0).visible(i, num_frames)
    assert stop is not None and own_stop is not None
    return start, own_start, own_stop, stop


def _draw_edges(axes: Axes, num_frames: int, chunk: int) -> None:
    """Lines between frames where they are few, and under everything between chunks."""
    cells = range(1, num_frames) if num_frames <= MOST_CELLS else ()
    chunks = range(chunk, num_frames, chunk) if chunk > 1 and num_frames <= MOST_CHUNKS * chunk else ()
    for edges, colour, order in ((cells, "white", 2), (chunks, PALE, 0)):
        for edge in edges:
            axes.axhline(edge, color=colour, linewidth=0.7, zorder=order)
            axes.axvline(edge, color=colour, linewidth=0.7, zorder=order)


def caption(axes: Axes, title: str, words: Sequence[tuple[str, str]]) -> None:
    """A title, and under it `words` (text, colour) in one line."""
    axes.set_title(title[:1].upper() + title[1:], fontsize=10.5, fontweight="normal", pad=22)
    parts: list[Artist] = [TextArea(text, textprops={"color": colour, "fontsize": 9}) for text, colour in words]
    line = HPacker(children=parts, align="baseline", pad=0, sep=3)
    box = AnnotationBbox(
        line, (0, 1), (0, 6), "axes fraction", "offset points", frameon=False, pad=0, box_alignment=(0, 0)
    )
    box.set_in_layout(False)
    axes.add_artist(box)


def duration(ms: float) -> str:
    """Milliseconds for a person to read: "640 ms", "23.4 s"."""
    return f"{round(ms, 1):.10g} ms" if ms < SECONDS_MS else f"{round(ms / 1000, 2):,.10g} s"


def unit_of(ms: float) -> tuple[str, float]:
    """The unit of an axis that is `ms` long, and how many ms it is."""
    return ("ms", 1.0) if ms < SECONDS_MS else ("seconds", 1000.0)
