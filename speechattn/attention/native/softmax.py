"""Mask, softmax, relu and their gradients for the scores of one vector of queries, between the two products.

A *strip* is `number` rows of scores, one for each key, of which a vector of queries has its lanes; the rows are two
vectors apart, because two strips lie side by side. Everything goes down a strip: a maximum or a sum over the keys is
one instruction a key for all queries. Addresses and `like` as in `simd.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from speechattn.attention.native.llvm import njit
from speechattn.attention.native.simd import (
    add,
    between,
    fma,
    load,
    maximum,
    multiply,
    num_lanes,
    splat,
    store,
    subtract,
    times_power_of_two,
)

FLOAT = 4
"""Bytes of a float32."""
LOWEST_MAXIMUM = -2.7e38
"""The initial value of a maximum: above LOWEST, so that a masked key weighs 0 even where all others are -inf."""
LOWEST = -3e38
"""A masked score. Not -inf, because -inf - -inf is NaN."""
LOG2_E = 1.4426950408889634
ROUNDER = 12582912.0
"""1.5 * 2**23: adding it to a float leaves no bits for a fraction, so it rounds to an integer."""
EXP2 = (0.693147004, 0.240222424, 0.0555073358, 0.00967151299, 0.00132647273)
"""2**r = 1 + r * (EXP2[0] + r * (...)) for |r| <= 1/2: the minimax polynomial that is 1 at 0, relative error 9e-8."""
LEAST_NORMAL = 1.1754944e-38
"""The least float that kernel.py's control word does not take for 0."""


@njit
def exp2(x: Any) -> Any:
    """Return 2**x for x <= 1, and exactly 0 for x <= -127; NaN stays NaN."""
    x = maximum(splat(x, -127.0), x)
    shifted = add(x, splat(x, ROUNDER))
    r = subtract(x, subtract(shifted, splat(x, ROUNDER)))
    y = fma(splat(x, EXP2[4]), r, splat(x, EXP2[3]))
    y = fma(y, r, splat(x, EXP2[2]))
    y = fma(y, r, splat(x, EXP2[1]))
    y = fma(y, r, splat(x, EXP2[0]))
    return times_power_of_two(fma(y, r, splat(x, 1.0)), shifted)


@njit
def row_size(like: Any) -> Any:
    """Return bytes from one row of scores to the next."""
    return 2 * num_lanes(like) * FLOAT


@njit
def mask(like: Any, strip: int, begin: int, end: int, low: Any, high: Any, outside: float) -> None:
    """Put `outside` into rows [begin, end) in the lanes that do not see them: those not in [low, high)."""
    other = splat(like, outside)
    for j in range(begin, end):
        here = strip + j * row_size(like)
        store(here, between(load(like, here), splat(like, float(j)), low, high, other))


@njit
def add_bias(like: Any, strip: int, number: int, bias: int) -> None:
    """Add to row j the floats from `bias` less j: the next key is one farther, and the table is reversed."""
    for j in range(number):
        here = strip + j * row_size(like)
        store(here, add(load(like, here), load(like, bias - j * FLOAT)))


@njit
def softmax(like: Any, strip: int, number: int) -> Any:
    """Replace scores by exp(score - max); return the sum of every lane, or more than 0 where nothing is seen.

    The difference is taken first: log2(e) * score would be rounded, which two equal scores of 1e9 do not survive where
    their products differ.
    """
    size = row_size(like)
    top = splat(like, LOWEST_MAXIMUM)
    other, j = top, 0
    while j + 4 <= number:  # two chains, because a maximum waits for the one before it
        here = strip + j * size
        top = maximum(maximum(load(like, here), load(like, here + size)), top)
        other = maximum(maximum(load(like, here + 2 * size), load(like, here + 3 * size)), other)
        j += 4
    while j < number:
        top = maximum(load(like, strip + j * size), top)
        j += 1
    top = maximum(top, other)
    total = splat(like, 0.0)
    for here in range(strip, strip + number * size, size):
        weight = exp2(multiply(subtract(load(like, here), top), splat(like, LOG2_E)))
        total = add(total, weight)
        store(here, weight)
    return maximum(splat(like, LEAST_NORMAL), total)


@njit
def softmax_gradient(like: Any, weights: int, grads: int, number: int, share: Any) -> None:
    """Replace the gradient of the weights by that of the scores: weight * (grad - sum of weight * grad).

    The weights come undivided: they are multiplied by `share`, the inverse of their sum.
    """
    size, zero, j = row_size(like), splat(like, 0.0), 0
    delta, b, c, d = zero, zero, zero, zero
    while j + 4 * size <= number * size:  # four chains, because a sum waits for the one before it
        delta = fma(load(like, weights + j), load(like, grads + j), delta)
        b = fma(load(like, weights + j + size), load(like, grads + j + size), b)
        c = fma(load(like, weights + j + 2 * size), load(like, grads + j + 2 * size), c)
        d = fma(load(like, weights + j + 3 * size), load(like, grads + j + 3 * size), d)
        j += 4 * size
    while j < number * size:
        delta = fma(load(like, weights + j), load(like, grads + j), delta)
        j += size
    delta = multiply(add(add(delta, b), add(c, d)), share)
    for j in range(0, number * size, size):
        weight = multiply(load(like, weights + j), share)
        store(weights + j, weight)
        store(grads + j, multiply(weight, subtract(load(like, grads + j), delta)))


@njit
def rectify(like: Any, strip: int, number: int, share: Any) -> None:
    """Replace scores by max(score, 0) * share."""
    size = row_size(like)
    for here in range(strip, strip + number * size, size):
        store(here, multiply(maximum(splat(like, 0.0), load(like, here)), share))


@njit
def rectified_gradient(like: Any, weights: int, grads: int, number: int, share: Any) -> None:
    """Replace the gradient of the weights by that of the scores, which is `share` of it where a weight is not 0."""
    size, zero = row_size(like), splat(like, 0.0)
    least, most = splat(like, LEAST_NORMAL), splat(like, np.inf)
    for j in range(0, number * size, size):
        grad = multiply(load(like, grads + j), share)
        store(grads + j, between(grad, load(like, weights + j), least, most, zero))
