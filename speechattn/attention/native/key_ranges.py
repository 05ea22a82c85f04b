"""What every query sees, as arrays for the loops of native attention, and what follows from them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from speechattn.context import Context

MAX_CACHED_KEYS = 8192
"""Keys up to which ranges are kept: utterances come again and again, and their ranges take as long as their sums."""
FRAMES_AT_ONCE = 2048
"""Frames that are computed at a time, so that the ranges of an hour cost 8 bytes a frame and no more."""


class KeyRanges(NamedTuple):
    """Everything about a context and a number of frames that the loops need."""

    low: Any  # int32 [T]: query i sees the keys [low[i], high[i])
    high: Any
    max_keys: int  # that one block of queries sees together
    distances: range  # key minus query that a block can meet, masked pairs included
    pairs: int  # of a query and a key that it sees
    backward_frames: int  # queries a part, so that every other part may run at the same time


def key_ranges(
    context: Context, num_frames: int, block: int, part_frames: int, num_keys: int, starts: tuple[int, int]
) -> KeyRanges:
    """Return the ranges for blocks of `block` queries and parts of `part_frames` or more.

    `starts` are the frames of the first query and of the first key.
    """
    ahead, phase = starts[0] - starts[1], starts[0] % context.chunk
    make = _make if num_keys > MAX_CACHED_KEYS else _kept
    return make(context, num_frames, block, part_frames, num_keys, ahead, phase)


def _make(
    context: Context, num_frames: int, block: int, part_frames: int, num_keys: int, ahead: int, phase: int
) -> KeyRanges:
    """Return the ranges where query i has the place of key i + `ahead`, and is frame `phase` + i of some chunk."""
    low, high = np.empty(num_frames, np.int32), np.empty(num_frames, np.int32)
    back = on = pairs = 0
    for begin in range(0, num_frames, FRAMES_AT_ONCE):
        frames = np.arange(begin, min(begin + FRAMES_AT_ONCE, num_frames))
        start, stop = context.span(frames + phase)
        first = np.zeros_like(frames) if start is None else np.maximum(start + (ahead - phase), 0)
        last = np.full_like(frames, num_keys) if stop is None else np.minimum(stop + (ahead - phase), num_keys)
        low[begin : begin + FRAMES_AT_ONCE], high[begin : begin + FRAMES_AT_ONCE] = first, last
        pairs += int(last.sum() - first.sum())
        back, on = max(back, int((frames + ahead - first).max())), max(on, int((last - frames - ahead).max()))
    if not num_frames:
        return KeyRanges(low, high, 0, range(0), 0, block)
    # Parts i and i + 2 must not see one key: what lies between them must be as long as both reaches together.
    backward_frames = -(-max(part_frames, min(back + on, num_frames)) // block) * block
    ends = np.minimum(np.arange(block - 1, num_frames + block - 1, block), num_frames - 1)
    max_keys = int((high[ends] - low[::block]).max())
    # A block's first query is `block` - 1 from the last, whose keys it meets, masked, and the other way round.
    distances = range(-back - block + 1, on + block - 1)
    return KeyRanges(low, high, max_keys, distances, pairs, backward_frames)


_kept = functools.lru_cache(64)(_make)
