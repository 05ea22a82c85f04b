"""One run of the compiled loops: the tensors' addresses, the work cut into tasks, and threads to do them."""

from __future__ import annotations

import functools
import math
import os
import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from speechattn.attention.call import AttentionCall
from speechattn.attention.native.jit_cache import compiled, imported
from speechattn.attention.native.key_ranges import key_ranges
from speechattn.attention.qkv import QKV
from speechattn.attention.relative_bias import bounded_bias

SWITCH = "SPEECHATTN_NATIVE"
PART_FRAMES = 512
"""Queries of one head that a task takes: their keys and values stay in the second-level cache."""
ONE_THREAD = 2**27
"""Multiplications up to which a second thread costs more than it saves: about a millisecond of them."""
HUGE_PAGES = 2**25
"""Bytes from which malloc takes new memory from the system every time, where pages of 4 KB would cost much of it.

numpy asks the system for huge pages. Smaller tensors get memory that was in use before, which is better still."""


def run_kernel(
    qkv: QKV, call: AttentionCall, backward: bool, grad_bias: bool = False, **tensors: Tensor
) -> Tensor | None:
    """Run the loops into the given tensors, and return the gradient of the bias, if wanted.

    Forward they write OUTPUT; backward they read GRAD_OUTPUT and write GRAD_Q, GRAD_K and GRAD_V. The last stride of
    every tensor is 1.
    """
    kernel = imported()
    q, k, v, _ = qkv
    batch, heads, frames, depth = q.shape
    width = v.shape[3]
    lanes = vector_lanes(depth, width)
    keys, ahead = k.shape[2], call.query_start - call.key_start
    ranges = key_ranges(call.context, frames, 2 * lanes, PART_FRAMES, keys, (call.query_start, call.key_start))
    part_frames = ranges.backward_frames if backward else PART_FRAMES
    operands = [[0, 0, 0, 0]] * 10
    for name, x in dict(tensors, Q=q, K=k, V=v).items():
        row, head, frame = x.stride()[:3]
        operands[getattr(kernel, name)] = [x.data_ptr(), 4 * row, 4 * head, 4 * frame]
    columns = grad_columns = None
    if call.bias is not None:
        # Reversed, and long enough for every pair of a block, so that the biases of a row of scores are neighbours.
        offsets = call.offsets(call.key_start + keys)
        distances = ranges.distances
        index = torch.arange(distances.stop - 1, distances.start - 1, -1, device="cpu") - offsets.start
        index.clamp_(0, len(offsets) - 1)
        columns = bounded_bias(call.bias.detach()).index_select(1, index)
        # The loops count queries from 0, and so a distance `ahead` too large.
        operands[kernel.BIAS] = _reversed(columns, distances.stop - 1 + ahead, columns.stride(0), 0, 0)
        if grad_bias:
            grad_columns = columns.new_zeros(batch, -(-frames // part_frames), *columns.shape)
            row, part, head, _ = grad_columns.stride()
            operands[kernel.GRAD_BIAS] = _reversed(grad_columns, distances.stop - 1, head, row, part)
    if call.lengths is None:
        rows = np.array([keys] * batch, np.int64)
    else:
        rows = np.ascontiguousarray(call.lengths.cpu().numpy())
    threads = 1 if ranges.pairs * batch * heads * depth < ONE_THREAD else torch.get_num_threads()
    tasks = compiled(backward, lanes)
    sizes = (heads, frames, depth, width, part_frames, ranges.max_keys, int(call.activation == "relu"))
    parts = -(-frames // part_frames)
    for offset, step in ((0, 2), (1, 2)) if backward else ((0, 1),):
        number = batch * heads * len(range(offset, parts, step))
        arguments = (np.array(operands, np.int64), ranges.low, ranges.high, rows, (*sizes, offset, step), call.scale)
        run_tasks(functools.partial(tasks, *arguments), number, threads, (q, k, v, columns, grad_columns, tensors))
    if call.bias is None or grad_columns is None:
        return None
    return torch.zeros_like(call.bias).index_add_(1, index, grad_columns.sum((0, 1)))


def _reversed(columns: Tensor, zero: int, head: int, row: int, part: int) -> list[int]:
    """Return an operand whose address is that of distance 0, in column `zero`."""
    return [columns.data_ptr() + 4 * zero, *(4 * stride for stride in (row, head, part))]


def run_tasks(function: Callable[[int, int], None], number: int, threads: int, operands: object) -> None:
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


def vector_lanes(depth: int, width: int) -> int:
    """Return the floats of a vector: 16 with AVX-512, where the features of a head are a multiple of it, or 8."""
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512" and os.environ.get(SWITCH, "").lower() != "avx2"
    return 16 if wide and depth % 16 == 0 and width % 16 == 0 else 8


def empty_float32(*shape: int) -> Tensor:
    """Return uninitialised float32, on huge pages if it is large, and aligned to a cache line."""
    number = math.prod(shape)
    if 4 * number < HUGE_PAGES:
        return torch.empty(shape, dtype=torch.float32, device="cpu")  # whatever the defaults are
    raw = np.empty(number + 16, np.float32)
    skipped = -raw.ctypes.data % 64 // 4
    return torch.from_numpy(raw[skipped : skipped + number]).view(shape)
