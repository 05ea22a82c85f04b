"""The same result as attention/dense.py on a CUDA device by one fused kernel: the door to `triton_kernels.py`.

This file decides whether a call can be taken (`triton_refusal`), chooses the size of tiles, and makes forward and
backward one node of autograd. Saved for the backward pass are q, k, v, the output and two floats a query. Any strides
are read as they are, so that a packed projection [B, T, 3, H, D] is not copied; padding is never read. Triton is
imported, and compiles for a second or two, at the first call of its kind.

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

from speechattn.attention.cuda.key_ranges import Spans, spans
from speechattn.attention.dense import bounded_bias, table_offsets
from speechattn.context import Context
from speechattn.transforms import check_gradient

LONGEST_SUMMED = 4096
"""Keys of a frame up to which a table's gradient is summed: its sums take that many bytes / 16 a frame of a head."""
MOST_FEATURES = 128
"""Of a head: more would not fit beside each other in the shared memory of most devices."""


def triton_refusal(
    q: Tensor, k: Tensor, v: Tensor, context: Context, activation: str, relative_bias: Tensor | None
) -> str | None:
    """Why the Triton kernels cannot take this call, or None if they can; arguments as in `attention`."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
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
        if not 1 <= width <= MOST_FEATURES:
            return f"a head may have up to {MOST_FEATURES} features, got {width}"
    batch, heads, frames, _ = q.shape
    if frames >= 2**29 or batch * heads * frames >= 2**34:
        return f"a call may have 2**34 frames of one head, 2**29 of them in a row, got {batch * heads * frames}"
    if relative_bias is not None and relative_bias.requires_grad:
        span = context.within(frames)
        assert span.window is not None
        if span.window > LONGEST_SUMMED:
            return f"the gradient of a bias is summed over windows up to {LONGEST_SUMMED} frames, got {span.window}"
    return None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def triton_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    context: Context,
    lengths: Tensor | None,
    activation: str,
    relative_bias: Tensor | None,
    scale: float,
) -> Tensor:
    """Output [B, H, T, Dv]; arguments as in `dense_attention`, meant to be called through `attention`.

    In memory the output is [B, T, H, Dv], so that heads side by side are a view of it. torch.compile leaves the call
    to Python: a break in its graph.
    """
    if lengths is not None:
        lengths = lengths.to(q.device, torch.int64)
    table = None if relative_bias is None else relative_bias.float()
    call = (context, activation == "relu", scale)
    output: Tensor = _Triton.apply(q, k, v, table, lengths, *call)  # type: ignore[no-untyped-call]
    return output


class _Triton(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        table: Tensor | None,
        lengths: Tensor | None,
        context: Context,
        relu: bool,
        scale: float,
    ) -> Tensor:
        q, k, v = (_rows(x) for x in (q, k, v))
        launch = _Launch(q, v, table, lengths, context, relu, scale)
        output, sums = _like(v), q.new_empty(*q.shape[:3], 2, dtype=torch.float32)
        launch.forward(q, k, v, output, sums)
        ctx.save_for_backward(q, k, v, output, sums, table, lengths)
        ctx.rest = context, relu, scale
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        check_gradient("triton", grad)
        q, k, v, output, sums, table, lengths = ctx.saved_tensors
        launch = _Launch(q, v, table, lengths, *ctx.rest)
        wanted = table is not None and ctx.needs_input_grad[3]
        grads, grad_table = launch.backward(q, k, v, output, sums, _rows(grad), wanted)
        return *grads, grad_table, None, None, None, None


class _Launch:
    """What the kernels of one call share: the size of tiles, the spans of frames, the table."""

    def __init__(
        self,
        q: Tensor,
        v: Tensor,
        table: Tensor | None,
        lengths: Tensor | None,
        context: Context,
        relu: bool,
        scale: float,
    ) -> None:
        self.batch, self.heads, self.frames, depth = q.shape
        self.offsets = context.offsets() if table is None else table_offsets(table, context, self.frames)
        block_depth, block_width = (max(16, 1 << (size - 1).bit_length()) for size in (depth, v.shape[3]))
        # float32 as three TF32 products is as exact as it is without tensor cores, which would take half a minute to
        # compile; tiles of 64 of it, or of many features or distances with 4 warps, do not fit in the registers.
        wide, large = q.dtype == torch.float32, max(block_depth, block_width) > 64
        self.block = 32 if wide else 64
        self.spans: Spans = spans(context, self.frames, self.block, q.device)
        self.table = None if table is None else bounded_bias(table)
        self.lengths, self.scale = lengths, scale
        self.blocks = -(-self.frames // self.block)
        self.grid = (self.batch * self.heads * self.blocks,)
        self.device = q.device
        self.options = {
            "RELU": relu,
            "DEPTH": depth,
            "WIDTH": v.shape[3],
            "BLOCK_DEPTH": block_depth,
            "BLOCK_WIDTH": block_width,
            "BLOCK": self.block,
            "PRECISION": "tf32" if not wide else "ieee" if torch.version.hip else "tf32x3",
            "num_warps": 8 if not wide and (large or table is not None) else 4,
            "num_stages": 1 if wide else 2,
        }

    def forward(self, q: Tensor, k: Tensor, v: Tensor, output: Tensor, sums: Tensor) -> None:
        tensors = (q, k, v, output, sums, self.table, self.lengths, self.spans.low, self.spans.high)
        numbers = (self.heads, self.frames, self.spans.reach, self.offsets.start, len(self.offsets), self.scale)
        self._run("forward", *tensors, *_strides(q, k, v, output), *numbers)

    def backward(
        self, q: Tensor, k: Tensor, v: Tensor, output: Tensor, sums: Tensor, grad: Tensor, grad_table: bool
    ) -> tuple[list[Tensor], Tensor | None]:
        grads, delta = [_like(x) for x in (q, k, v)], sums.new_empty(q.shape[:3])
        # Every tile adds to two neighbouring strips of distances, each as wide as itself.
        slots = -(-self.spans.keys // self.block) + 1
        partial = None
        if grad_table:
            partial = sums.new_zeros(self.batch, self.heads, self.blocks, slots * self.block)
        given = (self.table, self.lengths, self.spans.low, self.spans.high)
        table = (self.offsets.start, len(self.offsets), self.scale)
        self._run(
            "backward_queries",
            *(q, k, v, output, grad, sums, delta, grads[0], partial, *given),
            *_strides(q, k, v, output, grad, grads[0]),
            *(self.heads, self.frames, self.spans.reach, slots, *table),
        )
        blocks = (self.spans.some_first, self.spans.some_stop, self.spans.every_first, self.spans.every_stop)
        self._run(
            "backward_keys",
            *(q, k, v, grad, sums, delta, grads[1], grads[2], *given, *blocks),
            *_strides(q, k, v, grad, grads[1], grads[2]),
            *(self.heads, self.frames, *table),
        )
        return grads, None if partial is None else self._table_gradient(partial)

    def _table_gradient(self, partial: Tensor) -> Tensor:
        """Gradient [H, offsets] from sums by distance [B, H, blocks, distances]."""
        sums = partial.sum((0, 2))
        distances = range(-self.spans.reach - self.block, -self.spans.reach - self.block + sums.shape[1])
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


def _rows(x: Tensor) -> Tensor:
    """`x` with a last stride of 1; an expanded gradient has 0."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _like(x: Tensor) -> Tensor:
    """Room for [B, H, T, D] that in memory is [B, T, H, D]."""
    batch, heads, frames, width = x.shape
    return x.new_empty(batch, frames, heads, width).transpose(1, 2)


def _strides(*tensors: Tensor) -> list[int]:
    return [stride for x in tensors for stride in x.stride()[:3]]
