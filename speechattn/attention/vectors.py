"""Vectors of 16 or 8 floats as values that numba's compiled functions compute with, and the two tiles of a product.

numba compiles loops over scalars and leaves it to LLVM to find vectors in them; for the small matrix products of
attention it does not find good ones (a tenth of what the processor can do). Here a vector is a value: `Vector(16)`
is a numba type whose machine form is LLVM's ``<16 x float>``, one AVX-512 register, and `Vector(8)` one AVX2 register.
An `@intrinsic` is a function of compiled code whose instructions are written out by hand, in LLVM's language, through
`builder`; each below is a few of them. Nothing here knows what attention is: that is `kernel.py`.

Addresses are int64, in bytes, and nobody checks them. `like` is any vector: only its type is looked at, and it
says how many lanes the result has. All floats are float32.

Imported only by `kernel.py`, and that only when the native execution is used: it needs numba.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, register_model

FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
BYTES = 4
"""Bytes of a float32."""
UNROLLED = 4
"""Features that one round of the loop in `dots` takes; widths are multiples of 8."""


class Vector(types.Type):
    """The numba type of `lanes` float32 side by side."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Vector({lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, ir.VectorType(FLOAT, vector.lanes))


# The language of the intrinsics: small helpers that append instructions.


def _vector(lanes: int) -> ir.VectorType:
    return ir.VectorType(FLOAT, lanes)


def _int(value: int) -> ir.Constant:
    return ir.Constant(INT64, value)


def _splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """A vector whose lanes are all `scalar`."""
    vector = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(
        one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(INT32, lanes), [0] * lanes)
    )


def _load(builder: Any, address: Any, kind: ir.Type) -> Any:
    return builder.load(builder.inttoptr(address, ir.PointerType(kind)), align=BYTES)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, ir.PointerType(value.type)), align=BYTES)


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z. Not llvm.fma, which becomes a call of the C library where the processor has no such instruction."""
    kind = x.type
    name = f"llvm.fmuladd.v{kind.count}f32"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)
    return builder.call(function, (x, y, z))


def _loop(
    builder: Any, first: list[Any], count: Any, step: int, body: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """The values after: for i in range(0, count, step): values = body(i, values), from the values `first`.

    They are variables on the stack for LLVM's first pass, and registers after it.
    """
    variables = [cgutils.alloca_once(builder, value.type) for value in first]
    for variable, value in zip(variables, first, strict=True):
        builder.store(value, variable)
    with cgutils.for_range_slice(builder, _int(0), count, _int(step), INT64, inc=True) as (index, _):
        for variable, value in zip(variables, body(index, [builder.load(x) for x in variables]), strict=True):
            builder.store(value, variable)
    return [builder.load(variable) for variable in variables]


def _opaque(builder: Any, value: Any) -> Any:
    """The same int64, of which LLVM no longer knows how it was computed: an assembly line of no instructions."""
    return builder.asm(ir.FunctionType(INT64, [INT64]), "", "=r,0", [value], False)


# Values.


@intrinsic(prefer_literal=True)
def zeros(typingctx: Any, lanes: Any) -> Any:
    """A vector of zeros, where a function begins that hands `like` to others; `lanes` is a literal."""
    vector = Vector(lanes.literal_value)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_vector(vector.lanes), None)

    return vector(lanes), code


@intrinsic
def splat(typingctx: Any, like: Any, scalar: Any) -> Any:
    """All lanes `scalar`."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _splat(builder, context.cast(builder, args[1], scalar, types.float32), like.lanes)

    return like(like, scalar), code


@intrinsic
def load(typingctx: Any, like: Any, address: Any) -> Any:
    """The floats at `address` and behind it."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _load(builder, args[1], _vector(like.lanes))

    return like(like, types.int64), code


@intrinsic
def store(typingctx: Any, address: Any, x: Any) -> Any:
    """Write a vector, or one float, to `address`."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _store(builder, args[1], args[0])
        return context.get_dummy_value()

    return types.void(types.int64, x if isinstance(x, Vector) else types.float32), code


@intrinsic
def num_lanes(typingctx: Any, like: Any) -> Any:
    """Lanes of a vector: a number that is known when the function is compiled."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _int(like.lanes)

    return types.int64(like), code


@intrinsic
def fetch(typingctx: Any, address: Any) -> Any:
    """The one float at `address`."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _load(builder, args[0], FLOAT)

    return types.float32(types.int64), code


@intrinsic
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z, rounded once."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _fma(builder, *args)

    return x(x, x, x), code


def _arithmetic(instruction: str) -> Any:
    @intrinsic
    def operation(typingctx: Any, x: Any, y: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args)

        return x(x, x), code

    return operation


add, subtract, multiply, divide = (_arithmetic(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


@intrinsic
def maximum(typingctx: Any, x: Any, y: Any) -> Any:
    """The larger in every lane; y's where one of them is NaN."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return x(x, x), code


@intrinsic
def between(typingctx: Any, x: Any, position: Any, low: Any, high: Any, otherwise: Any) -> Any:
    """x in the lanes where low <= position < high, else `otherwise`; all are vectors."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, position, low, high, otherwise = args
        inside = builder.and_(builder.fcmp_ordered(">=", position, low), builder.fcmp_ordered("<", position, high))
        return builder.select(inside, x, otherwise)

    return x(x, x, x, x, x), code


@intrinsic
def times_power_of_two(typingctx: Any, x: Any, shifted: Any) -> Any:
    """x * 2**n, where `shifted` is n + 1.5 * 2**23: the lowest bits of such a float are the integer n itself.

    n is added to the exponent of x, which is an addition of integers. x must be in (0.5, 2) and n in [-127, 127];
    x = 1 and n = -127 give exactly 0.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integers = ir.VectorType(INT32, x.lanes)
        bits, n = (builder.bitcast(value, integers) for value in args)
        moved = builder.shl(n, ir.Constant(integers, [23] * x.lanes))
        return builder.bitcast(builder.add(bits, moved), _vector(x.lanes))

    return x(x, x), code


@intrinsic
def exponent(typingctx: Any, x: Any) -> Any:
    """n of x = m * 2**n with 1 <= m < 2, for positive x, as floats."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integers = ir.VectorType(INT32, x.lanes)
        n = builder.lshr(builder.bitcast(args[0], integers), ir.Constant(integers, [23] * x.lanes))
        n = builder.sub(n, ir.Constant(integers, [127] * x.lanes))
        return builder.sitofp(n, _vector(x.lanes))

    return x(x), code


@intrinsic
def mantissa(typingctx: Any, x: Any) -> Any:
    """m of x = m * 2**n with 1 <= m < 2, for positive x."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integers = ir.VectorType(INT32, x.lanes)
        bits = builder.and_(builder.bitcast(args[0], integers), ir.Constant(integers, [0x7FFFFF] * x.lanes))
        return builder.bitcast(builder.or_(bits, ir.Constant(integers, [0x3F800000] * x.lanes)), _vector(x.lanes))

    return x(x), code


# Tiles: functions of their own in the compiled code, so that each is optimised once, however often it is called.


def _call(builder: Any, name: str, arguments: Sequence[Any], body: Callable[..., None]) -> None:
    """A call of the LLVM function `name`, which body(builder, *arguments) writes if the module does not have it."""
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, f"speechattn.{name}")
    if function.is_declaration:
        function.linkage = "linkonce_odr"  # the linker keeps one of many equal functions
        function.attributes.add("noinline")
        function.attributes.add("nounwind")
        inside = ir.IRBuilder(function.append_basic_block("entry"))
        body(inside, *function.args)
        inside.ret_void()
    builder.call(function, arguments)


@intrinsic
def transpose(typingctx: Any, like: Any, source: Any, stride: Any, last: Any, target: Any, factor: Any) -> Any:
    """Write `factor` times the square of lanes x lanes floats at `source`, columns as rows, to `target`.

    Rows are `stride` bytes apart; rows past `last` are read as row `last`. The result's rows lie side by side.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, f"transpose.{like.lanes}", args[1:], partial(_transpose, like.lanes))
        return context.get_dummy_value()

    return types.void(like, *[types.int64] * 4, types.float32), code


def _transpose(lanes: int, builder: Any, source: Any, stride: Any, last: Any, target: Any, factor: Any) -> None:
    """Each round interleaves every row with the one half the lanes away; log2(lanes) rounds turn the square.

    For the place of an element, (row, column), is one binary number, which every round rotates by one bit.
    """
    rows = []
    for row in range(lanes):
        clipped = builder.select(builder.icmp_signed("<", _int(row), last), _int(row), last)
        rows.append(_load(builder, builder.add(source, builder.mul(clipped, stride)), _vector(lanes)))
    half, masks = lanes // 2, []
    for begin in (0, half):
        mask = [place for pair in range(begin, begin + half) for place in (pair, lanes + pair)]
        masks.append(ir.Constant(ir.VectorType(INT32, lanes), mask))
    for _ in range(lanes.bit_length() - 1):
        rows = [builder.shuffle_vector(rows[i], rows[i + half], mask) for i in range(half) for mask in masks]
    factors = _splat(builder, factor, lanes)
    for row, value in enumerate(rows):
        _store(builder, builder.fmul(value, factors), builder.add(target, _int(row * lanes * BYTES)))


@intrinsic(prefer_literal=True)
def dots(typingctx: Any, like: Any, number: Any, columns: Any, rows: Any, stride: Any, depth: Any, target: Any) -> Any:
    """Write the products of `number` rows with all columns: a tile of [number, lanes] sums over `depth` features.

        target[j][lane] = sum over d of rows[j][d] * columns[d][lane]

    `columns` [depth, lanes] is contiguous, `rows` are `stride` bytes apart, `target` [number, lanes] is contiguous.
    `number` is a literal; depth a multiple of 8.
    """
    lanes, count = like.lanes, number.literal_value

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, f"dots.{lanes}.{count}", args[2:], partial(_dots, lanes, count))
        return context.get_dummy_value()

    return types.void(like, number, *[types.int64] * 5), code


def _dots(lanes: int, count: int, builder: Any, columns: Any, rows: Any, stride: Any, depth: Any, target: Any) -> None:
    """One vector of columns meets one float of each row: `count` sums stay in registers.

    Every multiplication reads its second factor from memory, and the processor spreads it over the lanes for nothing.
    """
    # Four rows share an address that moves along them, and the processor adds 0, 1, 2 or 3 strides for nothing. LLVM
    # must not see that the addresses are related: it would compute each from the one before, and everything waits.
    starts = [builder.add(rows, builder.mul(stride, _int(j))) for j in range(0, count, 4)]
    strides = [builder.mul(stride, _int(x)) for x in range(4)]

    def body(d: Any, values: list[Any]) -> list[Any]:
        sums, at = values[:count], [_opaque(builder, address) for address in values[count:]]
        column = builder.add(columns, builder.mul(d, _int(BYTES * lanes)))
        for u in range(UNROLLED):
            features = _load(builder, builder.add(column, _int(u * BYTES * lanes)), _vector(lanes))
            for j in range(count):
                here = builder.add(builder.add(at[j // 4], strides[j % 4]), _int(u * BYTES))
                sums[j] = _fma(builder, features, _splat(builder, _load(builder, here, FLOAT), lanes), sums[j])
        return sums + [builder.add(address, _int(UNROLLED * BYTES)) for address in at]

    zeros = [ir.Constant(_vector(lanes), None)] * count
    for j, value in enumerate(_loop(builder, zeros + starts, depth, UNROLLED, body)[:count]):
        _store(builder, value, builder.add(target, _int(j * lanes * BYTES)))


@intrinsic(prefer_literal=True)
def product(
    typingctx: Any,
    like: Any,
    number: Any,
    width: Any,
    adds: Any,
    weights: Any,
    row_stride: Any,
    sum_stride: Any,
    values: Any,
    value_stride: Any,
    count: Any,
    factors: Any,
    target: Any,
    target_stride: Any,
) -> Any:
    """Write, or with `adds` add, `number` weighted sums of rows: a tile of [number, width * lanes].

        target[r][c] (+)= factors[r] * sum over i < count of weights[r * row_stride + i * sum_stride] * values[i][c]

    Strides are bytes. `number`, `width` and `adds` are literals.
    """
    shape = (like.lanes, number.literal_value, width.literal_value, adds.literal_value)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _call(builder, "product." + ".".join(map(str, shape)), args[4:], partial(_product, shape))
        return context.get_dummy_value()

    return types.void(like, number, width, adds, *[types.int64] * 9), code


def _product(
    shape: tuple[int, int, int, int],
    builder: Any,
    weights: Any,
    row_stride: Any,
    sum_stride: Any,
    values: Any,
    value_stride: Any,
    count: Any,
    factors: Any,
    target: Any,
    target_stride: Any,
) -> None:
    """number * width sums stay in registers; a step reads `width` vectors and `number` floats."""
    lanes, number, width, adds = shape
    columns = range(width)

    def body(i: Any, sums: list[Any]) -> list[Any]:
        value_at, weight_at = (
            builder.add(start, builder.mul(i, by)) for start, by in ((values, value_stride), (weights, sum_stride))
        )
        row = [_load(builder, builder.add(value_at, _int(c * lanes * BYTES)), _vector(lanes)) for c in columns]
        for r in range(number):
            here = builder.add(weight_at, builder.mul(row_stride, _int(r)))
            weight = _splat(builder, _load(builder, here, FLOAT), lanes)
            for c in columns:
                sums[r * width + c] = _fma(builder, weight, row[c], sums[r * width + c])
        return sums

    sums = _loop(builder, [ir.Constant(_vector(lanes), None)] * (number * width), count, 1, body)
    for r in range(number):
        factor = _splat(builder, _load(builder, builder.add(factors, _int(r * BYTES)), FLOAT), lanes)
        start = builder.add(target, builder.mul(target_stride, _int(r)))
        for c in columns:
            at, value = builder.add(start, _int(c * lanes * BYTES)), sums[r * width + c]
            if adds:
                value = _fma(builder, value, factor, _load(builder, at, _vector(lanes)))
            else:
                value = builder.fmul(value, factor)
            _store(builder, value, at)
