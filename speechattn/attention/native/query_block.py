"""Forward and backward of native attention for one block of queries of one head.

Read `forward_block` first; everything else repeats its pattern. It computes what `attention/dense.py` computes for
two *halves*
of neighbouring queries, 16 in each with AVX-512 and 8 with AVX2, by one idea: **scores are kept transposed**. A row of
the scratch array `scores` is a key, a column is a query, and a half of the columns is one vector of *lanes*::

                     first half            second half         queries t .. t + 7, left=2, right=1, lanes=4
                     0  1  2  3            4  5  6  7
    key t - 2        #  .  .  .                                '#' a query sees a key; '.' is masked to exactly 0;
    key t - 1        #  #  .  .                                blank is never computed and never read
    key t            #  #  #  .
    key t + 1        #  #  #  #                                The first half sees the keys [starts[0], stops[0]),
    key t + 2        .  #  #  #            #  .  .  .          which are t - 2 .. t + 4, the second half the keys
    key t + 3        .  .  #  #            #  #  .  .          [starts[1], stops[1]), t + 2 .. t + 8. From starts[1]
    key t + 4        .  .  .  #            #  #  #  .          to stops[0] both see them: in a real window that is
    key t + 5                              #  #  #  #          nearly all of it, and there each key is read once for
    key t + 6                              .  #  #  #          both. Only the corners of a half need a mask.
    key t + 7                              .  .  #  #
    key t + 8                              .  .  .  #

So the maximum, the exponential and the sum of a softmax go down the columns, and each of their steps is one
instruction for all queries of a half. No key is padded or aligned: a window may begin anywhere, and a chunk is only
another `low` and `high`. The four steps of a block:

1. `all_transposed`: the queries as columns, times scale.
2. `all_dots`: the scores, 8 keys of both halves at a time, or 16 keys of one.
3. Bias, mask, maximum, exp, sum: down the columns of each half.
4. `each_query`: the values of each query's keys weighted and summed, eight queries at a time, over the keys that
   one of those eight sees.

Backward keeps q, k and v, and repeats steps 1 to 3: the logarithm of the sum that divided the weights would save a
maximum, but float32 has no room for it beside large scores. With P the weights, dO the gradient of the output and
dP = dO V^T::

    dV = P^T dO        dS = P * (dP - sum over keys of P * dP)        dQ = scale dS K        dK = scale dS^T Q

dQ belongs to the block alone. dV and dK of a key get a share from every block that sees it: they are added to
zeros, in the order of the blocks, and `attention.py` sees to it that no two threads are near the same key.

Everything is an address, in bytes and unchecked, because that is what the tiles of `register_tiles.py` take.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from speechattn.attention.native.llvm import njit
from speechattn.attention.native.matmul import (
    BIAS,
    GRAD_K,
    GRAD_OUTPUT,
    GRAD_Q,
    GRAD_V,
    OUTPUT,
    K,
    Q,
    V,
    address,
    all_dots,
    all_transposed,
    clear_between,
    each_key,
    each_query,
    strip_of,
)
from speechattn.attention.native.simd import (
    add,
    counted,
    divide,
    load,
    minimum,
    num_lanes,
    splat,
    store,
    subtract,
)
from speechattn.attention.native.softmax import (
    FLOAT,
    LOWEST,
    add_bias,
    mask,
    rectified_gradient,
    rectify,
    row_size,
    softmax,
    softmax_gradient,
)

Scratch = namedtuple("Scratch", "columns lanes factors ones scales scores grads")
"""Addresses of a block's scratch memory; one row is two vectors: [depth] rows, 1, 1, 1, 1, and twice [keys] rows."""


@njit
def limits(like: Any, call: Any, block: Any, half: int, scratch: Any) -> Any:
    """Return low and high of every lane of a half, counted from its first key."""
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
    """Fill scratch.scores [keys, queries] with masked scores."""
    lanes = num_lanes(like)
    all_transposed(like, call, block, Q, call.depth, call.scale, scratch.columns)
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
def seen(like: Any, call: Any, block: Any, half: int, scratch: Any) -> Any:
    """Return the number of keys that every lane of a half sees."""
    low, high = limits(like, call, block, half, scratch)
    return subtract(high, low)


@njit
def forward_block(like: Any, call: Any, block: Any, scratch: Any) -> None:
    """Write the block's output."""
    block_scores(like, call, block, scratch)
    one = splat(like, 1.0)
    for half in range(block.halves):
        strip, keys = strip_of(like, block, scratch.scores, half)
        if call.relu:
            rectify(like, strip, keys, one)
            total = seen(like, call, block, half, scratch)
        else:
            total = softmax(like, strip, keys)
        store(scratch.factors + half * num_lanes(like) * FLOAT, divide(one, total))
    each_query(like, call, block, scratch.scores, V, scratch.factors, OUTPUT, call.width)


@njit
def weights_again(like: Any, call: Any, block: Any, scratch: Any) -> None:
    """Replace the scores [keys, queries] by the weights, of a softmax times the sums whose inverse is in factors."""
    one = splat(like, 1.0)
    for half in range(block.halves):
        strip, keys = strip_of(like, block, scratch.scores, half)
        if call.relu:
            rectify(like, strip, keys, divide(one, seen(like, call, block, half, scratch)))
        else:
            store(scratch.factors + half * num_lanes(like) * FLOAT, divide(one, softmax(like, strip, keys)))


@njit
def grad_scores(like: Any, call: Any, block: Any, scratch: Any) -> None:
    """Replace scratch.grads, the gradient of the weights [keys, queries], by that of the scores; finish the weights."""
    for half in range(block.halves):
        weights, keys = strip_of(like, block, scratch.scores, half)
        grads, _ = strip_of(like, block, scratch.grads, half)
        if call.relu:
            share = divide(splat(like, 1.0), seen(like, call, block, half, scratch))
            rectified_gradient(like, weights, grads, keys, share)
        else:
            share = load(like, scratch.factors + half * num_lanes(like) * FLOAT)
            softmax_gradient(like, weights, grads, keys, share)
    clear_between(like, block, scratch.scores)
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
    all_transposed(like, call, block, GRAD_OUTPUT, call.width, 1.0, scratch.columns)
    all_dots(like, call, block, scratch.columns, V, call.width, scratch.grads)
    grad_scores(like, call, block, scratch)

    each_key(like, call, block, scratch.scores, GRAD_OUTPUT, scratch.ones, GRAD_V, call.width)
    each_query(like, call, block, scratch.grads, K, scratch.scales, GRAD_Q, call.depth)
    each_key(like, call, block, scratch.grads, Q, scratch.scales, GRAD_K, call.depth)
    if grad_bias != 0:
        add_to_table(like, block, scratch.grads, grad_bias)
