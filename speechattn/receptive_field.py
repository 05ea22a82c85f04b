"""Receptive field, look-back, look-ahead and latency of a stack of layers, and the table that prints them.

`context.py` says what one layer lets a frame see; this file composes layers. `contexts[0]` is the layer next to the
input. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

from speechattn.framing import HOP_MS

MAX_CHUNKS = 100_000
"""Chunks of one period that are tried one by one, which takes a second; a longer period gives a bound."""


class Layer(Protocol):
    """A `Context`: the frames that one frame may attend to in one layer."""

    @property
    def left(self) -> int | None:
        """Frames before the chunk; None is no limit."""

    @property
    def right(self) -> int | None:
        """Frames after the chunk; None is no limit."""

    @property
    def chunk(self) -> int:
        """Frames that share one view."""

    @property
    def kept_frames(self) -> int | None:
        """Frames that a stream keeps; None is no limit."""

    def span(self, i: int) -> tuple[int | None, int | None]:
        """Half-open range of frames that frame `i` sees, not clipped."""

    def visible(self, i: int, num_frames: int | None = None) -> tuple[int, int | None]:
        """Half-open range of frames that frame `i` sees, clipped to the audio."""


def receptive_field(contexts: Sequence[Layer], i: int, num_frames: int | None = None) -> tuple[int, int | None]:
    """Return the half-open range (start, stop) of input frames that output frame `i` of a stack depends on.

    It is clipped to [0, num_frames) in every layer if `num_frames` is given; otherwise `stop` is None where a right
    side is unlimited.

    Examples:
        >>> from speechattn.context import Context
        >>> receptive_field([Context.truncated(2, 3), Context.truncated(10, 0)], i=20)
        (8, 24)
    """
    if i < 0 or (num_frames is not None and i >= num_frames):
        raise IndexError(f"frame {i} is outside [0, {'end' if num_frames is None else num_frames}).")
    start: int = i
    last: int | None = i
    for context in reversed(contexts):
        start, _ = context.visible(start, num_frames)
        if last is not None:
            _, stop = context.visible(last, num_frames)
            last = None if stop is None else stop - 1
    return start, None if last is None else last + 1


def max_receptive_field(contexts: Sequence[Layer]) -> int | None:
    """Return the most input frames that any one output of a stack depends on; None if a side is unlimited.

    Examples:
        >>> from speechattn.context import Context
        >>> max_receptive_field([Context.chunked(16, left=64, right=8)])
        88
    """
    if any(context.left is None or context.right is None for context in contexts):
        return None
    if _has_long_period(contexts):
        # The widest view belongs to a chunk of the last layer, and is counted here from both ends of that chunk.
        return lookback(contexts) + 1 + lookahead(contexts) - (contexts[-1].chunk - 1)  # type: ignore[operator]
    starts = dict(_farthest_inputs(contexts, future=False))
    # Frames of one chunk of the last layer share their view; its first waits longest, its last looks back farthest.
    chunk = contexts[-1].chunk if contexts else 1
    lasts = _farthest_inputs(contexts, future=True)
    return max((last + 1 - starts[i + chunk - 1] for i, last in lasts), default=1)


def lookahead(contexts: Sequence[Layer]) -> int | None:
    """Return the most future frames that any output of a stack waits for; None if a right side is unlimited.

    The first frame of a chunk waits longest, and the pattern repeats with the least common multiple of the chunks:
    those positions are tried one by one. Where they are more than 100 000 the result is the sum over the layers, which
    is exact where chunks have no common divisor, and an upper bound otherwise.

    Examples:
        >>> from speechattn.context import Context
        >>> [Context.chunked(16, left=64, right=8).lookahead(n) for n in (1, 6, 12)]
        [23, 103, 199]
    """
    if any(context.right is None for context in contexts):
        return None
    if _has_long_period(contexts):
        return sum(context.right + context.chunk - 1 for context in contexts)  # type: ignore[misc, operator]
    return max((last - i for i, last in _farthest_inputs(contexts, future=True)), default=0)


def lookback(contexts: Sequence[Layer]) -> int | None:
    """Return the most past frames that any output of a stack depends on; None if a left side is unlimited."""
    if any(context.left is None for context in contexts):
        return None
    if _has_long_period(contexts):
        return sum(context.left + context.chunk - 1 for context in contexts)  # type: ignore[misc, operator]
    return max((i - start for i, start in _farthest_inputs(contexts, future=False)), default=0)


def latency_frames(contexts: Sequence[Layer]) -> tuple[int, float, int] | None:
    """Return the least, mean and most future frames that outputs of a stack wait for; None if a right is unlimited.

    The frames of one chunk wait for the same last frame, so the first of them waits longest.

    Examples:
        >>> from speechattn.context import Context
        >>> latency_frames([Context.chunked(16, left=64, right=8)])
        (8, 15.5, 23)
    """
    most = lookahead(contexts)
    if most is None:
        return None
    if _has_long_period(contexts):
        least = sum(context.right for context in contexts)  # type: ignore[misc]
        return least, (least + most) / 2, most
    spread = contexts[-1].chunk - 1 if contexts else 0
    waited = [last - i for i, last in _farthest_inputs(contexts, future=True)] or [0]
    return min(waited) - spread, sum(waited) / len(waited) - spread / 2, most


def format_latency(contexts: Sequence[Layer], hop_ms: float) -> str:
    """Return `latency_frames` in ms, as "min / mean / max ms"."""
    waited = latency_frames(contexts)
    if waited is None:
        return "unlimited"
    return " / ".join(f"{round(frames * hop_ms, 1):.10g}" for frames in waited) + " ms"


def describe(contexts: Sequence[Layer], hop_ms: float = HOP_MS, names: Sequence[str] | None = None) -> str:
    """Return a table of what a stack sees back, waits for and keeps, after each layer, in frames and ms.

    "Through" columns count from the input to that layer's output, the most that any frame sees or waits; the last row
    is the whole stack. "min / mean / max" is how long the frames of a chunk wait. `hop_ms` is the length of a frame;
    `names` are the layers' names, 1, 2, ... by default.

    Examples:
        >>> from speechattn.context import Context
        >>> print(Context.chunked(chunk=2, left=3).describe(num_layers=2))
        layer  context                   seen back through  waited for through  min / mean / max  kept in the layer
        1      left 3, right 0, chunk 2  4 frames (40 ms)   1 frame (10 ms)     0 / 5 / 10 ms     4 frames (40 ms)
        2      left 3, right 0, chunk 2  8 frames (80 ms)   1 frame (10 ms)     0 / 5 / 10 ms     4 frames (40 ms)
        total                            8 frames (80 ms)   1 frame (10 ms)     0 / 5 / 10 ms     8 frames (80 ms)
    """

    def cell(frames: int | None) -> str:
        if frames is None:
            return "unlimited"
        return f"{frames} frame{'' if frames == 1 else 's'} ({frames * hop_ms:.10g} ms)"

    def row(name: str, context: str, through: Sequence[Layer], kept: int | None) -> tuple[str, ...]:
        waited = cell(lookahead(through))
        return name, context, cell(lookback(through)), waited, format_latency(through, hop_ms), cell(kept)

    head = ("layer", "context", "seen back through", "waited for through", "min / mean / max", "kept in the layer")
    rows: list[tuple[str, ...]] = [head]
    for depth, context in enumerate(contexts, start=1):
        name = str(depth) if names is None else names[depth - 1]
        rows.append(row(name, str(context), contexts[:depth], context.kept_frames))
    kept = [context.kept_frames for context in contexts if context.kept_frames is not None]
    rows.append(row("total", "", contexts, sum(kept) if len(kept) == len(contexts) else None))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines + _advice(contexts))


def _advice(contexts: Sequence[Layer]) -> list[str]:
    """Return lines under the table of `describe`: what is quadratic, and what cannot stream."""
    advice = []
    if any(context.left is None and context.right is None for context in contexts):
        advice.append("A layer without limits costs time quadratic in the number of frames, and cannot stream.")
    elif any(context.right is None for context in contexts):
        advice.append("A layer with unlimited right context cannot stream: give it a right, or a chunk.")
    elif any(context.left is None for context in contexts):
        advice.append("A layer with unlimited left context streams, but what it keeps grows with the audio.")
    if len(contexts) > 1 and any(context.right and context.right % context.chunk for context in contexts):
        advice.append("chunk and right together add up from layer to layer; chunk with right=0 does not grow.")
    return advice


def _has_long_period(contexts: Sequence[Layer]) -> bool:
    """Return True if one period of the chunks has too many of them to try each."""
    return bool(contexts) and math.lcm(*(context.chunk for context in contexts)) // contexts[-1].chunk > MAX_CHUNKS


def _farthest_inputs(contexts: Sequence[Layer], future: bool) -> Iterator[tuple[int, int]]:
    """Yield (output frame, farthest input frame that it depends on) for each chunk of one period.

    In the `future` that is the chunk's first frame and its last input, in the past its last frame and its first input.
    """
    if not contexts:
        return
    chunk = contexts[-1].chunk
    for chunk_start in range(0, math.lcm(*(context.chunk for context in contexts)), chunk):
        i = chunk_start if future else chunk_start + chunk - 1
        farthest = i
        for context in reversed(contexts):
            start, stop = context.span(farthest)
            if future:
                assert stop is not None
                farthest = stop - 1
            else:
                assert start is not None
                farthest = start
        yield i, farthest
