"""The entry points of native attention's compiled code: `forward` and `backward`, which compute a call by blocks.

`query_block.py` computes one block; the layers below it are `matmul.py` and `softmax.py`, which are written in the
tiles and vectors of `register_tiles.py` and `simd.py`. This file cuts a call into blocks.

The order of the blocks is chosen for memory: a block is done for four heads in turn, because their frames lie side by
side in the projection of a model, and memory is fast where it is read in one piece; and while a block is computed, the
rows that the next one needs are prefetched (`ask_for` in `matmul.py`).

Shapes, strides and lifetimes of all memory are not checked: `launch.py` guarantees them, and is the only caller.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import config
from numba import njit as njit_from_python

from speechattn.attention.native.llvm import njit
from speechattn.attention.native.matmul import (
    BIAS,
    GRAD_BIAS,
    GRAD_K,
    GRAD_OUTPUT,
    GRAD_Q,
    GRAD_V,
    OUTPUT,
    Block,
    Call,
    K,
    Q,
    V,
    address,
)
from speechattn.attention.native.query_block import Scratch, backward_block, forward_block
from speechattn.attention.native.simd import control, num_lanes, splat, store, zeros
from speechattn.attention.native.softmax import FLOAT, row_size

__all__ = [
    "BIAS",
    "GRAD_BIAS",
    "GRAD_K",
    "GRAD_OUTPUT",
    "GRAD_Q",
    "GRAD_V",
    "OUTPUT",
    "K",
    "Q",
    "V",
    "backward",
    "forward",
]

HEADS = 4
"""Heads that a block is computed for in turn: four of 64 features are neighbours in memory, and fetched together."""
NO_DENORMALS = np.int32(0x9FC0)
"""Control word: no exceptions, round to nearest, and floats below 1e-38 are 0. A weight that small changes no sum, but
takes the processor far longer than others, and a bias that falls with the distance makes many of them."""


@njit
def clear(like: Any, call: Any, which: int, row: int, head: int, begin: int, end: int, width: int) -> None:
    """Write zeros into the frames [begin, end) of an operand."""
    for frame in range(begin, end):
        here = address(call, which, row, head, frame)
        for c in range(0, width, num_lanes(like)):
            store(here + c * FLOAT, splat(like, 0.0))


@njit
def scratch_of(like: Any, buffer: Any, call: Any, most_keys: int) -> Any:
    """Return addresses inside `buffer`, aligned to a cache line."""
    size, half = row_size(like), num_lanes(like) * FLOAT
    columns = (buffer.ctypes.data + 63) // 64 * 64
    lanes = columns + max(call.depth, call.width) * size
    factors, ones, scales, scores = lanes + size, lanes + 2 * size, lanes + 3 * size, lanes + 4 * size
    for x in (0, half):
        store(ones + x, splat(like, 1.0))
        store(scales + x, splat(like, call.scale))
    return Scratch(columns, lanes, factors, ones, scales, scores, scores + most_keys * size)


@njit
def first_touched(call: Any, begin: int, end: int, length: int, shared: bool) -> Any:
    """Return the keys whose gradients the part of the queries [begin, end) is the first to add to, so it clears them.

    Parts come in two waves. Those of the first are so far apart that no two see one key, and clear all they see;
    each of the second, `shared`, has parts of the first on both sides, and clears what lies between those two.
    """
    start, stop = np.int64(call.low[begin]), np.int64(call.high[end - 1])
    if shared:
        start = max(start, np.int64(call.high[begin - 1]))
        stop = min(stop, np.int64(call.low[end])) if end < length else stop
    return start, min(np.int64(length), stop)


@njit
def block_at(like: Any, call: Any, row: int, head: int, t: int, end: int, length: int) -> Any:
    """Return the block of the queries from t on, which end before `end`."""
    lanes = num_lanes(like)
    number = min(2 * lanes, end - t)
    start, stop = np.int64(call.low[t]), min(np.int64(call.high[t + min(lanes, number) - 1]), length)
    other_start = other_stop = stop
    if number > lanes:
        other_start = np.int64(call.low[t + lanes])
        other_stop = min(np.int64(call.high[t + number - 1]), length)
    halves = 2 if number > lanes else 1
    return Block(row, head, t, number, length, halves, (start, other_start), (stop, other_stop))


def _tasks(lanes: int, backward: bool) -> Any:
    """Return the function that launch.py calls: numba caches the four only if they differ in numbers alone."""

    @njit_from_python(nogil=True, cache=bool(config.CACHE_DIR))
    def run_tasks(
        operands: Any, low: Any, high: Any, lengths: Any, sizes: Any, scale: float, first: int, last: int
    ) -> int:
        """Do the tasks [first, last).

        A task is one part, `part_frames` frames, of one head: every `step`-th part of each row, beginning with
        `offset`. Heads are innermost because their frames are neighbours in packed tensors.
        """
        like = zeros(lanes)
        heads, frames, depth, width, part_frames, most_keys, relu, offset, step = sizes
        call = Call(operands, low, high, depth, width, np.float32(scale), relu != 0)
        buffer = np.empty((max(depth, width) + 2 * most_keys + 4) * 2 * lanes + 16, np.float32)
        scratch = scratch_of(like, buffer, call, most_keys)
        parts = ((frames + part_frames - 1) // part_frames - offset + step - 1) // step
        task, before = first, control(NO_DENORMALS)
        while task < last:
            head, row, part = task % heads, task // heads // parts, offset + task // heads % parts * step
            beside = min(head + HEADS, heads, head + last - task)
            begin, end, length = part * part_frames, min((part + 1) * part_frames, frames), lengths[row]
            valid = max(begin, min(end, length))
            clean, clean_stop = np.int64(0), np.int64(0)
            if backward and begin < valid:
                clean, clean_stop = first_touched(call, begin, valid, length, offset == 1)
            for t in range(begin, valid, 2 * lanes):
                clean_to = min(clean_stop, np.int64(high[min(t + 2 * lanes, valid) - 1]))
                for h in range(head, beside):
                    block = block_at(like, call, row, h, t, valid, length)
                    if backward:
                        clear(like, call, GRAD_K, row, h, clean, clean_to, depth)
                        clear(like, call, GRAD_V, row, h, clean, clean_to, width)
                        table = 0 if operands[GRAD_BIAS, 0] == 0 else address(call, GRAD_BIAS, row, h, part)
                        backward_block(like, call, block, scratch, table)
                    else:
                        forward_block(like, call, block, scratch)
                clean = max(clean, clean_to)
            for h in range(head, beside):
                if backward:
                    clear(like, call, GRAD_Q, row, h, valid, end, depth)
                    clear(like, call, GRAD_K, row, h, valid, end, depth)
                    clear(like, call, GRAD_V, row, h, valid, end, width)
                else:
                    clear(like, call, OUTPUT, row, h, valid, end, width)
            task += beside - head
        control(before)
        return len(buffer)  # numba frees an array after its last use, and addresses are none

    return run_tasks


forward = {lanes: _tasks(lanes, False) for lanes in (8, 16)}
backward = {lanes: _tasks(lanes, True) for lanes in (8, 16)}
