"""The same result as attention/dense.py by scaled_dot_product_attention, torch's fused kernel, over windows.

Queries are cut into blocks. Blocks whose keys all lie inside their row are windows of one shape, a block apart: to the
kernel they are a batch of short sequences, and the batch is an *overlapping strided view* of k and v. Nothing is
copied. What is left, blocks that reach past an end of their row, is gathered from all rows, windows of that same shape
whose missing keys are masked, so that a batch of short rows is a single call::

    block 0   -QQ.......       q the block's queries, k the further keys it sees, - a masked key
              -qqkk.....       left=1, right=2, block=2: blocks 0 and 3 are gathered,
    block 1   .kqqkk...        1 and 2 are two views of the same shape
    block 2   ...kqqkk.
    block 3   .....kqqk--

Only q, k and v are saved: the backward pass is that of attention/dense.py, piece by piece, and adds up the gradients of
keys where windows overlap. The kernel's own keeps the logarithm of the sum of weights in float32, which has no room for
it beside large scores. Padding is never read. `attention/banded/attention.py` is the same idea written out in matrix
products, for what no fused kernel takes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from speechattn.attention.call import AttentionCall
from speechattn.attention.dense import attend
from speechattn.attention.masks import band_mask
from speechattn.attention.qkv import QKV
from speechattn.attention.relative_bias import blind_queries, columns, relative_index
from speechattn.attention.sdpa import with_exact_scale
from speechattn.dtypes import widened
from speechattn.heuristics import FEW_WINDOWS, window_block, windows_at_once
from speechattn.transforms import differentiated_once

MAX_WINDOW = 2048
"""Keys of a frame up to which the ends of a row may be copied: that costs window ** 2 / 64 vectors a row."""


def windows_unsupported_reason(qkv: QKV, call: AttentionCall) -> str | None:
    """Return why attention over windows cannot take this call, or None if it can."""
    if call.activation != "softmax":
        return f"torch's fused kernels weight by softmax, got {call.activation!r}"
    if not call.context.limited:
        return f"both sides need a limit, got {call.context}"
    window = call.context.within(qkv.q.shape[2]).window
    if window is not None and window > MAX_WINDOW:
        return f"a frame may see {MAX_WINDOW} frames together with its chunk, got {window}"
    return None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def windowed_attention(qkv: QKV, call: AttentionCall) -> Tensor:
    """Return the output [B, H, T, Dv].

    What the kernel adds to scores has q's dtype: in half precision the relative bias is rounded to it. torch.compile
    leaves the call to Python: a break in its graph.
    """
    q, k, v, _ = qkv
    bias = None if call.bias is None else _in_dtype(call.bias, q.dtype)
    output: Tensor = _Windowed.apply(q, k, v, bias, call, call.row_lengths(k))  # type: ignore[no-untyped-call]
    return output


def _in_dtype(bias: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the bias in the kernel's dtype: a number stays finite, and +inf is NaN, which kernels in half spread."""
    if bias.dtype == dtype:
        return bias
    limits = torch.finfo(dtype)
    bounded = bias.clamp(limits.min, limits.max).masked_fill(bias == -torch.inf, -torch.inf)
    return bounded.masked_fill(bias == torch.inf, torch.nan).to(dtype)


class _Windowed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, call: AttentionCall, rows: list[int]
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, bias)
        ctx.rest = call, rows
        windows = _Windows(call, bias, q)
        output = q.new_empty(*q.shape[:3], v.shape[3])
        for row, length in enumerate(rows):
            output[row, :, length:] = 0
        for piece in windows.pieces(rows):
            piece.write(output, windows.attend(piece, piece.queries(q), piece.keys(k), piece.keys(v), bias))
        return output

    @staticmethod
    @differentiated_once("windowed")
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, bias = ctx.saved_tensors
        call, rows = ctx.rest
        windows = _Windows(call, bias, q)
        # Where windows overlap gradients are added up: half precision would round each sum.
        wide = widened(q.dtype)
        grads = [torch.zeros(x.shape, dtype=wide, device=x.device) for x in (q, k, v)]
        grad_bias = None if bias is None else torch.zeros_like(bias)
        for piece in windows.pieces(rows):
            leaves = [x.detach().to(wide).requires_grad_() for x in (piece.queries(q), piece.keys(k), piece.keys(v))]
            leaf = None if bias is None else bias.detach().requires_grad_()
            with torch.enable_grad():
                output = windows.attend_plainly(piece, leaves[0], leaves[1], leaves[2], leaf)
            wanted = leaves if leaf is None else [*leaves, leaf]
            found = torch.autograd.grad(output, wanted, piece.gradients(grad_output).to(wide))
            piece.add_to_queries(grads[0], found[0])
            piece.add_to_keys(grads[1], found[1])
            piece.add_to_keys(grads[2], found[2])
            if grad_bias is not None:
                grad_bias += found[3]
        return *(x.to(q.dtype) for x in grads), grad_bias, None, None


@dataclass(frozen=True)
class _Whole:
    """`count` whole windows of one row side by side: views [H, count, block, D] and [H, count, window, D]."""

    row: int
    start: int
    count: int
    block: int
    key_start: int
    window: int

    def queries(self, x: Tensor) -> Tensor:
        return _windows(x[self.row], self.start, self.count, self.block, self.block)

    gradients = queries

    def keys(self, x: Tensor) -> Tensor:
        return _windows(x[self.row], self.key_start, self.count, self.block, self.window)

    def write(self, output: Tensor, values: Tensor) -> None:
        self.queries(output).copy_(values)

    add_to_queries = write

    def add_to_keys(self, x: Tensor, values: Tensor) -> None:
        """Add [H, count, window, D] into x [B, H, T, D] in strips of one block, in which no two windows overlap."""
        for strip in range(0, self.window, self.block):
            width = min(self.block, self.window - strip)
            target = _windows(x[self.row], self.key_start + strip, self.count, self.block, width)
            target.add_(values[:, :, strip : strip + width])


@dataclass(frozen=True)
class _Gathered:
    """n windows of any rows, copied: [n, H, block, D] and [n, H, window, D].

    What lies outside a row is replaced by one of its frames, its first or its last: a key is then masked, and a query
    is a second time what it is already. Its result is dropped.
    """

    rows: Tensor  # [n, 1]
    query_frames: Tensor  # [n, block], clamped to the row
    real: Tensor  # bool [n, block]
    key_frames: Tensor  # [n, window], clamped to the row
    mask: Tensor  # bool [n, 1, block, window]
    index: Tensor  # [n, block, window]: columns of the relative-bias table

    def queries(self, x: Tensor) -> Tensor:
        return x[self.rows, :, self.query_frames].transpose(1, 2)

    def gradients(self, x: Tensor) -> Tensor:
        return torch.where(self.real[:, None, :, None], self.queries(x), x.new_zeros(()))

    def keys(self, x: Tensor) -> Tensor:
        return x[self.rows, :, self.key_frames].transpose(1, 2)

    def write(self, output: Tensor, values: Tensor) -> None:
        # Twice the same frame is twice the same value.
        output.transpose(1, 2)[self.rows, self.query_frames] = values.transpose(1, 2)

    def add_to_queries(self, x: Tensor, values: Tensor) -> None:
        x.transpose(1, 2).index_put_((self.rows, self.query_frames), values.transpose(1, 2), accumulate=True)

    def add_to_keys(self, x: Tensor, values: Tensor) -> None:
        x.transpose(1, 2).index_put_((self.rows, self.key_frames), values.transpose(1, 2), accumulate=True)


class _Windows:
    """What every piece of one call shares: the sizes of a window, and what is added to its scores."""

    def __init__(self, call: AttentionCall, bias: Tensor | None, q: Tensor) -> None:
        self.offsets = call.offsets(q.shape[2])
        self.context, self.scale, self.like = call.context.within(q.shape[2]), call.scale, q.new_empty(0)
        self.block = window_block(self.context, q.device.type == "cpu")
        first, _ = self.context.span(0)
        _, last = self.context.span(self.block - 1)
        assert first is not None and last is not None
        self.first_key, self.window = first, last - first
        queries = torch.arange(self.block, device=q.device)
        keys = torch.arange(first, last, device=q.device)
        # Blocks start on chunks, so one mask and one set of table columns serve all of them.
        self.mask = band_mask(self.context, queries, keys)
        self.open = bool(band_mask(self.context, queries.cpu(), keys.cpu()).all())  # on the CPU: nothing to wait for
        self.zeros = torch.where(self.mask, self.like.new_zeros(()), -torch.inf)
        self.index = relative_index(self.offsets, queries, keys)
        self.most = windows_at_once(q.shape[1], q.shape[3], self.block, self.window, q.element_size())

    def pieces(self, rows: list[int]) -> Iterator[_Whole | _Gathered]:
        """Yield pieces that together hold every valid frame of every row once."""
        rest = []
        for row, length in enumerate(rows):
            starts = range(0, length, self.block)
            whole = [s for s in starts if s + self.first_key >= 0 and s + self.first_key + self.window <= length]
            if len(whole) <= FEW_WINDOWS:
                whole = []
            for begin in range(0, len(whole), self.most):
                start, count = whole[begin], min(self.most, len(whole) - begin)
                yield _Whole(row, start, count, self.block, start + self.first_key, self.window)
            inside = range(whole[0], whole[-1] + 1) if whole else range(0)
            rest += [(row, start, length) for start in starts if start not in inside]
        for begin in range(0, len(rest), self.most):
            yield self._gathered(rest[begin : begin + self.most])

    def _gathered(self, blocks: list[tuple[int, int, int]]) -> _Gathered:
        """Return windows of blocks given as (row, first query, length of the row)."""
        row, start, length = torch.tensor(blocks, device=self.like.device).T[..., None]
        last = length - 1
        keys = start + torch.arange(self.first_key, self.first_key + self.window, device=row.device)
        frames = start + torch.arange(self.block, device=row.device)
        queries = frames.minimum(last)
        first, stop = self.context.span(queries[..., None])
        assert first is not None and stop is not None
        seen = (keys[:, None] >= first.clamp(min=0)) & (keys[:, None] < stop.minimum(length[..., None]))
        index = (keys[:, None] - queries[..., None] - self.offsets.start).clamp(0, len(self.offsets) - 1)
        return _Gathered(row, queries, frames <= last, keys.clamp(min=0).minimum(last), seen[:, None], index)

    def attend(self, piece: _Whole | _Gathered, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """Return the output of a piece, of the shape of its queries."""
        q, scale = with_exact_scale(q, v, self.scale)
        if bias is None:
            if isinstance(piece, _Whole):
                mask = None if self.open else self.zeros
            else:
                mask = torch.where(piece.mask, self.like.new_zeros(()), -torch.inf)
            with _kernels(q.device):
                return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        mask, added = self._added(piece, bias)
        added = added.masked_fill(~mask, -torch.inf)
        blind = blind_queries(added, keys=-1)
        added = added.masked_fill(blind, 0)
        with _kernels(q.device):
            output = scaled_dot_product_attention(q, k, v, attn_mask=added, scale=scale)
        return output.masked_fill(blind, 0)

    def attend_plainly(self, piece: _Whole | _Gathered, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
        """Return the same by attention/dense.py, without a kernel; the bias [H, offsets] may require a gradient."""
        if bias is None:
            mask, added = (self.mask if isinstance(piece, _Whole) else piece.mask), None
        else:
            mask, added = self._added(piece, bias)
        return attend(q, k, v, mask, "softmax", None if added is None else added.to(q.dtype), self.scale)

    def _added(self, piece: _Whole | _Gathered, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mask of a piece and what is added to its scores."""
        if isinstance(piece, _Whole):
            return self.mask, columns(bias, self.index)[:, None]
        return piece.mask, columns(bias, piece.index).transpose(0, 1)


def _kernels(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Return a context that restricts torch's kernels. cuDNN's is left out: it plans anew for every shape it meets."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def _windows(x: Tensor, start: int, count: int, step: int, width: int) -> Tensor:
    """Return views [H, count, width, D] of x [H, T, D] that begin at start, start + step, ...; they may overlap."""
    return x[:, start : start + (count - 1) * step + width].unfold(1, width, step).transpose(2, 3)
