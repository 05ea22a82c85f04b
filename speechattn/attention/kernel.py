"""The loops of native attention, compiled by numba: forward and backward over blocks of queries.

Read `forward_block` first; everything else repeats its pattern. It computes what `dense.py` computes for `lanes`
neighbouring queries of one head, 16 with AVX-512 and 8 with AVX2, by one idea: **scores are kept transposed**.
A row of the scratch array `scores` is a key, a column (a *lane*) is a query::

                     lane 0   lane 1   lane 2   lane 3      queries t .. t + 3, left=2, right=1
    key t - 2          #        .        .        .         '#' a query sees a key; '.' is masked to exactly 0
    key t - 1          #        #        .        .         low  = 0  1  2  3    first row that a lane sees
    key t              #        #        #        .         high = 4  5  6  7    first row past it
    key t + 1          #        #        #        #
    key t + 2          .        #        #        #         Only rows before max(low) = 3 and from min(high) = 4 on
    key t + 3          .        .        #        #         need a mask; between them every lane sees every key,
    key t + 4          .        .        .        #         which in a real window is nearly everything.

So the maximum, the exponential and the sum of a softmax go down the columns, and each of their steps is one
instruction for all queries. No key is padded or aligned: a window may begin anywhere, and a chunk is only another `low`
and `high`. The four steps of a block:

1. `transpose`: the queries as columns, times scale * log2(e), so that exp(score) becomes 2**score.
2. `all_dots`: scores[key][lane], 16 keys at a time.
3. Bias, mask, maximum, exp2, sum: down the columns, in the first-level cache.
4. `each_query`: the values of each query's keys weighted and summed, eight queries at a time, over the keys that
   one of those eight sees.

Backward keeps q, k, v and `lse`, the log2 of the sum that divided the weights, and repeats steps 1 and 2. With
P the weights, dO the gradient of the output and dP = dO V^T::

    dV = P^T dO        dS = P * (dP - sum over keys of P * dP)        dQ = scale dS K        dK = scale dS^T Q

dQ belongs to the block alone. dV and dK of a key get a share from every block that sees it: they are added to
zeros, in the order of the blocks, and `native.py` sees to it that no two threads are near the same key.

Everything is an address, in bytes and unchecked, because that is what the tiles of `vectors.py` take. The caller
answers for shapes, strides and lifetimes: these functions are called by `native.py` and by nobody else.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np
from numba import config, njit

from speechattn.attention.scores import (
    FLOAT,
    LOG2_E,
    LOWEST,
    add_bias,
    log2,
    mask,
    rectified_gradient,
    rectify,
    row_size,
    softmax,
    softmax_again,
    softmax_gradient,
)
from speechattn.attention.tiles import dots, product, transpose
from speechattn.attention.vectors import (
    add,
    counted,
    divide,
    fetch,
    load,
    minimum,
    num_lanes,
    prefetch,
    splat,
    store,
    subtract,
    zeros,
)

Q, K, V, OUTPUT, LSE, BIAS, GRAD_OUTPUT, GRAD_Q, GRAD_K, GRAD_V, GRAD_BIAS = map(np.int64, range(11))
"""Rows of `operands` int64 [11, 4]: a tensor's address and its strides from row to row, head to head, frame to frame.

All in bytes; features lie side by side, and so do the frames of LSE. An address of 0 is a tensor that this call does
not have. BIAS and GRAD_BIAS have no frames: `native.py` says what they hold. (numpy's integers, because numba compiles
a function anew for every Python integer that it is called with and knows beforehand.)
"""
Call = namedtuple("Call", "operands low high depth width scale relu")
"""What all blocks share. Query i sees the keys [low[i], high[i]), clipped to its row's length."""
Block = namedtuple("Block", "row head t number length halves starts stops")
"""`number` queries from frame `t` of one head of one row. Those of half h see the keys [starts[h], stops[h])."""
Scratch = namedtuple("Scratch", "columns lanes factors ones scales scores grads")
"""Addresses of what a block keeps at hand; one row is two vectors: [depth] rows, 1, 1, 1, 1, and twice [keys] rows."""

HEADS = 4
"""Heads that a block is done for in turn."""


@njit
def address(call: Any, which: int, row: int, head: int, frame: int) -> Any:
    """Address of one frame of one head of one row of a batch."""
    of = call.operands[which]
    return of[0] + row * of[1] + head * of[2] + frame * of[3]


@njit
def ask_for(rows: int, stride: int, begin: int, end: int, size: int) -> None:
    """Ask memory for `size` bytes of each of the rows [begin, end), which are read soon."""
    for row in range(begin, end):
        for x in range(0, size, 64):
            prefetch(rows + row * stride + x, 0)


@njit
def ask_to_write(rows: int, stride: int, begin: int, end: int, size: int) -> None:
    """The same for rows that are written soon."""
    for row in range(begin, end):
        for x in range(0, size, 64):
            prefetch(rows + row * stride + x, 1)


@njit
def strip_of(like: Any, block: Any, scores: int, half: int) -> Any:
    """Address of the first score of a half of the block, and the number of its keys."""
    row = block.starts[half] - block.starts[0]
    at = scores + row * row_size(like) + half * num_lanes(like) * FLOAT
    return at, block.stops[half] - block.starts[half]


@njit
def all_transposed(like: Any, call: Any, block: Any, which: int, depth: int, factor: float, columns: int) -> None:
    """Columns [depth, queries] of the block's rows of an operand, times a factor; spare lanes repeat the last row."""
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
    """target [number, queries] = rows [number, depth] @ columns [depth, queries], for both halves.

    The last tile of 8 (AVX2: 4) may begin inside the one before it and write some sums again: they are the same.
    """
    tile, j = num_lanes(like) // 2, 0
    while j < number and number >= tile:
        j = min(j, number - tile)
        first, last = 4 * tile * j // number, 4 * tile * (j + tile) // number
        ask_for(new, stride, first, last, depth * FLOAT)
        ask_for(queries, queries_stride, first, last, depth * FLOAT)
        if tile == 8:
            dots(like, 8, 2, columns, rows + j * stride, stride, depth, target + j * row_size(like))
        else:  # AVX2 has half the registers
            dots(like, 4, 2, columns, rows + j * stride, stride, depth, target + j * row_size(like))
        j += tile
    while j < number:
        dots(like, 1, 2, columns, rows + j * stride, stride, depth, target + j * row_size(like))
        j += 1


@njit
def dots_of_half(like: Any, columns: int, rows: int, stride: int, number: int, depth: int, target: int) -> None:
    """The same for one half, by tiles of 16 (AVX2: 8), 4 and 1 keys."""
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
    """target [keys, queries] = the operand's rows @ columns [depth, queries]: of both halves where both see a key."""
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
def limits(like: Any, call: Any, block: Any, half: int, scratch: Any) -> Any:
    """Low and high of every lane of a half, counted from its first key."""
    lanes, start = num_lanes(like), block.starts[half]
    t, most = block.t + half * lanes, splat(like, float(block.length - start))
    if t + lanes <= len(call.low):
        low = counted(like, call.low.ctypes.data + t * 4, start)
        return low, minimum(counted(like, call.high.ctypes.data + t * 4, start), most)
    other = scratch.lanes + lanes * FLOAT
    for lane in range(lanes):
        i = min(t + lane, len(call.low) - 1)  # spare lanes repeat the last query
        store(scratch.lanes + lane * FLOAT, np.float32(call.low[i] - start))
        store(other + lane * FLOAT, np.float32(call.high[i] - start))
    return load(like, scratch.lanes), minimum(load(like, other), most)


@njit
def block_scores(like: Any, call: Any, block: Any, scratch: Any) -> None:
    """Fill scratch.scores [keys, queries] with masked scores: times log2(e), unless they are for relu."""
    lanes = num_lanes(like)
    factor = call.scale if call.relu else call.scale * LOG2_E
    all_transposed(like, call, block, Q, call.depth, factor, scratch.columns)
    all_dots(like, call, block, scratch.columns, K, call.depth, scratch.scores)
    for half in range(block.halves):
        strip, keys = strip_of(like, block, scratch.scores, half)
        t, start = block.t + half * lanes, block.starts[half]
        if call.operands[BIAS, 0] != 0:
            # The next lane is one distance nearer to its key.
            add_bias(like, strip, keys, address(call, BIAS, 0, block.head, 0) + (t - start) * FLOAT)
        # Keys that every lane sees, [low of the last, high of the first), need no mask.
        from_low = call.low[min(t + lanes, block.t + block.number) - 1] - start
        to_high = min(call.high[t], block.length) - start
        low, high = limits(like, call, block, half, scratch)
        outside = 0.0 if call.relu else LOWEST
        mask(like, strip, 0, min(from_low, keys), low, high, outside)
        mask(like, strip, max(from_low, to_high), keys, low, high, outside)


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
        pair = c + 2 * lanes <= width
        lane = 0
        while lane < block.number:
            rows = many if lane + many <= block.number else 1
            first = np.int64(call.low[block.t + lane])
            count = min(np.int64(call.high[block.t + lane + rows - 1]), block.length) - first
            here = weights + (first - start) * size + lane * FLOAT
            source = address(call, values, block.row, block.head, first) + c * FLOAT
            to = address(call, target, block.row, block.head, block.t + lane) + c * FLOAT
            factor = factors + lane * FLOAT
            ask_for(source, stride, count, count + rows, 128)
            ask_to_write(to, to_stride, rows, 2 * rows, 128)
            if rows == 8 and pair:
                product(like, 8, 2, 0, here, source, stride, count, factor, to, to_stride)
            elif rows == 8:
                product(like, 8, 1, 0, here, source, stride, count, factor, to, to_stride)
            elif rows == 4 and pair:
                product(like, 4, 2, 0, here, source, stride, count, factor, to, to_stride)
            elif rows == 4:
                product(like, 4, 1, 0, here, source, stride, count, factor, to, to_stride)
            elif pair:
                product(like, 1, 2, 0, here, source, stride, count, factor, to, to_stride)
            else:
                product(like, 1, 1, 0, here, source, stride, count, factor, to, to_stride)
            lane += rows
        c += 2 * lanes if pair else lanes


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
            elif left >= 2:
                product(like, 4, 2, 1, here, v, stride, count, factors, o, to_stride)
                c += 2 * lanes
            else:
                product(like, 4, 1, 1, here, v, stride, count, factors, o, to_stride)
                c += lanes
        key += rows


@njit
def clear_between(like: Any, block: Any, scores: int) -> None:
    """Zeros where four keys of `each_key` reach into rows that one half of the block has no scores in."""
    size, half = row_size(like), num_lanes(like) * FLOAT
    begin, end, stop = [x - block.starts[0] for x in (block.starts[1], block.stops[0], block.stops[1])]
    for j in range(max(0, begin - 3), begin):
        store(scores + j * size + half, splat(like, 0.0))
    for j in range(end, min(end + 3, stop)):
        store(scores + j * size, splat(like, 0.0))


@njit
def keep_lse(like: Any, call: Any, block: Any, half: int, lse: Any, scratch: Any) -> None:
    """Write a half's lse to its frames."""
    lanes = num_lanes(like)
    to, number = address(call, LSE, block.row, block.head, block.t + half * lanes), block.number - half * lanes
    if number >= lanes:
        store(to, lse)
        return
    store(scratch.lanes, lse)
    for lane in range(number):
        store(to + lane * FLOAT, fetch(scratch.lanes + lane * FLOAT))


@njit
def kept_lse(like: Any, call: Any, block: Any, half: int, scratch: Any) -> Any:
    """The lse of a half; spare lanes repeat the last one."""
    lanes = num_lanes(like)
    at, number = address(call, LSE, block.row, block.head, block.t + half * lanes), block.number - half * lanes
    if number >= lanes:
        return load(like, at)
    for lane in range(lanes):
        store(scratch.lanes + lane * FLOAT, fetch(at + min(lane, number - 1) * FLOAT))
    return load(like, scratch.lanes)


@njit
def seen(like: Any, call: Any, block: Any, half: int, scratch: Any) -> Any:
    """The number of keys that every lane of a half sees."""
    low, high = limits(like, call, block, half, scratch)
    return subtract(high, low)


@njit
def forward_block(like: Any, call: Any, block: Any, scratch: Any) -> None:
    """Write the block's output, and its lse."""
    block_scores(like, call, block, scratch)
    one = splat(like, 1.0)
    for half in range(block.halves):
        strip, keys = strip_of(like, block, scratch.scores, half)
        if call.relu:
            rectify(like, strip, keys, one)
            total = seen(like, call, block, half, scratch)
        else:
            top, total = softmax(like, strip, keys)
            keep_lse(like, call, block, half, add(top, log2(total)), scratch)
        store(scratch.factors + half * num_lanes(like) * FLOAT, divide(one, total))
    each_query(like, call, block, scratch.scores, V, scratch.factors, OUTPUT, call.width)


@njit
def weights_again(like: Any, call: Any, block: Any, scratch: Any) -> None:
    """Replace the scores [keys, queries] by the weights of forward, from the lse it left."""
    for half in range(block.halves):
        strip, keys = strip_of(like, block, scratch.scores, half)
        if call.relu:
            rectify(like, strip, keys, divide(splat(like, 1.0), seen(like, call, block, half, scratch)))
        else:
            softmax_again(like, strip, keys, kept_lse(like, call, block, half, scratch))
    clear_between(like, block, scratch.scores)


@njit
def grad_scores(like: Any, call: Any, block: Any, scratch: Any) -> None:
    """Replace scratch.grads, the gradient of the weights [keys, queries], by the gradient of the scores."""
    for half in range(block.halves):
        weights, keys = strip_of(like, block, scratch.scores, half)
        grads, _ = strip_of(like, block, scratch.grads, half)
        if call.relu:
            share = divide(splat(like, 1.0), seen(like, call, block, half, scratch))
            rectified_gradient(like, weights, grads, keys, share)
        else:
            softmax_gradient(like, weights, grads, keys)
    clear_between(like, block, scratch.grads)


@njit
def add_to_table(like: Any, block: Any, grads: int, table: int) -> None:
    """Add the gradient of the scores to that of the reversed table, whose distance 0 is at `table`.

    Neighbouring keys add to almost the same floats, and a load that overlaps the store just before it has to wait:
    so keys a vector apart follow one another.
    """
    lanes, size = num_lanes(like), row_size(like)
    for half in range(block.halves):
        strip, keys = strip_of(like, block, grads, half)
        t = block.t + half * lanes
        for j in range(keys):
            for lane in range(block.t + block.number - t, lanes):  # spare lanes are no queries
                store(strip + j * size + lane * FLOAT, np.float32(0.0))
        first = table + (t - block.starts[half]) * FLOAT
        for begin in range(min(lanes, keys)):
            for j in range(begin, keys, lanes):
                here = first - j * FLOAT
                store(here, add(load(like, here), load(like, strip + j * size)))


@njit
def backward_block(like: Any, call: Any, block: Any, scratch: Any, grad_bias: int) -> None:
    """Write the block's grad_q, and add its shares of grad_k, grad_v and, unless 0, the table at `grad_bias`."""
    block_scores(like, call, block, scratch)
    weights_again(like, call, block, scratch)
    each_key(like, call, block, scratch.scores, GRAD_OUTPUT, scratch.ones, GRAD_V, call.width)

    all_transposed(like, call, block, GRAD_OUTPUT, call.width, 1.0, scratch.columns)
    all_dots(like, call, block, scratch.columns, V, call.width, scratch.grads)
    grad_scores(like, call, block, scratch)

    each_query(like, call, block, scratch.grads, K, scratch.scales, GRAD_Q, call.depth)
    each_key(like, call, block, scratch.grads, Q, scratch.scales, GRAD_K, call.depth)
    if grad_bias != 0:
        add_to_table(like, block, scratch.grads, grad_bias)


@njit
def clear(like: Any, call: Any, which: int, row: int, head: int, begin: int, end: int, width: int) -> None:
    """Zeros in the frames [begin, end) of an operand."""
    for frame in range(begin, end):
        here = address(call, which, row, head, frame)
        for c in range(0, width, num_lanes(like)):
            store(here + c * FLOAT, splat(like, 0.0))


@njit
def scratch_of(like: Any, buffer: Any, call: Any, most_keys: int) -> Any:
    """Addresses inside `buffer`, aligned to a cache line."""
    size, half = row_size(like), num_lanes(like) * FLOAT
    columns = (buffer.ctypes.data + 63) // 64 * 64
    lanes, factors, ones, scales, scores = [columns + (max(call.depth, call.width) + i) * size for i in range(5)]
    for x in (0, half):
        store(ones + x, splat(like, 1.0))
        store(scales + x, splat(like, call.scale))
    return Scratch(columns, lanes, factors, ones, scales, scores, scores + most_keys * size)


@njit
def first_touched(call: Any, begin: int, end: int, length: int, shared: bool) -> Any:
    """The keys whose gradients the part of the queries [begin, end) is the first to add to, so it clears them.

    Parts come in two waves. Those of the first are so far apart that no two see one key, and clear all they see;
    each of the second, `shared`, has parts of the first on both sides, and clears what lies between those two.
    """
    start, stop = np.int64(call.low[begin]), min(np.int64(call.high[end - 1]), length)
    if shared:
        start = max(start, min(np.int64(call.high[begin - 1]), length))
        if end < length:
            stop = min(stop, np.int64(call.low[end]))
    return start, stop


@njit
def block_at(like: Any, call: Any, row: int, head: int, t: int, end: int, length: int) -> Any:
    """The block of the queries from t on, which end before `end`."""
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
    """The function that native.py calls. Only numbers may differ between the four, or numba's cache forgets them."""

    @njit(nogil=True, cache=bool(config.CACHE_DIR))
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
        task = first
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
        return len(buffer)  # numba frees an array after its last use, and addresses are none

    return run_tasks


forward = {lanes: _tasks(lanes, False) for lanes in (8, 16)}
backward = {lanes: _tasks(lanes, True) for lanes in (8, 16)}
