"""Builders of machine code for `simd.py` and `register_tiles.py`: a few of LLVM's instructions at a time.

Each function appends instructions to the function that `builder` is writing and returns their result, which is a
value of the program being written and not a number of Python. Addresses are int64, in bytes. The types are those of
llvmlite, which comes with numba, and not numba's.

`njit` is numba's for functions that only compiled functions call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numba
from llvmlite import ir
from numba.core import cgutils

FLOAT, INT32, INT64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
BYTES = 4
"""Bytes of a float32."""
njit = functools.partial(numba.njit, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False, error_model="numpy")
"""numba.njit without an entry point for Python, reference counts and checks for division by 0: it compiles faster.

Such a function must allocate nothing: no arrays, and no lists either.
"""


def vector(lanes: int, of: ir.Type = FLOAT) -> ir.VectorType:
    """Return the type of a vector."""
    return ir.VectorType(of, lanes)


def number(value: int) -> ir.Constant:
    """Return an int64 constant."""
    return ir.Constant(INT64, value)


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """Return a vector whose lanes are all `scalar`."""
    kind = ir.VectorType(scalar.type, lanes)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(vector(lanes, INT32), [0] * lanes))


def load(builder: Any, address: Any, kind: ir.Type) -> Any:
    """Return the value of type `kind` at `address`."""
    return builder.load(builder.inttoptr(address, ir.PointerType(kind)), align=BYTES)


def store(builder: Any, value: Any, address: Any) -> None:
    """Write a value to `address`."""
    builder.store(value, builder.inttoptr(address, ir.PointerType(value.type)), align=BYTES)


def plus(builder: Any, address: Any, offset: int) -> Any:
    """Return the address `offset` bytes on; the processor adds such a constant for nothing."""
    return builder.add(address, number(offset))


def fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z. Not llvm.fma, which calls the C library where the processor has no such instruction."""
    return call(builder, f"llvm.fmuladd.v{x.type.count}f32", x.type, x, y, z)


def call(builder: Any, name: str, kind: ir.Type, *arguments: Any) -> Any:
    """Return a call of one of LLVM's own functions, which returns a `kind`."""
    types = [argument.type for argument in arguments]
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, types), name)
    return builder.call(function, arguments)


def control(builder: Any, wanted: Any) -> Any:
    """Exchange MXCSR, the control word of this thread's vector arithmetic, for `wanted`; both are int32."""
    before, after = (cgutils.alloca_once(builder, INT32) for _ in range(2))
    kind = ir.PointerType(ir.IntType(8))
    call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), builder.bitcast(before, kind))
    builder.store(wanted, after)
    call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), builder.bitcast(after, kind))
    return builder.load(before)


def loop(
    builder: Any, first: list[Any], count: Any, step: int, body: Callable[[Any, list[Any]], list[Any]]
) -> list[Any]:
    """Return the values after: for i in range(0, count, step): values = body(i, values), from the values `first`.

    They are variables on the stack for LLVM's first pass, and registers after it.
    """
    variables = [cgutils.alloca_once(builder, value.type) for value in first]
    for variable, value in zip(variables, first, strict=True):
        builder.store(value, variable)
    with cgutils.for_range_slice(builder, number(0), count, number(step), INT64, inc=True) as (index, _):
        for variable, value in zip(variables, body(index, [builder.load(x) for x in variables]), strict=True):
            builder.store(value, variable)
    return [builder.load(variable) for variable in variables]


def opaque(builder: Any, value: Any) -> Any:
    """Return the same int64, whose origin an assembly line of no instructions hides from LLVM."""
    return builder.asm(ir.FunctionType(INT64, [INT64]), "", "=r,0", [value], False)


def call_of_own(builder: Any, name: str, arguments: Sequence[Any], body: Callable[..., None]) -> None:
    """Return a call of the function `name`, which body(builder, *arguments) writes if the module does not have it."""
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
