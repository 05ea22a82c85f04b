"""The same result as attention/dense.py on a CUDA device by the fused kernels of `triton_kernels.py`.

This file decides whether a call can be taken (`triton_unsupported_reason`), chooses the size of tiles, and makes
forward and backward one node of autograd. Saved for the backward pass are q, k, v, the output and two floats a query.
Any strides are read as they are, so that a packed projection [B, T, 3, H, D] is not copied; padding is never read.
Triton is imported, and compiles for a second or two, at the first call of its kind.

TRITON_INTERPRET=1, set before triton is imported, runs the kernels on a CPU, slowly: that is how they are tested
without a device.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

from speechattn.attention.call import AttentionCall
from speechattn.attention.cuda.key_ranges import key_range_table
from speechattn.attention.qkv import QKV
from speechattn.attention.relative_bias import bounded_bias
from speechattn.transforms import differentiated_once

MAX_SUMMED_WINDOW = 4096
"""Keys of a frame up to which a table's gradient is summed: its sums take that many bytes / 16 a frame of a head."""
MAX_FEATURES = 128
"""Of a head: more would not fit beside each other in the shared memory of most devices."""


def triton_unsupported_reason(qkv: QKV, call: AttentionCall) -> str | None:
    """Return why the Triton kernels cannot take this call, or None if they can."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    q, _, v, _ = qkv
    if not _interpreted():
        if q.device.type != "cuda":
            return f"it runs on a CUDA device, got {q.device.type}"
        major, minor = torch.cuda.get_device_capability(q.device)
        if major < 8:
            return f"it needs compute capability 8.0, this device has {major}.{minor}"
    if q.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"it computes in float32, float16 and bfloat16, got {str(q.dtype).removeprefix('torch.')}"
    if _interpreted() and q.dtype == torch.bfloat16:
        return "Triton's interpreter cannot multiply bfloat16"
    for width in (q.shape[3], v.shape[3]):
        if not 1 <= width <= MAX_FEATURES:
            return f"a head may have up to {MAX_FEATURES} features, got {width}"
    batch, heads, frames, _ = q.shape
    if frames >= 2**29 or batch * heads * frames >= 2**34:
        return f"a call may have 2**34 frames of one head, 2**29 of them in a row, got {batch * heads * frames}"
    if call.bias is not None and call.bias.requires_grad:
        span = call.context.within(frames)
        assert span.window is not None
        if span.window > MAX_SUMMED_WINDOW:
            return f"the gradient of a bias is summed over windows up to {MAX_SUMMED_WINDOW} frames, got {span.window}"
    return None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def triton_attention(qkv: QKV, call: AttentionCall) -> Tensor:
    """Return the output [B, H, T, Dv]; in memory it is [B, T, H, Dv], so that heads side by side are a view of it.

    torch.compile leaves the call to Python: a break in its graph.
    """
    lengths = None if call.lengths is None else call.lengths.to(qkv.q.device)
    output: Tensor = _Triton.apply(*qkv[:3], call.bias, lengths, call)  # type: ignore[no-untyped-call]
    return output


class _Triton(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, lengths: Tensor | None, call: AttentionCall
    ) -> Tensor:
        launch = _Launch(q, v, bias, lengths, call)
        output, sums = _like(v), q.new_empty(*q.shape[:3], 2, dtype=torch.float32)
        launch.forward(q, k, v, output, sums)
        ctx.save_for_backward(q, k, v, output, sums, bias, lengths)
        ctx.call = call
        return output

    @staticmethod
    @differentiated_once("triton")
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, output, sums, bias, lengths = ctx.saved_tensors
        launch = _Launch(q, v, bias, lengths, ctx.call)
        wanted = bias is not None and ctx.needs_input_grad[3]
        grads, grad_bias = launch.backward(q, k, v, output, sums, grad, wanted)
        return *grads, grad_bias, None, None


class _Launch:
    """What the kernels of one call share: the size of tiles, the keys of each frame, the bias."""

    def __init__(self, q: Tensor, v: Tensor, bias: Tensor | None, lengths: Tensor | None, call: AttentionCall) -> None:
        self.batch, self.heads, self.frames, depth = q.shape
        self.offsets = call.offsets(self.frames)
        block_depth, block_width = (max(16, 1 << (size - 1).bit_length()) for size in (depth, v.shape[3]))
        # float32 as three TF32 products is as exact as it is without tensor cores, which would take half a minute to
        # compile; tiles of 64 of it, or of many features or distances with 4 warps, do not fit in the registers.
        wide, large = q.dtype == torch.float32, max(block_depth, block_width) > 64
        self.block = 32 if wide else 64
        self.ranges = key_range_table(call.context, self.frames, self.block, q.device)
        self.bias = None if bias is None else bounded_bias(bias)
        self.lengths, self.scale = lengths, call.scale
        self.blocks = -(-self.frames // self.block)
        self.grid = (self.batch * self.heads * self.blocks,)
        self.device = q.device
        self.options = {
            "RELU": call.activation == "relu",
            "DEPTH": depth,
            "WIDTH": v.shape[3],
            "BLOCK_DEPTH": block_depth,
            "BLOCK_WIDTH": block_width,
            "BLOCK": self.block,
            "PRECISION": "tf32" if not wide else "ieee" if torch.version.hip else "tf32x3",
            "num_warps": 8 if not wide and (large or bias is not None) else 4,
            "num_stages": 1 if wide else 2,
        }

    def forward(self, q: Tensor, k: Tensor, v: Tensor, output: Tensor, sums: Tensor) -> None:
        tensors = (q, k, v, output, sums, self.bias, self.lengths, self.ranges.low, self.ranges.high)
        numbers = (self.heads, self.frames, self.ranges.reach, self.offsets.start, len(self.offsets), self.scale)
        self._run("forward", *tensors, *_strides(q, k, v, output), *numbers)

    def backward(
        self, q: Tensor, k: Tensor, v: Tensor, output: Tensor, sums: Tensor, grad: Tensor, grad_bias: bool
    ) -> tuple[list[Tensor], Tensor | None]:
        grads, delta = [_like(x) for x in (q, k, v)], sums.new_empty(q.shape[:3])
        # Every tile adds to two neighbouring strips of distances, each as wide as itself.
        slots = -(-self.ranges.keys // self.block) + 1
        partial = None
        if grad_bias:
            partial = sums.new_zeros(self.batch, self.heads, self.blocks, slots * self.block)
        given = (self.bias, self.lengths, self.ranges.low, self.ranges.high)
        bias = (self.offsets.start, len(self.offsets), self.scale)
        self._run(
            "backward_queries",
            *(q, k, v, output, grad, sums, delta, grads[0], partial, *given),
            *_strides(q, k, v, output, grad, grads[0]),
            *(self.heads, self.frames, self.ranges.reach, slots, *bias),
        )
        blocks = (self.ranges.some_first, self.ranges.some_stop, self.ranges.every_first, self.ranges.every_stop)
        self._run(
            "backward_keys",
            *(q, k, v, grad, sums, delta, grads[1], grads[2], *given, *blocks),
            *_strides(q, k, v, grad, grads[1], grads[2]),
            *(self.heads, self.frames, *bias),
        )
        return grads, None if partial is None else self._bias_gradient(partial)

    def _bias_gradient(self, partial: Tensor) -> Tensor:
        """Return the gradient [H, offsets] from sums by distance [B, H, blocks, distances]."""
        sums = partial.sum((0, 2))
        distances = range(-self.ranges.reach - self.block, -self.ranges.reach - self.block + sums.shape[1])
        before = min(max(0, self.offsets.start - distances.start), len(distances))
        after = min(max(0, self.offsets.stop - distances.start), len(distances))
        grad = sums.new_zeros(self.heads, len(self.offsets))
        column = distances.start + before - self.offsets.start
        grad[:, column : column + after - before] = sums[:, before:after]
        grad[:, 0] += sums[:, :before].sum(1)  # past an end of the table, that end
        grad[:, -1] += sums[:, after:].sum(1)
        return grad

    def _run(self, name: str, *arguments: Any) -> None:
        if not self.grid[0]:
            return
        from speechattn.attention.cuda import triton_kernels

        # Triton launches on the current device, which need not be that of the tensors.
        with torch.cuda.device(self.device) if self.device.type == "cuda" else contextlib.nullcontext():
            getattr(triton_kernels, name)[self.grid](*arguments, **self.options)


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on")


def _like(x: Tensor) -> Tensor:
    """Return uninitialised [B, H, T, D] that in memory is [B, T, H, D]."""
    batch, heads, frames, width = x.shape
    return x.new_empty(batch, frames, heads, width).transpose(1, 2)


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for x in tensors for stride in x.stride()[:3]]
