"""Context: the frames that one frame may attend to. Every number about a window is derived here.

A frame sees the chunk it lies in, `left` frames before that chunk and `right` frames after it::

    visible(i) = [floor(i/chunk)*chunk - left, floor(i/chunk)*chunk + chunk + right), clipped to [0, T)

    chunk=1, left=2, right=1    0 ##....       chunk=2, left=2    0 ##....
                                1 ###...                          1 ##....
                                2 ####..                          2 ####..
                                3 .####.                          3 ####..

With `chunk=1` that is a window around each frame (Yeh et al. 2019, arXiv 1910.12977, section 3); with `right=0` and a
larger chunk it is chunked attention, whose look-ahead does not grow with depth. `receptive_field.py` composes layers.
Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from speechattn.framing import HOP_MS
from speechattn.receptive_field import describe, lookahead, lookback, receptive_field
from speechattn.system.serialization import take_numbers

IndexT = TypeVar("IndexT", bound=Any)

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

    Examples:
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
        """Return the context in which every frame sees every frame: quadratic, and it cannot stream."""
        return cls(None, None)

    @classmethod
    def causal(cls, left: int | None = None) -> Context:
        """Return the context of a frame and `left` frames before it (None: all of them)."""
        return cls(left, 0)

    @classmethod
    def truncated(cls, left: int | None, right: int | None) -> Context:
        """Return the context of `left` frames before a frame, the frame and `right` frames after it."""
        return cls(left, right)

    @classmethod
    def chunked(cls, chunk: int, left: int | None, right: int | None = 0) -> Context:
        """Return the context in which a chunk of frames sees itself, `left` frames before and `right` after it.

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
        return self.block_window(self.chunk)

    @property
    def kept_frames(self) -> int | None:
        """The most frames a stream must keep: left + right + chunk - 1. None when a side is unlimited."""
        if self.left is None or self.right is None:
            return None
        return self.left + self.right + self.chunk - 1

    def visible(self, i: int, num_frames: int | None = None) -> tuple[int, int | None]:
        """Return the half-open range (start, stop) of the frames that frame `i` sees.

        It is clipped to [0, num_frames) if `num_frames` is given; otherwise `stop` is None if the right side is
        unlimited.
        """
        if i < 0 or (num_frames is not None and i >= num_frames):
            raise IndexError(f"frame {i} is outside [0, {'end' if num_frames is None else num_frames}).")
        start, stop = self.span(i)
        if num_frames is not None:
            stop = num_frames if stop is None else min(stop, num_frames)
        return (0 if start is None else max(start, 0)), stop

    def ready(self, n: int) -> int:
        """Return how many frames a stream may release after `n` inputs: those whose whole view has arrived.

        It is 0 if the right side is unlimited.
        """
        if self.right is None or n < self.right:
            return 0
        return (n - self.right) // self.chunk * self.chunk

    def receptive_field(self, i: int, num_layers: int = 1, num_frames: int | None = None) -> tuple[int, int | None]:
        """Return the half-open range of input frames that output frame `i` of `num_layers` equal layers depends on."""
        return receptive_field((self,) * num_layers, i, num_frames)

    def lookahead(self, num_layers: int = 1) -> int | None:
        """Return the most future frames that any output of `num_layers` layers waits for; None: all of them."""
        return lookahead((self,) * num_layers)

    def lookback(self, num_layers: int = 1) -> int | None:
        """Return the most past frames that any output of `num_layers` layers depends on; None: all of them."""
        return lookback((self,) * num_layers)

    def schedule(
        self, num_frames: int, block: int, start: int = 0, stop: int | None = None
    ) -> Iterator[tuple[int, int, int, int]]:
        """Yield blocks of the queries [start, stop) as (query_start, query_stop, key_start, key_stop).

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

    def block_window(self, block: int) -> int | None:
        """Return how many keys a block of whole chunks sees away from the edges: left + block + right.

        It is None if a side is unlimited.
        """
        if self.left is None or self.right is None:
            return None
        return self.left + block + self.right

    def first_unclipped(self, block: int, first: int = 0) -> int:
        """Return where the first block begins that is not clipped at frame 0; blocks are counted from `first`.

        Examples:
            >>> Context.truncated(left=5, right=1).first_unclipped(block=4)
            8
        """
        return first + block * max(0, -(-((self.left or 0) - first) // block))

    def num_pairs(self, num_frames: int) -> int:
        """Return the number of pairs of a frame and a frame that it sees, among `num_frames`.

        Examples:
            >>> Context.full().num_pairs(10), Context.truncated(1, 1).num_pairs(10), Context.chunked(4, 0).num_pairs(10)
            (100, 28, 36)
        """
        chunk, whole = self.chunk, num_frames // self.chunk
        pairs = num_frames * num_frames
        # Subtract the frames before the window of chunk n, n * chunk - left of them where that is positive,
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
        """Return the distances key minus query that can occur; their number sizes a relative-bias table.

        A side without limit gets 128 distances, and farther keys share the last entry; with `num_frames` it
        gets every distance that occurs among that many frames.
        """
        most = UNLIMITED_OFFSETS if num_frames is None else max(0, num_frames - 1)
        left = most if self.left is None else self.left + self.chunk - 1
        right = most if self.right is None else self.right + self.chunk - 1
        return range(-left, right + 1)

    def within(self, num_frames: int) -> Context:
        """Return a context with two limits that shows each of `num_frames` frames the same.

        Sides and chunk are cut to the length of the audio.

        Examples:
            >>> Context.truncated(1000, 2).within(10), Context.causal().within(10).window
            (Context(left=9, right=2, chunk=1), 10)
        """
        most = max(0, num_frames - 1)
        left, right = (most if side is None else min(side, most) for side in (self.left, self.right))
        return Context(left, right, min(self.chunk, most + 1))

    def stacked(self, stack: int) -> Context:
        """Return this context counted in the frames of which `stack` became one.

        Examples:
            >>> Context.truncated(left=8, right=2).stacked(4)
            Context(left=32, right=8, chunk=4)
        """
        left, right = (None if side is None else side * stack for side in (self.left, self.right))
        return Context(left, right, self.chunk * stack)

    def describe(self, num_layers: int = 1, hop_ms: float = HOP_MS) -> str:
        """Return a table of what is seen back, waited for and kept, per layer and in total.

        A frame is `hop_ms` long; `speechattn.receptive_field.describe` explains the columns.
        """
        return describe((self,) * num_layers, hop_ms)

    def span(self, i: IndexT) -> tuple[IndexT | None, IndexT | None]:
        """Return `visible` without clipping, None on an unlimited side; `i` may be an integer array or tensor."""
        chunk_start = i // self.chunk * self.chunk
        start = None if self.left is None else chunk_start - self.left
        stop = None if self.right is None else chunk_start + (self.chunk + self.right)
        return start, stop

    if not TYPE_CHECKING:  # a type checker would take every name

        def __getattr__(self, name: str) -> Any:
            hint = {"plan": ": use schedule", "reach": ": use receptive_field"}.get(name, "")
            raise AttributeError(f"Context has no attribute {name!r}{hint}.")

    def __str__(self) -> str:
        if self == Context():
            return "full"
        left, right = ("all" if side is None else str(side) for side in (self.left, self.right))
        return f"left {left}, right {right}" + (f", chunk {self.chunk}" if self.chunk > 1 else "")


def _sum(first: int, stop: int) -> int:
    """Return first + (first + 1) + ... + (stop - 1), 0 if there is none."""
    return max(0, stop - first) * (first + stop - 1) // 2
