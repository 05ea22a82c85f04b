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

from speechattn.attention.vectors import (
    add,
    between,
    divide,
    dots,
    exponent,
    fetch,
    fma,
    load,
    mantissa,
    maximum,
    multiply,
    num_lanes,
    product,
    splat,
    store,
    subtract,
    times_power_of_two,
    transpose,
    zeros,
)

Q, K, V, OUTPUT, LSE, BIAS, GRAD_OUTPUT, GRAD_Q, GRAD_K, GRAD_V, GRAD_BIAS = map(np.int64, range(11))
"""Rows of `operands` int64 [11, 4]: a tensor's address and its strides from row to row, head to head, frame to frame.

All in bytes; features lie side by side. An address of 0 is a tensor that this call does not have. BIAS and GRAD_BIAS
have no frames: `native.py` says what they hold. (numpy's integers, because numba compiles a function anew for every
Python integer that it is called with and knows beforehand.)
"""
FLOAT = 4
"""Bytes of a float32."""
Call = namedtuple("Call", "operands low high depth width scale relu")
"""What all blocks share. Query i sees the keys [low[i], high[i]), clipped to its row's length."""
Block = namedtuple("Block", "row head t number start stop length")
"""`number` queries from frame `t` of one head of one row; together they see the keys [start, stop)."""
Scratch = namedtuple("Scratch", "columns limits lse factors ones scales scores grads")
"""Addresses of what a block keeps at hand: [depth, lanes], [2, lanes], four times [lanes], twice [keys, lanes]."""
LOWEST = -3e38
"""A masked score. Not -inf, because -inf - -inf is NaN."""
LOG2_E = 1.4426950408889634
ROUNDER = 12582912.0
"""1.5 * 2**23: adding it to a float leaves no bits for a fraction, so it rounds to an integer."""
EXP2 = (0.693147004, 0.240222424, 0.0555073358, 0.00967151299, 0.00132647273)
"""2**r = 1 + r * (EXP2[0] + r * (...)) for |r| <= 1/2: the minimax polynomial that is 1 at 0, relative error 9e-8."""
LOG2 = (2.8853900817779268, 0.9617966939259756, 0.5770780163555854, 0.4121985831111324)
"""log2((1 + s) / (1 - s)) = s * (LOG2[0] + LOG2[1] * s**2 + ...): 2 / ln 2 over 1, 3, 5, 7."""


@njit
def exp2(x: Any) -> Any:
    """2**x for x <= 1, and exactly 0 for x <= -127; NaN stays NaN."""
    x = maximum(splat(x, -127.0), x)
    shifted = add(x, splat(x, ROUNDER))
    r = subtract(x, subtract(shifted, splat(x, ROUNDER)))
    y = fma(splat(x, EXP2[4]), r, splat(x, EXP2[3]))
    y = fma(y, r, splat(x, EXP2[2]))
    y = fma(y, r, splat(x, EXP2[1]))
    y = fma(y, r, splat(x, EXP2[0]))
    return times_power_of_two(fma(y, r, splat(x, 1.0)), shifted)


@njit
def log2(x: Any) -> Any:
    """log2 of positive x, with an absolute error of 1e-7 beside the rounding of the result."""
    # m / 1.5 lies in [2/3, 4/3): near 1, where the series converges fast.
    m = multiply(mantissa(x), splat(x, 1 / 1.5))
    s = divide(subtract(m, splat(x, 1.0)), add(m, splat(x, 1.0)))
    square = multiply(s, s)
    y = fma(splat(x, LOG2[3]), square, splat(x, LOG2[2]))
    y = fma(y, square, splat(x, LOG2[1]))
    y = fma(y, square, splat(x, LOG2[0]))
    return fma(y, s, add(exponent(x), splat(x, 0.5849625007211562)))


@njit
def all_transposed(like: Any, rows: int, stride: int, number: int, depth: int, factor: float, columns: int) -> None:
    """Columns [depth, lanes] of rows [number, depth], times a factor; spare lanes repeat the last row."""
    lanes = num_lanes(like)
    for d in range(0, depth, lanes):
        transpose(like, rows + d * FLOAT, stride, number - 1, columns + d * lanes * FLOAT, np.float32(factor))


@njit
def all_dots(like: Any, columns: int, rows: int, stride: int, number: int, depth: int, target: int) -> None:
    """target [number, lanes] = rows [number, depth] @ columns [depth, lanes], by tiles of 16 (AVX2: 8), 4 and 1 rows.

    The last tile of 4 may begin inside the tile before it and write some of its sums again: they are the same.
    """
    size = num_lanes(like) * FLOAT
    j = 0
    if num_lanes(like) == 16:  # 16 sums want more registers than AVX2 has
        while j + 16 <= number:
            dots(like, 16, columns, rows + j * stride, stride, depth, target + j * size)
            j += 16
    else:
        while j + 8 <= number:
            dots(like, 8, columns, rows + j * stride, stride, depth, target + j * size)
            j += 8
    while j < number and number >= 4:
        j = min(j, number - 4)
        dots(like, 4, columns, rows + j * stride, stride, depth, target + j * size)
        j += 4
    while j < number:
        dots(like, 1, columns, rows + j * stride, stride, depth, target + j * size)
        j += 1


def _all_products(adds: int) -> Any:
    """The function that writes whole rows, or with `adds` adds to them, by tiles of a few rows and a few vectors."""

    @njit
    def all_products(
        like: Any,
        number: int,
        width: int,
        weights: int,
        row_stride: int,
        sum_stride: int,
        values: int,
        value_stride: int,
        count: int,
        factors: int,
        target: int,
        target_stride: int,
    ) -> None:
        """target [number, width] (+)= factors * (weights [number, count] @ values [count, width]); number 8, 4 or less.

        With 16 lanes there are registers for 16 sums: 4 x 4, or 8 x 2, which reads the values half as often but wants
        8 rows that sum over nearly the same. With 8 lanes, AVX2, there are registers for 8 sums.
        """
        vector = num_lanes(like) * FLOAT
        many = num_lanes(like) == 16
        c, end, s, n = 0, width * FLOAT, value_stride, target_stride
        while c < end:
            v, o, left = values + c, target + c, (end - c) // vector
            if number < 4:
                for r in range(number):
                    w, f, to = weights + r * row_stride, factors + r * FLOAT, o + r * n
                    product(like, 1, 1, adds, w, row_stride, sum_stride, v, s, count, f, to, n)
                c += vector
            elif number == 8 and left >= 2:
                product(like, 8, 2, adds, weights, row_stride, sum_stride, v, s, count, factors, o, n)
                c += 2 * vector
            elif number == 8:
                product(like, 8, 1, adds, weights, row_stride, sum_stride, v, s, count, factors, o, n)
                c += vector
            elif many and left >= 4:
                product(like, 4, 4, adds, weights, row_stride, sum_stride, v, s, count, factors, o, n)
                c += 4 * vector
            elif left >= 2:
                product(like, 4, 2, adds, weights, row_stride, sum_stride, v, s, count, factors, o, n)
                c += 2 * vector
            else:
                product(like, 4, 1, adds, weights, row_stride, sum_stride, v, s, count, factors, o, n)
                c += vector

    return all_products


set_products, add_products = _all_products(0), _all_products(1)


@njit
def address(call: Any, which: int, row: int, head: int, frame: int) -> Any:
    """Address of one frame of one head of one row of a batch."""
    of = call.operands[which]
    return of[0] + row * of[1] + head * of[2] + frame * of[3]


@njit
def bounds(like: Any, call: Any, block: Any, limits: int) -> None:
    """Write low and high of every lane, counted from the block's first key, as two vectors."""
    lanes = num_lanes(like)
    for lane in range(lanes):
        i = block.t + min(lane, block.number - 1)  # spare lanes repeat the last query
        store(limits + lane * FLOAT, np.float32(call.low[i] - block.start))
        store(limits + (lanes + lane) * FLOAT, np.float32(min(call.high[i], block.length) - block.start))


@njit
def mask(like: Any, scores: int, begin: int, end: int, limits: int, outside: float) -> None:
    """Put `outside` into the scores of keys [begin, end) in the lanes that do not see them."""
    size = num_lanes(like) * FLOAT
    low, high, other = load(like, limits), load(like, limits + size), splat(like, outside)
    for j in range(begin, end):
        here = scores + j * size
        store(here, between(load(like, here), splat(like, float(j)), low, high, other))


@njit
def block_scores(like: Any, call: Any, block: Any, scratch: Any) -> None:
    """Fill scratch.scores [keys, lanes] with the block's masked scores: of log2(e), unless they are for relu."""
    size, keys = num_lanes(like) * FLOAT, block.stop - block.start
    factor = call.scale if call.relu else call.scale * LOG2_E
    first = address(call, Q, block.row, block.head, block.t)
    all_transposed(like, first, call.operands[Q, 3], block.number, call.depth, factor, scratch.columns)
    first = address(call, K, block.row, block.head, block.start)
    all_dots(like, scratch.columns, first, call.operands[K, 3], keys, call.depth, scratch.scores)
    if call.operands[BIAS, 0] != 0:
        # The next lane is one distance nearer to its key, the next key one farther: the table is reversed.
        bias = address(call, BIAS, 0, block.head, 0) + (block.t - block.start) * FLOAT
        for j in range(keys):
            here = scratch.scores + j * size
            store(here, add(load(like, here), load(like, bias - j * FLOAT)))
    bounds(like, call, block, scratch.limits)
    # Keys that every lane sees, [low of the last, high of the first), need no mask.
    low = call.low[block.t + block.number - 1] - block.start
    high = min(call.high[block.t], block.length) - block.start
    outside = 0.0 if call.relu else LOWEST
    mask(like, scratch.scores, 0, min(low, keys), scratch.limits, outside)
    mask(like, scratch.scores, max(low, high), keys, scratch.limits, outside)


@njit
def softmax(like: Any, scores: int, number: int) -> Any:
    """Replace scores [number, lanes] by 2**(score - max); returns the max and the sum of every lane."""
    size = num_lanes(like) * FLOAT
    top = splat(like, LOWEST)
    other, j = top, 0
    while j + 4 <= number:  # two chains, because a maximum waits for the one before it
        here = scores + j * size
        top = maximum(maximum(load(like, here), load(like, here + size)), top)
        other = maximum(maximum(load(like, here + 2 * size), load(like, here + 3 * size)), other)
        j += 4
    while j < number:
        top = maximum(load(like, scores + j * size), top)
        j += 1
    top = maximum(top, other)
    total = splat(like, 0.0)
    for j in range(number):
        here = scores + j * size
        weight = exp2(subtract(load(like, here), top))
        total = add(total, weight)
        store(here, weight)
    return top, total


@njit
def rectify(like: Any, scores: int, number: int, limits: int) -> Any:
    """Replace scores [number, lanes] by max(score, 0); returns the number of keys that every lane sees."""
    size = num_lanes(like) * FLOAT
    for j in range(number):
        here = scores + j * size
        store(here, maximum(splat(like, 0.0), load(like, here)))
    return subtract(load(like, limits + size), load(like, limits))


@njit
def each_query(
    like: Any, call: Any, block: Any, weights: int, values: int, factors: int, target: int, width: int
) -> None:
    """Write weights [keys, lanes] transposed times the rows of the operand `values` to the block's rows of `target`.

    Eight queries at a time (AVX2: 4), over the keys that one of them sees.
    """
    size, lane = num_lanes(like) * FLOAT, 0
    while lane < block.number:
        rows = 8 if size == 64 and lane + 8 <= block.number else 4 if lane + 4 <= block.number else 1
        first = np.int64(call.low[block.t + lane])
        last = min(np.int64(call.high[block.t + lane + rows - 1]), block.length)
        here = weights + (first - block.start) * size + lane * FLOAT
        source = address(call, values, block.row, block.head, first)
        to = address(call, target, block.row, block.head, block.t + lane)
        factor, stride, to_stride = factors + lane * FLOAT, call.operands[values, 3], call.operands[target, 3]
        set_products(like, rows, width, here, FLOAT, size, source, stride, last - first, factor, to, to_stride)
        lane += rows


@njit
def each_key(
    like: Any, call: Any, block: Any, weights: int, values: int, factors: int, target: int, width: int
) -> None:
    """Add weights [keys, lanes] times the block's rows of the operand `values` to the rows of `target` at its keys.

    Four keys at a time, over the queries that see one of them: low and high never fall, so those are neighbours.
    """
    size, key = num_lanes(like) * FLOAT, block.start
    first = last = 0
    while key < block.stop:
        rows = 4 if key + 4 <= block.stop else 1
        while first < block.number and min(call.high[block.t + first], block.length) <= key:
            first += 1
        while last < block.number and call.low[block.t + last] < key + rows:
            last += 1
        here = weights + (key - block.start) * size + first * FLOAT
        source = address(call, values, block.row, block.head, block.t + first)
        to = address(call, target, block.row, block.head, key)
        stride, to_stride = call.operands[values, 3], call.operands[target, 3]
        add_products(like, rows, width, here, size, FLOAT, source, stride, last - first, factors, to, to_stride)
        key += rows


@njit
def forward_block(like: Any, call: Any, block: Any, scratch: Any) -> None:
    """Write the block's output, and its lse."""
    block_scores(like, call, block, scratch)
    keys = block.stop - block.start
    if call.relu:
        total = rectify(like, scratch.scores, keys, scratch.limits)
    else:
        top, total = softmax(like, scratch.scores, keys)
        store(scratch.lse, add(top, log2(total)))
        for lane in range(block.number):
            to = address(call, LSE, block.row, block.head, block.t + lane)
            store(to, fetch(scratch.lse + lane * FLOAT))
    store(scratch.factors, divide(splat(like, 1.0), total))
    each_query(like, call, block, scratch.scores, V, scratch.factors, OUTPUT, call.width)


@njit
def weights_again(like: Any, call: Any, block: Any, scratch: Any) -> None:
    """Replace the scores [keys, lanes] by the weights of forward, from the lse it left."""
    size, keys = num_lanes(like) * FLOAT, block.stop - block.start
    if call.relu:
        share = divide(splat(like, 1.0), rectify(like, scratch.scores, keys, scratch.limits))
        for j in range(keys):
            here = scratch.scores + j * size
            store(here, multiply(load(like, here), share))
        return
    for lane in range(num_lanes(like)):
        i = block.t + min(lane, block.number - 1)
        store(scratch.lse + lane * FLOAT, fetch(address(call, LSE, block.row, block.head, i)))
    lse = load(like, scratch.lse)
    for j in range(keys):
        here = scratch.scores + j * size
        store(here, exp2(subtract(load(like, here), lse)))


@njit
def grad_scores(like: Any, call: Any, keys: int, scratch: Any) -> None:
    """Replace scratch.grads, the gradient of the weights [keys, lanes], by the gradient of the scores."""
    size, zero = num_lanes(like) * FLOAT, splat(like, 0.0)
    if call.relu:
        share = divide(splat(like, 1.0), subtract(load(like, scratch.limits + size), load(like, scratch.limits)))
        least, most = splat(like, 1e-38), splat(like, np.inf)
        for j in range(0, keys * size, size):
            grad = multiply(load(like, scratch.grads + j), share)
            store(scratch.grads + j, between(grad, load(like, scratch.scores + j), least, most, zero))
        return
    delta = zero
    for j in range(0, keys * size, size):
        delta = fma(load(like, scratch.scores + j), load(like, scratch.grads + j), delta)
    for j in range(0, keys * size, size):
        grad = subtract(load(like, scratch.grads + j), delta)
        store(scratch.grads + j, multiply(load(like, scratch.scores + j), grad))


@njit
def add_to_table(like: Any, block: Any, grads: int, table: int) -> None:
    """Add the gradient of the scores [keys, lanes] to that of the reversed table, whose distance 0 is at `table`.

    Neighbouring keys add to almost the same floats, and a load that overlaps the store just before it has to wait:
    so keys a vector apart follow one another.
    """
    lanes, keys = num_lanes(like), block.stop - block.start
    for j in range(keys):
        for lane in range(block.number, lanes):  # spare lanes are no queries
            store(grads + (j * lanes + lane) * FLOAT, np.float32(0.0))
    first = table + (block.t - block.start) * FLOAT
    for begin in range(min(lanes, keys)):
        for j in range(begin, keys, lanes):
            here = first - j * FLOAT
            store(here, add(load(like, here), load(like, grads + j * lanes * FLOAT)))


@njit
def backward_block(like: Any, call: Any, block: Any, scratch: Any, grad_bias: int) -> None:
    """Write the block's grad_q, and add its shares of grad_k, grad_v and, unless 0, the table at `grad_bias`."""
    keys = block.stop - block.start
    block_scores(like, call, block, scratch)
    weights_again(like, call, block, scratch)
    each_key(like, call, block, scratch.scores, GRAD_OUTPUT, scratch.ones, GRAD_V, call.width)

    first = address(call, GRAD_OUTPUT, block.row, block.head, block.t)
    stride = call.operands[GRAD_OUTPUT, 3]
    all_transposed(like, first, stride, block.number, call.width, 1.0, scratch.columns)
    first = address(call, V, block.row, block.head, block.start)
    all_dots(like, scratch.columns, first, call.operands[V, 3], keys, call.width, scratch.grads)
    grad_scores(like, call, keys, scratch)

    each_query(like, call, block, scratch.grads, K, scratch.scales, GRAD_Q, call.depth)
    each_key(like, call, block, scratch.grads, Q, scratch.scales, GRAD_K, call.depth)
    if grad_bias != 0:
        add_to_table(like, block, scratch.grads, grad_bias)


@njit
def clear(like: Any, call: Any, which: int, block: Any, width: int) -> None:
    """Zeros in the block's frames of an operand."""
    for frame in range(block.t, block.t + block.number):
        here = address(call, which, block.row, block.head, frame)
        for c in range(0, width, num_lanes(like)):
            store(here + c * FLOAT, splat(like, 0.0))


@njit
def scratch_of(like: Any, buffer: Any, call: Any, most_keys: int) -> Any:
    """Addresses inside `buffer`, aligned to a cache line."""
    size = num_lanes(like) * FLOAT
    columns = (buffer.ctypes.data + 63) // 64 * 64
    limits = columns + max(call.depth, call.width) * size
    lse, factors, ones, scales, scores = [limits + (2 + i) * size for i in range(5)]
    store(ones, splat(like, 1.0))
    store(scales, splat(like, call.scale))
    return Scratch(columns, limits, lse, factors, ones, scales, scores, scores + most_keys * size)


def _tasks(lanes: int, backward: bool) -> Any:
    """The function that native.py calls. Only numbers may differ between the four, or numba's cache forgets them."""

    @njit(nogil=True, cache=bool(config.CACHE_DIR))
    def run_tasks(
        operands: Any, low: Any, high: Any, lengths: Any, sizes: Any, scale: float, first: int, last: int
    ) -> None:
        """Do the tasks [first, last).

        A task is one part, `part_frames` frames, of one head: every `step`-th part of each row, beginning with
        `offset`. Heads are innermost because their frames are neighbours in packed tensors.
        """
        like = zeros(lanes)
        heads, frames, depth, width, part_frames, most_keys, relu, offset, step = sizes
        call = Call(operands, low, high, depth, width, np.float32(scale), relu != 0)
        buffer = np.empty((max(depth, width) + 2 * most_keys + 8) * lanes + 16, np.float32)
        scratch = scratch_of(like, buffer, call, most_keys)
        parts = ((frames + part_frames - 1) // part_frames - offset + step - 1) // step
        for task in range(first, last):
            head, row, part = task % heads, task // heads // parts, offset + task // heads % parts * step
            begin, end, length = part * part_frames, min((part + 1) * part_frames, frames), lengths[row]
            valid = max(begin, min(end, length))
            for t in range(begin, valid, lanes):
                number = min(lanes, valid - t)
                stop = min(np.int64(high[t + number - 1]), length)
                block = Block(row, head, t, number, np.int64(low[t]), stop, length)
                if backward:
                    table = 0 if operands[GRAD_BIAS, 0] == 0 else address(call, GRAD_BIAS, row, head, part)
                    backward_block(like, call, block, scratch, table)
                else:
                    forward_block(like, call, block, scratch)
            padding = Block(row, head, valid, end - valid, valid, valid, length)
            if backward:
                clear(like, call, GRAD_Q, padding, depth)
            else:
                clear(like, call, OUTPUT, padding, width)

    return run_tasks


forward = {lanes: _tasks(lanes, False) for lanes in (8, 16)}
backward = {lanes: _tasks(lanes, True) for lanes in (8, 16)}
