"""The same result as attention/dense.py, near the speed of a matrix product, by loops that numba compiles.

This file decides whether a call can be taken (`native_unsupported_reason`) and makes torch operators of it, so that
autograd and torch.compile know forward and backward as one node each. `launch.py` runs the loops, `kernel.py` has them.
numba is imported by the first call that can be taken, and compiles for some seconds, once: the result is kept in
`$SPEECHATTN_CACHE/native` or `~/.cache/speechattn/native`.

SPEECHATTN_NATIVE=0 turns it off; SPEECHATTN_NATIVE=avx2 keeps to vectors of 8 floats where 16 were possible.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from speechattn.attention.call import OPERATOR_ARGUMENTS, AttentionCall, call_of_operator
from speechattn.attention.native.jit_cache import failed_import
from speechattn.attention.native.launch import SWITCH, empty_float32, run_kernel
from speechattn.attention.qkv import QKV, from_parts, with_unit_stride
from speechattn.heuristics import NATIVE_FEATURES
from speechattn.transforms import differentiated_once, is_learning, is_recorded

MAX_WINDOW = 2**24
"""Keys of a block are counted in float32, which is exact up to here."""


def native_unavailable() -> str | None:
    """Return why native attention cannot run on this machine at all, or None if it can. It does not import numba."""
    if os.environ.get(SWITCH, "") == "0":
        return f"{SWITCH}=0 is set"
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return f"it needs AVX2 or AVX-512, this processor has {torch.backends.cpu.get_cpu_capability()}"
    return _not_installed()


@functools.cache
def _not_installed() -> str | None:
    return "numba is not installed: pip install numba" if importlib.util.find_spec("numba") is None else None


def import_error() -> str | None:
    """Return why numba is installed but does not import, as with a numpy too new for it, or None. Imports numba."""
    return failed_import()


def native_unsupported_reason(qkv: QKV, call: AttentionCall) -> str | None:
    """Return why native attention cannot take this call, or None if it can."""
    reason: str | None = native_unavailable()
    if reason:
        return reason
    q, _, v, _ = qkv
    for x in qkv[:3]:
        if not x.is_cpu:
            return f"it runs on the CPU, got {x.device.type}"
        if x.dtype != torch.float32:
            return f"it computes in float32, got {str(x.dtype).removeprefix('torch.')}"
    for width in (q.shape[3], v.shape[3]):
        if width % NATIVE_FEATURES or not width:
            return f"the features of a head must be a multiple of {NATIVE_FEATURES}, got {width}"
    window = q.shape[2] if call.context.window is None else min(call.context.window, q.shape[2])
    if window > MAX_WINDOW or q.shape[2] >= 2**31 - 2**24:
        return f"windows end at {MAX_WINDOW} frames and audio at 2**31, got {window} and {q.shape[2]}"
    reason = import_error()
    return reason


def native_attention(qkv: QKV, call: AttentionCall) -> Tensor:
    """Return the output [B, H, T, Dv]; in memory it is [B, T, H, Dv], so that heads side by side are a view of it."""
    parts = qkv.parts
    if is_recorded() or not all(type(x) in (Tensor, torch.nn.Parameter) for x in parts):
        lengths, *rest = call.operator_arguments()
        output: Tensor = torch.ops.speechattn.native(parts, None if lengths is None else lengths.cpu(), *rest)
    elif is_learning((*parts, call.bias)):
        output = _Native.apply(call, call.bias, *parts)  # type: ignore[no-untyped-call]
    else:
        output = _output(qkv, call)
    return output  # the way through the operator is a long one for short audio, and only a compiler needs it


def native_step(qkv: QKV, call: AttentionCall) -> Tensor:
    """Return the output [B, H, n, Dv] of the next n frames of a stream."""
    return _output(qkv, call)


def _output(qkv: QKV, call: AttentionCall) -> Tensor:
    q, v = qkv.q, qkv.v
    batch, heads, frames, _ = q.shape
    output = empty_float32(batch, frames, heads, v.shape[3]).transpose(1, 2)
    run_kernel(qkv, call, backward=False, OUTPUT=output)
    return output


def _gradients(qkv: QKV, call: AttentionCall, grad: Tensor, grad_bias: bool) -> tuple[list[Tensor], Tensor | None]:
    """Return the gradients of the parts and, if wanted, of the bias."""
    if qkv.packed is not None:
        grads = [empty_float32(*qkv.packed.shape)]
    else:
        grads = [empty_float32(x.shape[0], x.shape[2], x.shape[1], x.shape[3]).transpose(1, 2) for x in qkv.parts]
    grad_q, grad_k, grad_v, _ = from_parts(grads)
    tensors = {"GRAD_OUTPUT": grad, "GRAD_Q": grad_q, "GRAD_K": grad_k, "GRAD_V": grad_v}
    return grads, run_kernel(qkv, call, backward=True, grad_bias=grad_bias, **tensors)


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: AttentionCall, bias: Tensor | None, *parts: Tensor) -> Tensor:
        ctx.save_for_backward(call.lengths, bias, *parts)  # so that torch finds what is written to before backward
        ctx.call = call
        return _output(from_parts(parts), call)

    @staticmethod
    @differentiated_once("native")
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        _, _, *parts = ctx.saved_tensors
        grads, grad_bias = _gradients(from_parts(parts), ctx.call, grad, ctx.needs_input_grad[1])
        return None, grad_bias, *grads


# The same as operators, whose arguments a compiler has put into any memory.

torch.library.define("speechattn::native", f"(Tensor[] parts, {OPERATOR_ARGUMENTS}) -> Tensor")
torch.library.define(
    "speechattn::native_backward", f"(Tensor[] parts, Tensor grad, bool grad_bias, {OPERATOR_ARGUMENTS}) -> Tensor[]"
)


def _operator(parts: Sequence[Tensor], *arguments: Any) -> Tensor:
    return _output(from_parts(parts).with_unit_stride(), call_of_operator(*arguments))


def _backward_operator(parts: Sequence[Tensor], grad: Tensor, grad_bias: bool, *arguments: Any) -> list[Tensor]:
    """Return the gradients of the parts and, if wanted, of the bias."""
    qkv, grad = from_parts(parts).with_unit_stride(), with_unit_stride(grad)
    grads, of_bias = _gradients(qkv, call_of_operator(*arguments), grad, grad_bias)
    return grads if of_bias is None else [*grads, of_bias]


@torch.library.register_fake("speechattn::native")  # type: ignore[untyped-decorator]
def _(parts: Sequence[Tensor], *arguments: Any) -> Tensor:
    q, _, v, _ = from_parts(parts)
    batch, heads, frames, _ = q.shape
    return q.new_empty(batch, frames, heads, v.shape[3]).transpose(1, 2)


@torch.library.register_fake("speechattn::native_backward")  # type: ignore[untyped-decorator]
def _(parts: Sequence[Tensor], grad: Tensor, grad_bias: bool, *arguments: Any) -> list[Tensor]:
    if len(parts) == 1:
        grads = [parts[0].new_empty(parts[0].shape)]
    else:
        grads = [x.new_empty(x.shape[0], x.shape[2], x.shape[1], x.shape[3]).transpose(1, 2) for x in parts]
    return [*grads, grad.new_empty(arguments[1].shape)] if grad_bias else grads


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    parts, lengths, bias, *ctx.rest = inputs
    ctx.save_for_backward(lengths, bias, *parts)


@differentiated_once("native")
def _differentiate(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    lengths, bias, *parts = ctx.saved_tensors
    wanted = ctx.needs_input_grad[2] and bias is not None
    grads = torch.ops.speechattn.native_backward(parts, grad, wanted, lengths, bias, *ctx.rest)
    return grads[: len(parts)], None, grads[-1] if wanted else None, None, None, None, None, None


# What torch.compiler.assume_constant_result does, without importing torch's whole compiler.
for constant in (native_unavailable, import_error):
    constant._dynamo_marked_constant = True  # type: ignore[attr-defined]
torch.library.impl("speechattn::native", "CPU")(_operator)
torch.library.impl("speechattn::native_backward", "CPU")(_backward_operator)
torch.library.register_autograd("speechattn::native", _differentiate, setup_context=_keep)
