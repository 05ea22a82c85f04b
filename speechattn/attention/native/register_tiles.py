"""The three long intrinsics of native attention: a square transposed, and a tile of either of its two products.

A *tile* is as large a piece of a product as there are registers for: its sums stay in them, and nearly every
instruction of its loop is one that multiplies and adds. What decides about speed is how many loads there are beside
those. AVX-512 has 32 registers and does two multiplications and two loads in a cycle, so a tile of `dots` with 8 keys
and 2 vectors of queries wants 8 + 2 loads for 16 multiplications and never waits for memory that is near.

Each tile is a function of its own in the compiled code, so that it is optimised once, however often it is called.
Addresses and `like` as in `simd.py`. A *row* of scores or columns is two vectors long, whatever part of it a tile
is asked for.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from speechattn.attention.native import llvm as to
from speechattn.attention.native.llvm import BYTES

UNROLLED = 4
"""Features that one round of the loop in `dots` takes; widths are multiples of 8."""


@intrinsic
def transpose(typingctx: Any, like: Any, source: Any, stride: Any, last: Any, target: Any, factor: Any) -> Any:
    """Write `factor` times the square of lanes x lanes floats at `source`, columns as rows, to `target`.

    Rows are `stride` bytes apart; rows past `last` are read as row `last`. The result's are two vectors apart.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to.call_of_own(builder, f"transpose.{like.lanes}", args[1:], partial(_transpose, like.lanes))
        return context.get_dummy_value()

    return types.void(like, *[types.int64] * 4, types.float32), code


def _transpose(lanes: int, builder: Any, source: Any, stride: Any, last: Any, target: Any, factor: Any) -> None:
    """Transpose the square in log2(lanes) rounds. Each interleaves every row with the one half the lanes away.

    For the place of an element, (row, column), is one binary number, which every round rotates by one bit.
    """
    rows = []
    for row in range(lanes):
        clipped = builder.select(builder.icmp_signed("<", to.number(row), last), to.number(row), last)
        rows.append(to.load(builder, builder.add(source, builder.mul(clipped, stride)), to.vector(lanes)))
    half, masks = lanes // 2, []
    for begin in (0, half):
        mask = [place for pair in range(begin, begin + half) for place in (pair, lanes + pair)]
        masks.append(ir.Constant(to.vector(lanes, to.INT32), mask))
    for _ in range(lanes.bit_length() - 1):
        rows = [builder.shuffle_vector(rows[i], rows[i + half], mask) for i in range(half) for mask in masks]
    factors = to.splat(builder, factor, lanes)
    for row, value in enumerate(rows):
        to.store(builder, builder.fmul(value, factors), to.plus(builder, target, row * 2 * lanes * BYTES))


@intrinsic(prefer_literal=True)
def dots(
    typingctx: Any, like: Any, number: Any, vectors: Any, columns: Any, rows: Any, stride: Any, depth: Any, target: Any
) -> Any:
    """Write the products of `number` rows with the columns of 1 or 2 `vectors`: sums over `depth` features.

        target[j][lane] = sum over d of rows[j][d] * columns[d][lane]

    `columns` [depth, two vectors] and `target` [number, two vectors] are contiguous, `rows` `stride` bytes apart.
    `number` and `vectors` are literals; depth is a multiple of 8.
    """
    shape = (like.lanes, number.literal_value, vectors.literal_value)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to.call_of_own(builder, "dots." + ".".join(map(str, shape)), args[3:], partial(_dots, shape))
        return context.get_dummy_value()

    return types.void(like, number, vectors, *[types.int64] * 5), code


def _dots(
    shape: tuple[int, int, int], builder: Any, columns: Any, rows: Any, stride: Any, depth: Any, target: Any
) -> None:
    """Multiply one float of each row by the vectors of a feature: number * vectors sums stay in registers.

    With one vector, every multiplication reads its second factor from memory, and the processor spreads it over the
    lanes for nothing; with two, the spread float is used twice.
    """
    lanes, count, vectors = shape
    size = 2 * lanes * BYTES
    # Four rows share an address that moves along them, and the processor adds 0, 1, 2 or 3 strides for nothing. LLVM
    # must not see that the addresses are related: it would compute each from the one before, and everything waits.
    starts = [builder.add(rows, builder.mul(stride, to.number(j))) for j in range(0, count, 4)]
    strides = [builder.mul(stride, to.number(x)) for x in range(4)]
    places = [(j, x) for j in range(count) for x in range(vectors)]

    def body(d: Any, values: list[Any]) -> list[Any]:
        sums, at = dict(zip(places, values, strict=False)), [to.opaque(builder, x) for x in values[len(places) :]]
        column = builder.add(columns, builder.mul(d, to.number(size)))
        for u in range(UNROLLED):
            features = [
                to.load(builder, to.plus(builder, column, u * size + x * lanes * BYTES), to.vector(lanes))
                for x in range(vectors)
            ]
            for j in range(count):
                here = to.plus(builder, builder.add(at[j // 4], strides[j % 4]), u * BYTES)
                spread = to.splat(builder, to.load(builder, here, to.FLOAT), lanes)
                for x in range(vectors):
                    sums[j, x] = to.fma(builder, features[x], spread, sums[j, x])
        return [*sums.values(), *(to.plus(builder, address, UNROLLED * BYTES) for address in at)]

    zeros = [ir.Constant(to.vector(lanes), None)] * len(places)
    for (j, x), value in zip(places, to.loop(builder, zeros + starts, depth, UNROLLED, body), strict=False):
        to.store(builder, value, to.plus(builder, target, j * size + x * lanes * BYTES))


@intrinsic(prefer_literal=True)
def product(
    typingctx: Any,
    like: Any,
    number: Any,
    vectors: Any,
    adds: Any,
    weights: Any,
    values: Any,
    stride: Any,
    count: Any,
    factors: Any,
    target: Any,
    target_stride: Any,
) -> Any:
    """Write `number` weighted sums of rows of 1 to 4 `vectors` to `target`, or with `adds` add them to it.

        target[r][c] (+)= factors[r] * sum over i < count of weight(r, i) * values[i][c]

    Weights come from the rows of scores: with `adds`, r is a row and i a lane, without it r is a lane and i a row.
    `values` are `stride` bytes apart, `target` `target_stride`. `number`, `vectors` and `adds` are literals.
    """
    shape = (like.lanes, number.literal_value, vectors.literal_value, adds.literal_value)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to.call_of_own(builder, "product." + ".".join(map(str, shape)), args[4:], partial(_product, shape))
        return context.get_dummy_value()

    return types.void(like, number, vectors, adds, *[types.int64] * 7), code


def _product(
    shape: tuple[int, int, int, int],
    builder: Any,
    weights: Any,
    values: Any,
    stride: Any,
    count: Any,
    factors: Any,
    target: Any,
    target_stride: Any,
) -> None:
    """Keep number * vectors sums in registers; a step reads `vectors` vectors and `number` floats."""
    lanes, number, vectors, adds = shape
    row = 2 * lanes * BYTES
    of_r, of_i = (row, BYTES) if adds else (BYTES, row)
    columns = range(vectors)

    def body(i: Any, state: list[Any]) -> list[Any]:
        *sums, value_at, weight_at = state
        value = [to.load(builder, to.plus(builder, value_at, c * lanes * BYTES), to.vector(lanes)) for c in columns]
        for r in range(number):
            weight = to.splat(builder, to.load(builder, to.plus(builder, weight_at, r * of_r), to.FLOAT), lanes)
            for c in columns:
                sums[r * vectors + c] = to.fma(builder, weight, value[c], sums[r * vectors + c])
        return [*sums, builder.add(value_at, stride), to.plus(builder, weight_at, of_i)]

    zeros = [ir.Constant(to.vector(lanes), None)] * (number * vectors)
    sums = to.loop(builder, [*zeros, values, weights], count, 1, body)
    for r in range(number):
        factor = to.splat(builder, to.load(builder, to.plus(builder, factors, r * BYTES), to.FLOAT), lanes)
        start = builder.add(target, builder.mul(target_stride, to.number(r)))
        for c in columns:
            at, value = to.plus(builder, start, c * lanes * BYTES), sums[r * vectors + c]
            if adds:
                value = to.fma(builder, value, factor, to.load(builder, at, to.vector(lanes)))
            else:
                value = builder.fmul(value, factor)
            to.store(builder, value, at)
