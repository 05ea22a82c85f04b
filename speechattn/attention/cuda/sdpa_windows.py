"""The same result as attention/dense.py by torch's fused kernel, scaled_dot_product_attention, over overlapping
windows.

Queries are cut into blocks. Blocks whose keys all lie inside their row are windows of one shape, a block apart: to the
kernel they are a batch of short sequences, and the batch is an *overlapping strided view* of k and v. Nothing is
copied. What is left, blocks that reach past an end of their row, is gathered from all rows, windows of that same shape
whose missing keys are masked, so that a batch of short rows is a single call::

    block 0   -QQ.......       q the block's queries, k the further keys it sees, - a masked key
              -qqkk.....       left=1, right=2, block=2: blocks 0 and 3 are gathered,
    block 1   .kqqkk...        1 and 2 are two views of the same shape
    block 2   ...kqqkk.
    block 3   .....kqqk--

Only q, k and v are saved: the backward pass is that of attention/dense.py, piece by piece, and adds up the gradients
of keys
where windows overlap. The kernel's own keeps the logarithm of the sum of weights in float32, which has no room for it
beside large scores. Padding is never read. It is differentiated once: a second time is refused.
`attention/banded/attention.py` is the same
idea written out in matrix products, for what no fused kernel takes.
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

from speechattn.attention.dense import attend, relative_index, table_offsets
from speechattn.attention.masks import band_mask
from speechattn.context import Context
from speechattn.heuristics import FEW_WINDOWS, window_block, windows_at_once
from speechattn.transforms import check_gradient

LONGEST_WINDOW = 2048
"""Keys of a frame up to which the ends of a row may be copied: that costs window ** 2 / 64 vectors a row."""


def windows_refusal(
    q: Tensor, k: Tensor, v: Tensor, context: Context, activation: str, relative_bias: Tensor | None
) -> str | None:
    """Why attention over windows cannot take this call, or None if it can; arguments as in `attention`."""
    if activation != "softmax":
        return f"torch's fused kernels weight by softmax, got {activation!r}"
    if not context.limited:
        return f"both sides need a limit, got {context}"
    window = context.within(q.shape[2]).window
    if window is not None and window > LONGEST_WINDOW:
        return f"a frame may see {LONGEST_WINDOW} frames together with its chunk, got {window}"
    return None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def windowed_attention(
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

    What the kernel adds to scores has q's dtype: in half precision the relative bias is rounded to it. torch.compile
    leaves the call to Python: a break in its graph.
    """
    assert windows_refusal(q, k, v, context, activation, relative_bias) is None
    rows = [q.shape[2]] * q.shape[0] if lengths is None else lengths.tolist()
    tensors = [x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v)]
    table = None if relative_bias is None else relative_bias.to(q.dtype)
    output: Tensor = _Windowed.apply(*tensors, table, context, rows, scale)  # type: ignore[no-untyped-call]
    return output


class _Windowed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None, context: Context, rows: list[int], scale: float
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, table)
        ctx.rest = context, rows, scale
        call = _Call(context, table, q, scale)
        output = q.new_empty(*q.shape[:3], v.shape[3])
        for row, length in enumerate(rows):
            output[row, :, length:] = 0
        for piece in call.pieces(rows):
            piece.write(output, call.attend(piece, piece.queries(q), piece.keys(k), piece.keys(v), table))
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        check_gradient("windowed", grad_output)
        q, k, v, table = ctx.saved_tensors
        context, rows, scale = ctx.rest
        call = _Call(context, table, q, scale)
        # Where windows overlap gradients are added up: half precision would round each sum.
        wide = torch.promote_types(q.dtype, torch.float32)
        grads = [torch.zeros(x.shape, dtype=wide, device=x.device) for x in (q, k, v)]
        grad_table = None if table is None else torch.zeros_like(table)
        for piece in call.pieces(rows):
            leaves = [x.detach().to(wide).requires_grad_() for x in (piece.queries(q), piece.keys(k), piece.keys(v))]
            leaf = None if table is None else table.detach().requires_grad_()
            with torch.enable_grad():
                output = call.attend_plainly(piece, leaves[0], leaves[1], leaves[2], leaf)
            wanted = leaves if leaf is None else [*leaves, leaf]
            found = torch.autograd.grad(output, wanted, piece.gradients(grad_output).to(wide))
            piece.add_to_queries(grads[0], found[0])
            piece.add_to_keys(grads[1], found[1])
            piece.add_to_keys(grads[2], found[2])
            if grad_table is not None:
                grad_table += found[3]
        return *(x.to(q.dtype) for x in grads), grad_table, None, None, None


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


class _Call:
    """What every piece of one call shares: the sizes of a window, and what is added to its scores."""

    def __init__(self, context: Context, table: Tensor | None, q: Tensor, scale: float) -> None:
        self.offsets = context.offsets() if table is None else table_offsets(table, context, q.shape[2])
        self.context, self.scale, self.like = context.within(q.shape[2]), scale, q.new_empty(0)
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
        """Pieces that together hold every valid frame of every row once."""
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
        """Windows of blocks given as (row, first query, length of the row)."""
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

    def attend(self, piece: _Whole | _Gathered, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None) -> Tensor:
        """Output of a piece, of the shape of its queries."""
        scale = self.scale
        if q.shape[-1] != v.shape[-1]:  # then torch multiplies q and k by roots of the scale, which breaks ties
            q, scale = q * scale, 1.0
        if table is None:
            if isinstance(piece, _Whole):
                mask = None if self.open else self.zeros
            else:
                mask = torch.where(piece.mask, self.like.new_zeros(()), -torch.inf)
            with _kernels(q.device):
                return scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
        mask, bias = self._shown(piece, table)
        bias = bias.masked_fill(~mask, -torch.inf)
        # What a kernel makes of a query that sees nothing is its own affair: it is given everything, then zeros.
        blind = (bias == -torch.inf).all(-1, keepdim=True)
        with _kernels(q.device):
            output = scaled_dot_product_attention(q, k, v, attn_mask=bias.masked_fill(blind, 0), scale=scale)
        return output.masked_fill(blind, 0)

    def attend_plainly(
        self, piece: _Whole | _Gathered, q: Tensor, k: Tensor, v: Tensor, table: Tensor | None
    ) -> Tensor:
        """The same by attention/dense.py, without a kernel; the table [H, offsets] may require a gradient."""
        if table is None:
            mask, bias = (self.mask if isinstance(piece, _Whole) else piece.mask), None
        else:
            mask, bias = self._shown(piece, table)
        return attend(q, k, v, mask, "softmax", None if bias is None else bias.to(q.dtype), self.scale)

    def _shown(self, piece: _Whole | _Gathered, table: Tensor) -> tuple[Tensor, Tensor]:
        """Mask and bias of a piece's scores."""
        if isinstance(piece, _Whole):
            return self.mask, self._columns(table, self.index)[:, None]
        return piece.mask, self._columns(table, piece.index).transpose(0, 1)

    def _columns(self, table: Tensor, index: Tensor) -> Tensor:
        """[H, *index.shape]. Not table[:, index], whose gradient takes a hundred times as long."""
        return table.index_select(1, index.flatten()).view(len(table), *index.shape)


def _kernels(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """The kernels that torch may choose from. cuDNN's is left out: it plans anew for every shape it meets."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return sdpa_kernel([SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH])


def _windows(x: Tensor, start: int, count: int, step: int, width: int) -> Tensor:
    """[H, count, width, D]: windows of x [H, T, D] that begin at start, start + step, ...; a view, they may overlap."""
    return x[:, start : start + (count - 1) * step + width].unfold(1, width, step).transpose(2, 3)
