"""The two products of attention for one block of queries, cut into tiles, and the layout that they work on.

`all_dots` is rows of keys times columns of queries; `each_query` and `each_key` are rows of weights times rows of
values, summed over keys and over queries. Which keys a query sees decides how far each sum goes: nearly nothing is
multiplied that a mask would take away. `blocks.py` says what the products are of.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from speechattn.attention.native.llvm import njit
from speechattn.attention.native.register_tiles import dots, product, transpose
from speechattn.attention.native.simd import num_lanes, prefetch, splat, store
from speechattn.attention.native.softmax import FLOAT, row_size

Q, K, V, OUTPUT, BIAS, GRAD_OUTPUT, GRAD_Q, GRAD_K, GRAD_V, GRAD_BIAS = map(np.int64, range(10))
"""Rows of `operands` int64 [10, 4]: a tensor's address and its strides from row to row, head to head, frame to frame.

All in bytes; features lie side by side. An address of 0 is a tensor that this call does not have. BIAS and GRAD_BIAS
have no frames: `attention.py` says what they hold. (numpy's integers, because numba compiles a function anew
for every Python integer that it is called with and knows beforehand.)
"""
Call = namedtuple("Call", "operands low high depth width scale relu")
"""What all blocks share. Query i sees the keys [low[i], high[i]), clipped to its row's length."""
Block = namedtuple("Block", "row head t number length halves starts stops")
"""`number` queries from frame `t` of one head of one row. Those of half h see the keys [starts[h], stops[h])."""


@njit
def address(call: Any, which: int, row: int, head: int, frame: int) -> Any:
    """Return address of one frame of one head of one row of a batch."""
    of = call.operands[which]
    return of[0] + row * of[1] + head * of[2] + frame * of[3]


@njit
def ask_for(rows: int, stride: int, begin: int, end: int, size: int) -> None:
    """Prefetch `size` bytes of each of the rows [begin, end), which are read soon."""
    for row in range(begin, end):
        for x in range(0, size, 64):
            prefetch(rows + row * stride + x, 0)


@njit
def ask_to_write(rows: int, stride: int, begin: int, end: int, size: int) -> None:
    """Prefetch `size` bytes of each of the rows [begin, end), which are written soon."""
    for row in range(begin, end):
        for x in range(0, size, 64):
            prefetch(rows + row * stride + x, 1)


@njit
def strip_of(like: Any, block: Any, scores: int, half: int) -> Any:
    """Return address of the first score of a half of the block, and the number of its keys."""
    row = block.starts[half] - block.starts[0]
    at = scores + row * row_size(like) + half * num_lanes(like) * FLOAT
    return at, block.stops[half] - block.starts[half]


@njit
def all_transposed(like: Any, call: Any, block: Any, which: int, depth: int, factor: float, columns: int) -> None:
    """Return columns [depth, queries]: the block's rows of an operand, times a factor; spare lanes repeat the last."""
    lanes, stride = num_lanes(like), call.operands[which, 3]
    for half in range(block.halves):
        first = address(call, which, block.row, block.head, block.t + half * lanes)
        last, target = block.number - half * lanes - 1, columns + half * lanes * FLOAT
        for d in range(0, depth, lanes):
            transpose(like, first + d * FLOAT, stride, last, target + d * row_size(like), np.float32(factor))


@njit
def dots_of_both(
    like: Any,
    columns: int,
    rows: int,
    stride: int,
    number: int,
    depth: int,
    target: int,
    new: int,
    queries: int,
    queries_stride: int,
) -> None:
    """Compute target [number, queries] = rows [number, depth] @ columns [depth, queries], for both halves.

    The last tile of 8 (AVX2: 6) may begin inside the one before it and write some sums again: they are the same.
    Meanwhile as many `new` rows and `queries` as there are lanes are prefetched: the start of the head's next block.
    """
    lanes, j = num_lanes(like), 0
    tile = 8 if lanes == 16 else 6  # AVX2 has half the registers
    while j < number and number >= tile:
        j = min(j, number - tile)
        first, last = 2 * lanes * j // number, 2 * lanes * (j + tile) // number
        ask_for(new, stride, first, last, depth * FLOAT)
        ask_for(queries, queries_stride, first, last, depth * FLOAT)
        if tile == 8:
            dots(like, 8, 2, columns, rows + j * stride, stride, depth, target + j * row_size(like))
        else:
            dots(like, 6, 2, columns, rows + j * stride, stride, depth, target + j * row_size(like))
        j += tile
    while j < number:
        dots(like, 1, 2, columns, rows + j * stride, stride, depth, target + j * row_size(like))
        j += 1


@njit
def dots_of_half(like: Any, columns: int, rows: int, stride: int, number: int, depth: int, target: int) -> None:
    """Compute the same for one half, by tiles of 16 (AVX2: 8), 4 and 1 keys."""
    tile, j = num_lanes(like), 0
    while j + tile <= number:
        if tile == 16:
            dots(like, 16, 1, columns, rows + j * stride, stride, depth, target + j * row_size(like))
        else:
            dots(like, 8, 1, columns, rows + j * stride, stride, depth, target + j * row_size(like))
        j += tile
    while j < number and number >= 4:
        j = min(j, number - 4)
        dots(like, 4, 1, columns, rows + j * stride, stride, depth, target + j * row_size(like))
        j += 4
    while j < number:
        dots(like, 1, 1, columns, rows + j * stride, stride, depth, target + j * row_size(like))
        j += 1


@njit
def all_dots(like: Any, call: Any, block: Any, columns: int, which: int, depth: int, target: int) -> None:
    """Compute target [keys, queries] = the operand's rows @ columns [depth, queries], for the halves that see a key."""
    half, size, stride, start = num_lanes(like) * FLOAT, row_size(like), call.operands[which, 3], block.starts[0]
    rows = address(call, which, block.row, block.head, start)
    begin, end, stop = block.starts[1] - start, block.stops[0] - start, block.stops[1] - start
    dots_of_half(like, columns, rows, stride, begin, depth, target)
    shared = target + begin * size
    other = Q if which == K else GRAD_OUTPUT
    new, queries = rows + stop * stride, address(call, other, block.row, block.head, block.t + 2 * num_lanes(like))
    queries_stride = call.operands[other, 3]
    dots_of_both(like, columns, rows + begin * stride, stride, end - begin, depth, shared, new, queries, queries_stride)
    columns, target = columns + half, target + half
    dots_of_half(like, columns, rows + end * stride, stride, stop - end, depth, target + end * size)


@njit
def each_query(
    like: Any, call: Any, block: Any, weights: int, values: int, factors: int, target: int, width: int
) -> None:
    """Write weights [keys, queries] transposed times the rows of the operand `values` to the block's rows of `target`.

    Eight queries at a time (AVX2: 4), over the keys that one of them sees; two vectors of features at a time, outside
    the loop over the queries, because half of the values stay in the first-level cache and all of them do not.
    """
    lanes, size, stride, to_stride = num_lanes(like), row_size(like), call.operands[values, 3], call.operands[target, 3]
    c, many, start = 0, num_lanes(like) // 2, block.starts[0]
    while c < width:
        wide, lane = vectors_of(like, width - c), 0
        while lane < block.number:
            rows = many if lane + many <= block.number else 1
            first = np.int64(call.low[block.t + lane])
            count = min(np.int64(call.high[block.t + lane + rows - 1]), block.length) - first
            here = weights + (first - start) * size + lane * FLOAT
            source = address(call, values, block.row, block.head, first) + c * FLOAT
            to = address(call, target, block.row, block.head, block.t + lane) + c * FLOAT
            factor = factors + lane * FLOAT
            ask_for(source, stride, count, count + rows, wide * lanes * FLOAT)
            ask_to_write(to, to_stride, rows, 2 * rows, wide * lanes * FLOAT)
            if rows == 8 and wide == 2:
                product(like, 8, 2, 0, here, source, stride, count, factor, to, to_stride)
            elif rows == 8:
                product(like, 8, 1, 0, here, source, stride, count, factor, to, to_stride)
            elif rows == 4 and wide == 3:
                product(like, 4, 3, 0, here, source, stride, count, factor, to, to_stride)
            elif rows == 4 and wide == 2:
                product(like, 4, 2, 0, here, source, stride, count, factor, to, to_stride)
            elif rows == 4:
                product(like, 4, 1, 0, here, source, stride, count, factor, to, to_stride)
            else:
                for x in range(0, wide * lanes * FLOAT, lanes * FLOAT):
                    product(like, 1, 1, 0, here, source + x, stride, count, factor, to + x, to_stride)
            lane += rows
        c += wide * lanes


@njit
def vectors_of(like: Any, width: int) -> Any:
    """Return the vectors of features that `each_query` takes next: 2 and at the end 1, with AVX2 3, 2 or 1."""
    left = width // num_lanes(like)
    if num_lanes(like) == 16:
        return min(left, 2)
    return 2 if left == 4 else min(left, 3)


@njit
def each_key(
    like: Any, call: Any, block: Any, weights: int, values: int, factors: int, target: int, width: int
) -> None:
    """Add weights [keys, queries] times the block's rows of the operand `values` to the rows of `target` at its keys.

    Four keys at a time, over the queries that see one of them: low and high never fall, so those are neighbours.
    """
    lanes, stride, to_stride = num_lanes(like), call.operands[values, 3], call.operands[target, 3]
    key, first, last = block.starts[0], 0, 0
    while key < block.stops[1]:
        rows = 4 if key + 4 <= block.stops[1] else 1
        while first < block.number and min(call.high[block.t + first], block.length) <= key:
            first += 1
        while last < block.number and call.low[block.t + last] < key + rows:
            last += 1
        here = weights + (key - block.starts[0]) * row_size(like) + first * FLOAT
        source = address(call, values, block.row, block.head, block.t + first)
        to = address(call, target, block.row, block.head, key)
        c, count = 0, last - first
        while c < width:
            v, o, left = source + c * FLOAT, to + c * FLOAT, (width - c) // lanes
            if rows == 1:
                product(like, 1, 1, 1, here, v, stride, count, factors, o, to_stride)
                c += lanes
            elif left >= 4 and lanes == 16:
                product(like, 4, 4, 1, here, v, stride, count, factors, o, to_stride)
                c += 4 * lanes
            elif left >= 3 and left != 4 and lanes == 8:
                product(like, 4, 3, 1, here, v, stride, count, factors, o, to_stride)
                c += 3 * lanes
            elif left >= 2:
                product(like, 4, 2, 1, here, v, stride, count, factors, o, to_stride)
                c += 2 * lanes
            else:
                product(like, 4, 1, 1, here, v, stride, count, factors, o, to_stride)
                c += lanes
        key += rows


@njit
def clear_between(like: Any, block: Any, scores: int) -> None:
    """Write zeros where four keys of `each_key` reach into rows that one half of the block has no scores in."""
    size, half = row_size(like), num_lanes(like) * FLOAT
    start = block.starts[0]
    begin, end, stop = block.starts[1] - start, block.stops[0] - start, block.stops[1] - start
    for j in range(max(0, begin - 3), begin):
        store(scores + j * size + half, splat(like, 0.0))
    for j in range(end, min(end + 3, stop)):
        store(scores + j * size, splat(like, 0.0))
