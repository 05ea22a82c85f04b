"""The same result as attention/dense.py, near the speed of a matrix product: the door to `kernel.py`, compiled by
numba.

This file decides whether a call can be taken (`native_refusal`), lays out memory, splits the work over threads, and
makes torch operators of it, so that autograd and torch.compile know forward and backward as one node each. What it
cannot do, `attention/banded/attention.py` does. numba is imported by the first call that can be taken, and compiles
for some seconds, once:
the result is kept in `$SPEECHATTN_CACHE/native` or `~/.cache/speechattn/native`.

SPEECHATTN_NATIVE=0 turns it off; SPEECHATTN_NATIVE=avx2 keeps to vectors of 8 floats where 16 were possible.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechattn.attention.dense import bounded_bias, table_offsets
from speechattn.attention.native.jit_cache import compiled, failed_import, imported
from speechattn.attention.native.key_ranges import plan_of
from speechattn.attention.qkv import unpacked
from speechattn.context import Context
from speechattn.heuristics import NATIVE_FEATURES
from speechattn.transforms import check_gradient, is_learning, is_recorded

SWITCH = "SPEECHATTN_NATIVE"
PART_FRAMES = 512
"""Queries of one head that a task takes: their keys and values stay in the second-level cache."""
LONGEST_WINDOW = 2**24
"""Keys of a block are counted in float32, which is exact up to here."""
SMALL = 2**27
"""Multiplications up to which a second thread costs more than it saves: about a millisecond of them."""
HUGE_PAGES = 2**25
"""Bytes from which malloc takes new memory from the system every time, where pages of 4 KB would cost much of it.

numpy asks the system for huge pages. Smaller tensors get memory that was in use before, which is better still."""


def native_unavailable() -> str | None:
    """Why native attention cannot run on this machine at all, or None if it can. Cheap: numba is not imported."""
    if os.environ.get(SWITCH, "") == "0":
        return f"{SWITCH}=0 is set"
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return f"it needs AVX2 or AVX-512, this processor has {torch.backends.cpu.get_cpu_capability()}"
    return _not_installed()


@functools.cache
def _not_installed() -> str | None:
    return "numba is not installed: pip install numba" if importlib.util.find_spec("numba") is None else None


def native_refusal(q: Tensor, k: Tensor, v: Tensor, context: Context) -> str | None:
    """Why native attention cannot take this call, or None if it can; arguments as in `attention`."""
    reason: str | None = native_unavailable()
    if reason:
        return reason
    for x in (q, k, v):
        if not x.is_cpu:
            return f"it runs on the CPU, got {x.device.type}"
        if x.dtype != torch.float32:
            return f"it computes in float32, got {str(x.dtype).removeprefix('torch.')}"
    for width in (q.shape[3], v.shape[3]):
        if width % NATIVE_FEATURES or not width:
            return f"the features of a head must be a multiple of {NATIVE_FEATURES}, got {width}"
    window = q.shape[2] if context.window is None else min(context.window, q.shape[2])
    if window > LONGEST_WINDOW or q.shape[2] >= 2**31 - 2**24:
        return f"windows end at {LONGEST_WINDOW} frames and audio at 2**31, got {window} and {q.shape[2]}"
    reason = import_error()
    return reason


def import_error() -> str | None:
    """Why numba is there but does not import, as beside a numpy that is too new for it, or None. Imports numba."""
    return failed_import()


def native_attention(
    parts: Sequence[Tensor],
    context: Context,
    lengths: Tensor | None,
    activation: str,
    relative_bias: Tensor | None,
    scale: float,
) -> Tensor:
    """Output [B, H, T, Dv] of `parts`, see attention/qkv.py; the rest as in `dense_attention`. Called through
    `attention`.

    In memory the output is [B, T, H, Dv], so that heads side by side are a view of it.
    """
    lengths = None if lengths is None else lengths.to("cpu", torch.int64)
    table = None if relative_bias is None else relative_bias.float()
    call = (lengths, table, context.left, context.right, context.chunk, activation == "relu", scale)
    if is_recorded() or not all(type(x) in (Tensor, torch.nn.Parameter) for x in parts):
        output: Tensor = torch.ops.speechattn.native(parts, *call)
    elif is_learning((*parts, table)):
        output = _Native.apply(call, table, *parts)  # type: ignore[no-untyped-call]
    else:
        output = _output(parts, call)
    return output  # the way through the operator is a long one for short audio, and only a compiler needs it


@torch.no_grad()
def native_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    context: Context,
    activation: str,
    relative_bias: Tensor | None,
    scale: float,
    query_start: int,
    key_start: int,
) -> Tensor:
    """Output [B, H, n, Dv] of the next n frames of a stream; arguments as in `banded_step`."""
    table = None if relative_bias is None else relative_bias.float()
    call = (None, table, context.left, context.right, context.chunk, activation == "relu", scale)
    return _output((q, k, v), call, (query_start, key_start))


_CALL = "Tensor? lengths, Tensor? table, int? left, int? right, int chunk, bool relu, float scale"
torch.library.define("speechattn::native", f"(Tensor[] parts, {_CALL}) -> Tensor")
torch.library.define(
    "speechattn::native_backward", f"(Tensor[] parts, Tensor grad, bool grad_table, {_CALL}) -> Tensor[]"
)


def _forward(parts: Sequence[Tensor], *call: Any) -> Tensor:
    return _output(parts, call)


def _output(parts: Sequence[Tensor], call: tuple[Any, ...], starts: tuple[int, int] = (0, 0)) -> Tensor:
    """Output [B, H, T, Dv]."""
    q, k, v = unpacked(parts)
    batch, heads, frames, _ = q.shape
    output = _empty(batch, frames, heads, v.shape[3]).transpose(1, 2)
    _run(q, k, v, call, False, starts, OUTPUT=output)
    return output


def _backward(parts: Sequence[Tensor], grad: Tensor, grad_table: bool, *call: Any) -> list[Tensor]:
    """Gradients of the parts and, if `grad_table`, of the table."""
    if grad.stride(-1) != 1:  # an expanded gradient has stride 0
        grad = grad.contiguous()
    q, k, v = unpacked(parts)
    if len(parts) == 1:
        grads = [_empty(*parts[0].shape)]
    else:
        grads = [_empty(x.shape[0], x.shape[2], x.shape[1], x.shape[3]).transpose(1, 2) for x in parts]
    grad_q, grad_k, grad_v = unpacked(grads)
    table = _run(q, k, v, call, grad_table, GRAD_OUTPUT=grad, GRAD_Q=grad_q, GRAD_K=grad_k, GRAD_V=grad_v)
    return [*grads, table] if grad_table else grads


@torch.library.register_fake("speechattn::native")  # type: ignore[untyped-decorator]
def _(parts: Sequence[Tensor], *call: Any) -> Tensor:
    q, _, v = unpacked(parts)
    batch, heads, frames, _ = q.shape
    return q.new_empty(batch, frames, heads, v.shape[3]).transpose(1, 2)


@torch.library.register_fake("speechattn::native_backward")  # type: ignore[untyped-decorator]
def _(parts: Sequence[Tensor], grad: Tensor, grad_table: bool, *call: Any) -> list[Tensor]:
    if len(parts) == 1:
        grads = [parts[0].new_empty(parts[0].shape)]
    else:
        grads = [x.new_empty(x.shape[0], x.shape[2], x.shape[1], x.shape[3]).transpose(1, 2) for x in parts]
    return [*grads, grad.new_empty(call[1].shape)] if grad_table else grads


class _Native(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: tuple[Any, ...], table: Tensor | None, *parts: Tensor) -> Tensor:
        output = _output(parts, call)
        _keep(ctx, (parts, *call), output)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        grads, grad_table = _gradients(ctx, grad, ctx.needs_input_grad[1], _backward)
        return None, grad_table, *grads


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    parts, lengths, table, *ctx.rest = inputs
    ctx.save_for_backward(lengths, table, *parts)


def _gradients(ctx: Any, grad: Tensor, wanted: bool, backward: Any) -> tuple[list[Tensor], Tensor | None]:
    """Gradients of the parts, and if it is wanted of the table."""
    check_gradient("native", grad)
    lengths, table, *parts = ctx.saved_tensors
    wanted = wanted and table is not None
    grads = backward(parts, grad, wanted, lengths, table, *ctx.rest)
    return grads[: len(parts)], grads[-1] if wanted else None


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    backward = torch.ops.speechattn.native_backward
    grads, grad_table = _gradients(ctx, grad, ctx.needs_input_grad[2], backward)
    return grads, None, grad_table, None, None, None, None, None


# What torch.compiler.assume_constant_result does, without importing torch's whole compiler.
for asked in (native_unavailable, import_error):
    asked._dynamo_marked_constant = True  # type: ignore[attr-defined]
torch.library.impl("speechattn::native", "CPU")(_forward)
torch.library.impl("speechattn::native_backward", "CPU")(_backward)
torch.library.register_autograd("speechattn::native", _differentiate, setup_context=_keep)


def _run(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    call: tuple[Any, ...],
    grad_table: bool = False,
    starts: tuple[int, int] = (0, 0),
    **tensors: Tensor,
) -> Tensor:
    """Run forward, or backward if there is a GRAD_OUTPUT, into the given tensors; returns the table's gradient.

    `starts` are the frames of the first query and the first key, which a stream has not both at 0.
    """
    lengths, table, left, right, chunk, relu, scale = call
    context = _context(left, right, chunk)
    kernel = imported()
    backward = "GRAD_OUTPUT" in tensors
    batch, heads, frames, depth = q.shape
    width = v.shape[3]
    lanes = _lanes(depth, width)
    keys, ahead = k.shape[2], starts[0] - starts[1]
    plan = plan_of(context, frames, 2 * lanes, PART_FRAMES, keys, starts)
    part_frames = plan.backward_frames if backward else PART_FRAMES
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    operands = [[0, 0, 0, 0]] * 10
    for name, x in dict(tensors, Q=q, K=k, V=v).items():
        row, head, frame = x.stride()[:3]
        operands[getattr(kernel, name)] = [x.data_ptr(), 4 * row, 4 * head, 4 * frame]
    columns = grad_columns = None
    if table is not None:
        # Reversed, and long enough for every pair of a block, so that the biases of a row of scores are neighbours.
        offsets = table_offsets(table, context, starts[1] + keys)
        index = torch.arange(plan.distances.stop - 1, plan.distances.start - 1, -1, device="cpu") - offsets.start
        index.clamp_(0, len(offsets) - 1)
        columns = bounded_bias(table.detach()).index_select(1, index)
        # The loops count queries from 0, and so a distance `ahead` too large.
        operands[kernel.BIAS] = _reversed(columns, plan.distances.stop - 1 + ahead, columns.stride(0), 0, 0)
        if grad_table:
            grad_columns = columns.new_zeros(batch, -(-frames // part_frames), *columns.shape)
            row, part, head, _ = grad_columns.stride()
            operands[kernel.GRAD_BIAS] = _reversed(grad_columns, plan.distances.stop - 1, head, row, part)
    rows = np.array([keys] * batch, np.int64) if lengths is None else np.ascontiguousarray(lengths.numpy())
    threads = 1 if plan.pairs * batch * heads * depth < SMALL else torch.get_num_threads()
    tasks = compiled(backward, lanes)
    sizes = (heads, frames, depth, width, part_frames, plan.most_keys, int(relu))
    parts = -(-frames // part_frames)
    for offset, step in ((0, 2), (1, 2)) if backward else ((0, 1),):
        number = batch * heads * len(range(offset, parts, step))
        arguments = (np.array(operands, np.int64), plan.low, plan.high, rows, (*sizes, offset, step), scale)
        _spread(functools.partial(tasks, *arguments), number, threads, (q, k, v, columns, grad_columns, tensors))
    if grad_columns is None:
        return q.new_empty(0)
    return torch.zeros_like(table).index_add_(1, index, grad_columns.sum((0, 1)))


def _reversed(columns: Tensor, zero: int, head: int, row: int, part: int) -> list[int]:
    """An operand whose address is that of distance 0, in column `zero`."""
    return [columns.data_ptr() + 4 * zero, *(4 * stride for stride in (row, head, part))]


def _spread(function: Callable[[int, int], None], number: int, threads: int, operands: object) -> None:
    """Call function(first, last) for ranges that make up [0, number), on this thread and `threads` - 1 others.

    Threads of this call only, no pool: none is left behind that a fork would have to know of, and a pool takes no work
    once the main thread has returned. Where no thread can be started, at the end of the interpreter or because the
    system has too many, this one does the work.

    `operands` are the tensors whose addresses the function has. Every thread holds them, so that none writes into freed
    memory when an interrupt takes the caller away from here.
    """
    if threads == 1 or number <= 1:
        function(0, number)
        return
    pieces = min(number, 4 * threads)
    waiting = [(number * piece // pieces, number * (piece + 1) // pieces) for piece in reversed(range(pieces))]
    errors: list[BaseException] = []

    def work(_operands: object = operands) -> None:
        try:
            while True:
                try:
                    piece = waiting.pop()
                except IndexError:
                    return
                function(*piece)
        except BaseException as error:
            waiting.clear()
            errors.append(error)

    helpers: list[threading.Thread] = []
    try:
        for _ in range(min(threads, pieces) - 1):
            helper = threading.Thread(target=work)
            try:
                helper.start()
            except RuntimeError:
                break
            helpers.append(helper)
        work()
    finally:
        waiting.clear()
        for helper in helpers:
            helper.join()
    if errors:
        raise errors[0]


_context = functools.lru_cache(Context)  # an operator takes numbers, and a Context checks them


def _lanes(depth: int, width: int) -> int:
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512" and os.environ.get(SWITCH, "").lower() != "avx2"
    return 16 if wide and depth % 16 == 0 and width % 16 == 0 else 8


def _empty(*shape: int) -> Tensor:
    """float32 on huge pages, if it is large, and aligned to a cache line."""
    number = math.prod(shape)
    if 4 * number < HUGE_PAGES:
        return torch.empty(shape, dtype=torch.float32, device="cpu")  # whatever the defaults are
    raw = np.empty(number + 16, np.float32)
    skipped = -raw.ctypes.data % 64 // 4
    return torch.from_numpy(raw[skipped : skipped + number]).view(shape)
