"""Vectors of 16 or 8 floats as values that numba's compiled functions compute with.

numba compiles loops over scalars and leaves it to LLVM to find vectors in them; for the small matrix products of
attention it does not find good ones (a tenth of what the processor can do). Here a vector is a value: `Vector(16)`
is a numba type whose machine form is LLVM's ``<16 x float>``, one AVX-512 register, and `Vector(8)` one AVX2 register.
An `@intrinsic` is a function of compiled code whose instructions are written out by hand, in LLVM's language, through
`builder`; each below is a few of them, and `register_tiles.py` has the long ones. Nothing here is about attention.

Addresses are int64, in bytes, and not checked. `like` is any vector: only its type is used, which gives the lanes of
the result. All floats are float32.

Imported only for the native backend: it needs numba.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

from speechattn.attention.native import llvm as to


class Vector(types.Type):
    """The numba type of `lanes` float32 side by side."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Vector({lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, to.vector(vector.lanes))


@intrinsic(prefer_literal=True)
def zeros(typingctx: Any, lanes: Any) -> Any:
    """Return a vector of zeros, the `like` of other functions; `lanes` is a literal."""
    vector = Vector(lanes.literal_value)

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(to.vector(vector.lanes), None)

    return vector(lanes), code


@intrinsic
def control(typingctx: Any, wanted: Any) -> Any:
    """Set the processor's control word for floats (MXCSR) of this thread to `wanted`; return the one before."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return to.control(builder, args[0])

    return types.int32(types.int32), code


@intrinsic
def splat(typingctx: Any, like: Any, scalar: Any) -> Any:
    """Return all lanes `scalar`."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return to.splat(builder, context.cast(builder, args[1], scalar, types.float32), like.lanes)

    return like(like, scalar), code


@intrinsic
def load(typingctx: Any, like: Any, address: Any) -> Any:
    """Return the floats at `address` and behind it."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return to.load(builder, args[1], to.vector(like.lanes))

    return like(like, types.int64), code


@intrinsic
def store(typingctx: Any, address: Any, x: Any) -> Any:
    """Write a vector, or one float, to `address`."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to.store(builder, args[1], args[0])
        return context.get_dummy_value()

    return types.void(types.int64, x if isinstance(x, Vector) else types.float32), code


@intrinsic
def num_lanes(typingctx: Any, like: Any) -> Any:
    """Return lanes of a vector: a number that is known when the function is compiled."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return to.number(like.lanes)

    return types.int64(like), code


@intrinsic(prefer_literal=True)
def prefetch(typingctx: Any, address: Any, writes: Any) -> Any:
    """Prefetch the cache line at `address`: into the second level, or if `writes`, a literal, to be written at once.

    Nothing waits for it, and any address will do.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at, one = builder.inttoptr(args[0], ir.PointerType(ir.IntType(8))), writes.literal_value
        options = [ir.Constant(to.INT32, x) for x in (one, 3 if one else 1, 1)]
        to.call(builder, "llvm.prefetch.p0", ir.VoidType(), at, *options)
        return context.get_dummy_value()

    return types.void(types.int64, writes), code


@intrinsic
def fma(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z, rounded once."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return to.fma(builder, *args)

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
    """Return the larger in every lane; y's where one of them is NaN."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return x(x, x), code


@intrinsic
def minimum(typingctx: Any, x: Any, y: Any) -> Any:
    """Return the smaller in every lane; y's where one of them is NaN."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return x(x, x), code


@intrinsic
def between(typingctx: Any, x: Any, position: Any, low: Any, high: Any, otherwise: Any) -> Any:
    """Return x in the lanes where low <= position < high, else `otherwise`; all are vectors."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        x, position, low, high, otherwise = args
        inside = builder.and_(builder.fcmp_ordered(">=", position, low), builder.fcmp_ordered("<", position, high))
        return builder.select(inside, x, otherwise)

    return x(x, x, x, x, x), code


@intrinsic
def times_power_of_two(typingctx: Any, x: Any, shifted: Any) -> Any:
    """Return x * 2**n, where `shifted` is n + 1.5 * 2**23: the lowest bits of such a float are the integer n itself.

    n is added to the exponent of x, which is an addition of integers. x must be in (0.5, 2) and n in [-127, 127];
    x = 1 and n = -127 give exactly 0.
    """

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integers = ir.VectorType(to.INT32, x.lanes)
        bits, n = (builder.bitcast(value, integers) for value in args)
        moved = builder.shl(n, ir.Constant(integers, [23] * x.lanes))
        return builder.bitcast(builder.add(bits, moved), to.vector(x.lanes))

    return x(x, x), code


@intrinsic
def counted(typingctx: Any, like: Any, address: Any, start: Any) -> Any:
    """Return the int32 numbers at `address` and behind it less `start`, as floats."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        integers = to.load(builder, args[1], to.vector(like.lanes, to.INT32))
        start = to.splat(builder, builder.trunc(args[2], to.INT32), like.lanes)
        return builder.sitofp(builder.sub(integers, start), to.vector(like.lanes))

    return like(like, types.int64, types.int64), code
