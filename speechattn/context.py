"""Law 1: what a frame may see. Every number about context is derived here and nowhere else.

A frame sees the chunk it lies in, `left` frames before that chunk and `right` frames after it::

    visible(i) = [floor(i/chunk)*chunk - left, floor(i/chunk)*chunk + chunk + right), clipped to [0, T)

With `chunk=1` that is a window around each frame (Yeh et al. 2019, arXiv 1910.12977, section 3); with
`right=0` and a larger chunk it is chunked attention, whose look-ahead does not grow with depth.
Standard library only: importing this file costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from speechattn.framing import HOP_MS
from speechattn.system.serialization import take_numbers

IndexT = TypeVar("IndexT", bound=Any)

MOST_CHUNKS = 100_000
"""Chunks of a period that are looked at one by one, which takes a second."""
UNLIMITED_OFFSETS = 128
"""Distances that a relative-bias table spends on a side without limit; farther keys share the last one."""


@dataclass(frozen=True)
class Context:
    """The frames that one frame may attend to in one layer.

    `left` and `right` are frames before and after the query's *chunk*; the frame itself is never
    counted, and None means no limit. `chunk` frames share one view.

    Raises:
        TypeError: a side is not an int or None, or chunk is not an int.
        ValueError: a side is negative, or chunk is less than 1.

    Example:
        >>> Context.truncated(left=2, right=1).visible(5)
        (3, 7)
        >>> Context.chunked(chunk=4, left=2).visible(5)
        (2, 8)
    """

    left: int | None = None
    right: int | None = None
    chunk: int = 1

    def __post_init__(self) -> None:
        take_numbers(self)
        for name in ("left", "right"):
            side = getattr(self, name)
            if side is not None and (not isinstance(side, int) or isinstance(side, bool)):
                raise TypeError(f"Context.{name} must be a number of frames or None, got {side!r}.")
            if side is not None and side < 0:
                raise ValueError(f"Context.{name} must be 0 or more frames, got {side}. Use None for no limit.")
        if not isinstance(self.chunk, int) or isinstance(self.chunk, bool):
            raise TypeError(f"Context.chunk must be a number of frames, got {self.chunk!r}.")
        if self.chunk < 1:
            raise ValueError(f"Context.chunk must be 1 or more frames, got {self.chunk}. 1 is a window per frame.")

    @classmethod
    def full(cls) -> Context:
        """Every frame sees every frame: quadratic, and it cannot stream."""
        return cls(None, None)

    @classmethod
    def causal(cls, left: int | None = None) -> Context:
        """Each frame sees itself and `left` frames before it (None: all of them)."""
        return cls(left, 0)

    @classmethod
    def truncated(cls, left: int | None, right: int | None) -> Context:
        """Each frame sees `left` frames before it, itself and `right` frames after it."""
        return cls(left, right)

    @classmethod
    def chunked(cls, chunk: int, left: int | None, right: int | None = 0) -> Context:
        """Frames of one chunk see it, `left` frames before it and `right` frames after it.

        `left` is counted in frames, so that another chunk size never changes the past.
        """
        return cls(left, right, chunk)

    @property
    def limited(self) -> bool:
        """True when both sides have a limit: time and memory are linear in the number of frames."""
        return self.left is not None and self.right is not None

    @property
    def window(self) -> int | None:
        """Keys that one chunk of queries sees away from the edges: left + chunk + right, None if unlimited."""
        if self.left is None or self.right is None:
            return None
        return self.left + self.chunk + self.right

    @property
    def kept_frames(self) -> int | None:
        """The most frames a stream must keep: left + right + chunk - 1. None when a side is unlimited."""
        if self.left is None or self.right is None:
            return None
        return self.left + self.right + self.chunk - 1

    def visible(self, i: int, num_frames: int | None = None) -> tuple[int, int | None]:
        """Half-open range (start, stop) of the frames that frame `i` sees.

        It is clipped to [0, num_frames) when `num_frames` is given. Without it an unlimited right side
        has no stop, which is None.
        """
        if i < 0 or (num_frames is not None and i >= num_frames):
            raise IndexError(f"frame {i} is outside [0, {'end' if num_frames is None else num_frames}).")
        start, stop = self.span(i)
        if num_frames is not None:
            stop = num_frames if stop is None else min(stop, num_frames)
        return (0 if start is None else max(start, 0)), stop

    def ready(self, n: int) -> int:
        """Frames whose whole view is there after `n` inputs: what a stream may release. 0 if right is None."""
        if self.right is None or n < self.right:
            return 0
        return (n - self.right) // self.chunk * self.chunk

    def reach(self, i: int, num_layers: int = 1, num_frames: int | None = None) -> tuple[int, int | None]:
        """Half-open receptive field (start, stop) of output frame `i` through `num_layers` equal layers."""
        return reach((self,) * num_layers, i, num_frames)

    def lookahead(self, num_layers: int = 1) -> int | None:
        """The most future frames that any output waits for through `num_layers` layers; None: all of them."""
        return lookahead((self,) * num_layers)

    def lookback(self, num_layers: int = 1) -> int | None:
        """The most past frames that any output can see through `num_layers` layers; None: all of them."""
        return lookback((self,) * num_layers)

    def plan(
        self, num_frames: int, block: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, int, int, int]]:
        """Cut the queries [start, stop) into blocks: yields (query_start, query_stop, key_start, key_stop).

        `stop` of None is num_frames. The key range is what the block's frames see together, clipped to
        [0, num_frames).
        """
        if block < 1:
            raise ValueError(f"block must be 1 or more frames, got {block}.")
        stop = num_frames if stop is None else stop
        for query_start in range(start, stop, block):
            query_stop = min(query_start + block, stop)
            key_start, _ = self.visible(query_start, num_frames)
            _, key_stop = self.visible(query_stop - 1, num_frames)
            assert key_stop is not None
            yield query_start, query_stop, key_start, key_stop

    def num_pairs(self, num_frames: int) -> int:
        """Pairs of a frame and a frame that it sees, among `num_frames`: what attention computes.

        Example:
            >>> Context.full().num_pairs(10), Context.truncated(1, 1).num_pairs(10), Context.chunked(4, 0).num_pairs(10)
            (100, 28, 36)
        """
        chunk, whole = self.chunk, num_frames // self.chunk
        pairs = num_frames * num_frames
        # Less the frames before the window of chunk n, n * chunk - left of them where that is positive,
        if self.left is not None and num_frames:
            first = self.left // chunk + 1
            pairs -= chunk * (chunk * _sum(first, whole) - self.left * max(0, whole - first))
            pairs -= (num_frames - whole * chunk) * max(0, whole * chunk - self.left)
        # and those after it.
        if self.right is not None:
            last = max(0, (num_frames - self.right) // chunk)
            pairs -= chunk * (last * (num_frames - self.right) - chunk * _sum(1, last + 1))
        return pairs

    def offsets(self, num_frames: int | None = None) -> range:
        """Distances key minus query that can occur; its length sizes a relative-bias table.

        A side without limit gets 128 distances, and farther keys share the last entry; with `num_frames` it
        gets every distance that occurs among so many frames.
        """
        most = UNLIMITED_OFFSETS if num_frames is None else max(0, num_frames - 1)
        left = most if self.left is None else self.left + self.chunk - 1
        right = most if self.right is None else self.right + self.chunk - 1
        return range(-left, right + 1)

    def within(self, num_frames: int) -> Context:
        """A context with two limits that shows each of `num_frames` frames the same: sides and chunk end with them.

        Example:
            >>> Context.truncated(1000, 2).within(10), Context.causal().within(10).window
            (Context(left=9, right=2, chunk=1), 10)
        """
        most = max(0, num_frames - 1)
        left, right = (most if side is None else min(side, most) for side in (self.left, self.right))
        return Context(left, right, min(self.chunk, most + 1))

    def stacked(self, stack: int) -> Context:
        """This context counted in the frames before `stack` of them became one.

        Example:
            >>> Context.truncated(left=8, right=2).stacked(4)
            Context(left=32, right=8, chunk=4)
        """
        left, right = (None if side is None else side * stack for side in (self.left, self.right))
        return Context(left, right, self.chunk * stack)

    def describe(self, num_layers: int = 1, hop_ms: float = HOP_MS) -> str:
        """What a user asks, as a table: seen back, waited for and kept, per layer and through the stack.

        See `describe` below; a frame is `hop_ms` long.
        """
        return describe((self,) * num_layers, hop_ms)

    def span(self, i: IndexT) -> tuple[IndexT | None, IndexT | None]:
        """`visible` without clipping, None on an unlimited side; `i` is an int or an integer array or tensor."""
        chunk_start = i // self.chunk * self.chunk
        start = None if self.left is None else chunk_start - self.left
        stop = None if self.right is None else chunk_start + (self.chunk + self.right)
        return start, stop

    def __str__(self) -> str:
        if self == Context():
            return "full"
        left, right = ("all" if side is None else str(side) for side in (self.left, self.right))
        return f"left {left}, right {right}" + (f", chunk {self.chunk}" if self.chunk > 1 else "")


def reach(contexts: Sequence[Context], i: int, num_frames: int | None = None) -> tuple[int, int | None]:
    """Half-open receptive field (start, stop) of output frame `i` through a stack of layers.

    `contexts[0]` is the layer next to the input. Clipped to [0, num_frames) in every layer when given;
    without it an unlimited right side has no stop, which is None.

    Example:
        >>> reach([Context.truncated(2, 3), Context.truncated(10, 0)], i=20)
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


def lookahead(contexts: Sequence[Context]) -> int | None:
    """The most future frames that any output of a stack waits for; None when a right side is unlimited.

    The first frame of a chunk waits longest, and the pattern repeats with the least common multiple of
    the chunks: those positions are tried one by one. Where they are more than 100 000 it is the sum over the layers,
    which is reached where chunks have no common divisor, and is too much otherwise.

    Example:
        >>> [Context.chunked(16, left=64, right=8).lookahead(n) for n in (1, 6, 12)]
        [23, 103, 199]
    """
    if any(context.right is None for context in contexts):
        return None
    if _too_many(contexts):
        return sum(context.right + context.chunk - 1 for context in contexts)  # type: ignore[misc, operator]
    return max((last - i for i, last in _walk(contexts, first=True)), default=0)


def waits(contexts: Sequence[Context]) -> tuple[int, float, int] | None:
    """Least, mean and most future frames that outputs of a stack wait for, over all positions in their chunks.

    None when a right side is unlimited.

    Example:
        >>> waits([Context.chunked(16, left=64, right=8)])
        (8, 15.5, 23)
    """
    most = lookahead(contexts)
    if most is None:
        return None
    if _too_many(contexts):
        least = sum(context.right for context in contexts)  # type: ignore[misc]
        return least, (least + most) / 2, most
    # Frames of one chunk of the last layer wait for the same one, the first of them longest.
    spread = contexts[-1].chunk - 1 if contexts else 0
    waited = [last - i for i, last in _walk(contexts, first=True)] or [0]
    return min(waited) - spread, sum(waited) / len(waited) - spread / 2, most


def reach_width(contexts: Sequence[Context]) -> int | None:
    """The most input frames that any one output of a stack depends on; None when a side is unlimited.

    Example:
        >>> reach_width([Context.chunked(16, left=64, right=8)])
        88
    """
    if not all(context.limited for context in contexts):
        return None
    if _too_many(contexts):
        last = contexts[-1].chunk - 1  # of the chunk that the most is seen of from both its ends
        return lookback(contexts) + 1 + lookahead(contexts) - last  # type: ignore[operator]
    starts = dict(_walk(contexts, first=False))
    # Frames of one chunk of the last layer share their reach; its first waits longest, its last looks back farthest.
    chunk = contexts[-1].chunk if contexts else 1
    return max((last + 1 - starts[i + chunk - 1] for i, last in _walk(contexts, first=True)), default=1)


def lookback(contexts: Sequence[Context]) -> int | None:
    """The most past frames that any output of a stack can see; None when a left side is unlimited."""
    if any(context.left is None for context in contexts):
        return None
    if _too_many(contexts):
        return sum(context.left + context.chunk - 1 for context in contexts)  # type: ignore[misc, operator]
    return max((i - start for i, start in _walk(contexts, first=False)), default=0)


def _sum(first: int, stop: int) -> int:
    """first + (first + 1) + ... + (stop - 1), 0 if there is none."""
    return max(0, stop - first) * (first + stop - 1) // 2


def _too_many(contexts: Sequence[Context]) -> bool:
    """Whether there are too many chunks in a period to look at each."""
    return bool(contexts) and math.lcm(*(context.chunk for context in contexts)) // contexts[-1].chunk > MOST_CHUNKS


def _walk(contexts: Sequence[Context], first: bool) -> Iterator[tuple[int, int]]:
    """(output frame, farthest input frame) for the first or last frame of each chunk of one whole period."""
    if not contexts:
        return
    chunk = contexts[-1].chunk
    for chunk_start in range(0, math.lcm(*(context.chunk for context in contexts)), chunk):
        i = chunk_start if first else chunk_start + chunk - 1
        farthest = i
        for context in reversed(contexts):
            start, stop = context.span(farthest)
            assert start is not None or first
            assert stop is not None or not first
            farthest = stop - 1 if first else start  # type: ignore[operator, assignment]
        yield i, farthest


def describe(contexts: Sequence[Context], hop_ms: float = HOP_MS, names: Sequence[str] | None = None) -> str:
    """A table of what a stack sees back, waits for and keeps, after each layer, in frames and ms.

    "Through" columns are counted from the input to that layer's output, the most that any frame sees or waits; the
    last row is the whole stack. "min / mean / max" is how long the frames of a chunk wait, which differs.
    `names` are what the layers are called, 1, 2, ... if not given.

    Example:
        >>> print(Context.chunked(chunk=2, left=3).describe(num_layers=2))
        layer  context                   seen back through  waited for through  min / mean / max  kept in the layer
        1      left 3, right 0, chunk 2  4 frames (40 ms)   1 frame (10 ms)     0 / 5 / 10 ms     4 frames (40 ms)
        2      left 3, right 0, chunk 2  8 frames (80 ms)   1 frame (10 ms)     0 / 5 / 10 ms     4 frames (40 ms)
        stack                            8 frames (80 ms)   1 frame (10 ms)     0 / 5 / 10 ms     8 frames (80 ms)
    """

    def cell(frames: int | None) -> str:
        if frames is None:
            return "unlimited"
        return f"{frames} frame{'' if frames == 1 else 's'} ({frames * hop_ms:.10g} ms)"

    def row(name: str, context: str, through: Sequence[Context], kept: int | None) -> tuple[str, ...]:
        return name, context, cell(lookback(through)), cell(lookahead(through)), told_waits(through, hop_ms), cell(kept)

    head = ("layer", "context", "seen back through", "waited for through", "min / mean / max", "kept in the layer")
    rows: list[tuple[str, ...]] = [head]
    for depth, context in enumerate(contexts, start=1):
        name = str(depth) if names is None else names[depth - 1]
        rows.append(row(name, str(context), contexts[:depth], context.kept_frames))
    kept = [context.kept_frames for context in contexts if context.kept_frames is not None]
    rows.append(row("stack", "", contexts, sum(kept) if len(kept) == len(contexts) else None))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines + _advice(contexts))


def told_waits(contexts: Sequence[Context], hop_ms: float) -> str:
    """`waits` in ms, as "min / mean / max ms"."""
    waited = waits(contexts)
    if waited is None:
        return "unlimited"
    return " / ".join(f"{round(frames * hop_ms, 1):.10g}" for frames in waited) + " ms"


def _advice(contexts: Sequence[Context]) -> list[str]:
    """Lines that tell a reader of `describe` what the table does not: cost, and what cannot stream."""
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
