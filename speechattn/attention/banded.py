"""The same result as dense.py in O(T * window) time and memory, forward and backward, in plain torch.

Queries are cut into blocks of `block` frames. The keys that a block sees together are `block + left + right`
neighbours, so the blocks of one head are a batch of small matrix products over *overlapping strided views*
of k and v: nothing is copied. Blocks that reach past an end of their row have their views clipped::

    block 0   qq.......        q the block's queries, k the further keys it sees
              qqkk.....        left=1, right=2, block=2: blocks 0 and 3 are clipped,
    block 1   .kqqkk...        1 and 2 form a slab: two views of the same shape, `block` apart
    block 2   ...kqqkk.
    block 3   .....kqqk

Only q, k and v are saved for the backward pass, which computes the scores again: the softmax of a slab that
lies in the cache is cheaper than reading T * window weights back. A row is processed up to its length and
no further: padding is never read. It is differentiated once: a second time is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from speechattn.attention.dense import relative_index, table_offsets
from speechattn.attention.masks import band_mask
from speechattn.context import Context

SLAB_BYTES = 700_000
"""Scores of one slab, so that they stay in a 1 MB second-level cache between the products."""
LONG_WINDOW = 1024
"""Frames up to which a window's mask is made once, however short the audio."""


def banded_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    context: Context,
    lengths: Tensor | None,
    scores: str,
    relative_bias: Tensor | None,
    scale: float,
) -> Tensor:
    """Output [B, H, T, Dv]; arguments as in `dense_attention`, meant to be called through `attention`."""
    rows = [q.shape[2]] * q.shape[0] if lengths is None else lengths.tolist()
    wide, table = _widened(q, k, v), relative_bias
    if table is not None:
        table = table.to(wide[0].dtype)
    output: Tensor = _Banded.apply(*wide, table, context, rows, scores, scale)  # type: ignore[no-untyped-call]
    return output.to(q.dtype)


@torch.no_grad()
def banded_step(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    context: Context,
    scores: str,
    relative_bias: Tensor | None,
    scale: float,
    query_start: int,
    key_start: int,
) -> Tensor:
    """Output [B, H, n, Dv] of the next n frames of a stream, by the arithmetic of `banded_attention`.

    Queries [B, H, n, D] are the frames from `query_start` on, which is the first of a chunk. Keys [B, H, m, D] and
    values are those from `key_start` to the newest there is: all that these queries see, or that will ever exist.
    """
    num_frames = key_start + k.shape[2]
    wide = _widened(q, k, v)
    table = None if relative_bias is None else relative_bias.to(wide[0].dtype)
    call = _Call(context, table, wide[0], scores, scale, num_frames)
    output = wide[0].new_empty(*q.shape[:3], v.shape[3])
    with torch.autocast(q.device.type, enabled=False):
        for piece in call.pieces(num_frames, query_start, query_start + q.shape[2]):
            moved = replace(piece, start=piece.start - query_start, key_start=piece.key_start - key_start)
            for row in range(len(q)):
                call.attend(moved, *(x[row] for x in (*wide, output)))
    return output.to(q.dtype)


def _widened(*tensors: Tensor) -> list[Tensor]:
    """float16 and bfloat16 as float32, and a last stride of 1."""
    half = tensors[0].dtype in (torch.float16, torch.bfloat16)
    wide = [x.float() if half else x for x in tensors]
    return [x if x.stride(-1) == 1 else x.contiguous() for x in wide]


class _Banded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        table: Tensor | None,
        context: Context,
        rows: list[int],
        scores: str,
        scale: float,
    ) -> Tensor:
        ctx.save_for_backward(q, k, v, table)
        ctx.call = _Call(context, table, q, scores, scale, q.shape[2])
        ctx.rows = rows
        output = q.new_empty(*q.shape[:3], v.shape[3])
        for row, length in enumerate(rows):
            output[row, :, length:] = 0
            for piece in ctx.call.pieces(length):
                ctx.call.attend(piece, q[row], k[row], v[row], output[row])
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("banded attention cannot be differentiated twice; use execution='dense' for that.")
        q, k, v, table = ctx.saved_tensors
        call: _Call = ctx.call
        if grad_output.stride(-1) != 1:  # an expanded gradient has stride 0
            grad_output = grad_output.contiguous()
        grad_q, grad_k, grad_v = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        grad_table = None if table is None else torch.zeros_like(table)
        for row, length in enumerate(ctx.rows):
            for piece in call.pieces(length):
                for head in piece.heads:
                    queries, keys = piece.queries(q[row], head), piece.keys(k[row], head)
                    grad = piece.queries(grad_output[row], head)
                    weights = call.weights(piece, head, queries, keys)
                    piece.add_to_keys(grad_v[row], head, torch.bmm(weights.transpose(1, 2), grad))
                    grad_weights = torch.bmm(grad, piece.keys(v[row], head).transpose(1, 2))
                    grad_scores = call.grad_scores(piece, grad_weights, weights)
                    if grad_table is not None:
                        call.add_to_table(grad_table, piece, head, grad_scores)
                    target = piece.queries(grad_q[row], head)
                    torch.baddbmm(target, grad_scores, keys, beta=0, alpha=call.scale, out=target)
                    piece.add_to_keys(grad_k[row], head, torch.bmm(grad_scores.transpose(1, 2), queries), call.scale)
        return grad_q, grad_k, grad_v, grad_table, None, None, None, None


@dataclass(frozen=True)
class _Slab:
    """`count` whole blocks of one head side by side: views [count, block, D] and [count, window, D]."""

    start: int
    count: int
    block: int
    key_start: int
    window: int
    bias: Tensor  # [1 or H, block, window]: 0, or a relative bias, or -inf
    index: Tensor | None  # [block, window]: columns of the relative-bias table
    heads: range

    def queries(self, x: Tensor, head: int) -> Tensor:
        """[count, block, D] of x [H, T, D]."""
        return _windows(x[head], self.start, self.count, self.block, self.block)

    def keys(self, x: Tensor, head: int) -> Tensor:
        """[count, window, D] of x [H, T, D]: overlapping views."""
        return _windows(x[head], self.key_start, self.count, self.block, self.window)

    def add_to_keys(self, x: Tensor, head: int, values: Tensor, scale: float = 1.0) -> None:
        """Add [count, window, D] times `scale` into x [H, T, D], where neighbouring windows overlap.

        Columns are added in strips of one block: within a strip no two windows touch the same frame.
        """
        for strip in range(0, self.window, self.block):
            width = min(self.block, self.window - strip)
            target = _windows(x[head], self.key_start + strip, self.count, self.block, width)
            target.add_(values[:, strip : strip + width], alpha=scale)

    def bias_of(self, head: int) -> Tensor:
        """[1, block, window]."""
        return self.bias[head : head + 1] if len(self.bias) > 1 else self.bias


@dataclass(frozen=True)
class _Edge:
    """One block clipped by an end of its row, all heads at once: views [H, frames, D] and [H, keys, D]."""

    start: int
    key_start: int
    bias: Tensor  # [1 or H, frames, keys]
    index: Tensor | None
    heads: range = range(1)

    def queries(self, x: Tensor, head: int) -> Tensor:
        return x[:, self.start : self.start + self.bias.shape[1]]

    def keys(self, x: Tensor, head: int) -> Tensor:
        return x[:, self.key_start : self.key_start + self.bias.shape[2]]

    def add_to_keys(self, x: Tensor, head: int, values: Tensor, scale: float = 1.0) -> None:
        self.keys(x, head).add_(values, alpha=scale)

    def bias_of(self, head: int) -> Tensor:
        return self.bias


class _Call:
    """What every piece of one call shares: the block size, the mask and bias of a block, the weighting."""

    def __init__(
        self, context: Context, table: Tensor | None, q: Tensor, scores: str, scale: float, num_frames: int
    ) -> None:
        self.context, self.scores, self.scale = context, scores, scale
        self.table = None if table is None else table.detach()
        if self.table is not None and scores == "relu":
            # -inf marks what lies outside the context, and relu divides by the number of keys inside.
            self.table = self.table.clamp(min=torch.finfo(self.table.dtype).min / 2)
        self.offsets = context.offsets() if table is None else table_offsets(table, context, num_frames)
        self.like, self.num_heads = q.new_empty(0), q.shape[1]
        self.block, self.regular = _block_size(context)
        if self.regular:
            # Every block starts on a chunk, so all of them, clipped ones too, cut their mask from this one.
            first = self.block * -(-(context.left or 0) // self.block)
            key_start, key_stop = self._key_range(first)
            # A window far longer than the audio clips every block, and its mask must not cost memory.
            self.regular = key_stop - key_start <= max(num_frames, LONG_WINDOW)
        if self.regular:
            self.first_key = key_start - first
            self.bias, self.index = self._bias(first, first + self.block, key_start, key_stop)

    def _key_range(self, start: int) -> tuple[int, int]:
        key_start, _ = self.context.span(start)
        _, key_stop = self.context.span(start + self.block - 1)
        assert key_start is not None and key_stop is not None
        return key_start, key_stop

    def _bias(self, start: int, stop: int, key_start: int, key_stop: int) -> tuple[Tensor, Tensor | None]:
        """What is added to the scores of these queries and keys, [1 or H, queries, keys], and table columns."""
        queries = torch.arange(start, stop, device=self.like.device)
        keys = torch.arange(key_start, key_stop, device=self.like.device)
        outside = ~band_mask(self.context, queries, keys)
        if self.table is None:
            bias = self.like.new_zeros(1, len(queries), len(keys))
            return bias.masked_fill_(outside, -torch.inf), None
        index = relative_index(self.offsets, queries, keys)
        return self.table[:, index].masked_fill_(outside, -torch.inf), index

    def pieces(self, length: int, first: int = 0, last: int | None = None) -> Iterator[_Slab | _Edge]:
        """Slabs and edges that together hold every query in [first, last) of a row of `length` frames once."""
        if not self.regular:
            for start, stop, key_start, key_stop in self.context.plan(length, self.block, first, last):
                yield _Edge(start, key_start, *self._bias(start, stop, key_start, key_stop))
            return
        whole: list[int] = []
        window = self.bias.shape[2]
        for start, stop, key_start, key_stop in self.context.plan(length, self.block, first, last):
            if stop - start == self.block and key_stop - key_start == window:
                whole.append(start)
                continue
            skipped = key_start - (start + self.first_key)
            columns = slice(skipped, skipped + key_stop - key_start)
            index = None if self.index is None else self.index[: stop - start, columns]
            yield _Edge(start, key_start, self.bias[:, : stop - start, columns], index)
        most = max(1, SLAB_BYTES // (self.block * window * self.like.element_size()))
        for begin in range(0, len(whole), most):
            start, count = whole[begin], min(most, len(whole) - begin)
            key_start = start + self.first_key
            heads = range(self.num_heads)
            yield _Slab(start, count, self.block, key_start, window, self.bias, self.index, heads)

    def attend(self, piece: _Slab | _Edge, q: Tensor, k: Tensor, v: Tensor, output: Tensor) -> None:
        """Write a piece of one row's output [H, T, Dv]."""
        for head in piece.heads:
            weights = self.weights(piece, head, piece.queries(q, head), piece.keys(k, head))
            torch.bmm(weights, piece.keys(v, head), out=piece.queries(output, head))

    def weights(self, piece: _Slab | _Edge, head: int, queries: Tensor, keys: Tensor) -> Tensor:
        """Weights [n, queries, keys]: the bias is -inf outside the context, so that weights there are exactly 0."""
        raw = torch.baddbmm(piece.bias_of(head), queries, keys.transpose(1, 2), alpha=self.scale)
        if self.scores == "relu":
            return raw.relu_() / self._num_visible(piece)
        return torch.softmax(raw, -1, out=raw)

    def grad_scores(self, piece: _Slab | _Edge, grad_weights: Tensor, weights: Tensor) -> Tensor:
        """Gradient of the scores from the gradient of the weights, [n, queries, keys]."""
        if self.scores == "relu":
            return grad_weights * (weights > 0) / self._num_visible(piece)
        return torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)

    def _num_visible(self, piece: _Slab | _Edge) -> Tensor:
        return (piece.bias[:1] > -torch.inf).sum(-1, keepdim=True)

    def add_to_table(self, grad_table: Tensor, piece: _Slab | _Edge, head: int, grad_scores: Tensor) -> None:
        """Sum the gradient of the scores [n, queries, keys] by key minus query into grad_table [H, offsets]."""
        assert piece.index is not None
        if isinstance(piece, _Slab):
            grad_table[head].index_add_(0, piece.index.flatten(), grad_scores.sum(0).flatten())
        else:
            grad_table.index_add_(1, piece.index.flatten(), grad_scores.flatten(1))


def _block_size(context: Context) -> tuple[int, bool]:
    """Queries a block, and whether every block's key range has one shape, so that blocks can form slabs.

    A block wastes (block + left + right) / (left + 1 + right) products on masked pairs: small windows want
    small blocks, large ones want large matrix products. Blocks of a chunked context hold whole chunks.
    """
    if context.window is None:
        return 64, False
    if context.chunk > 1:
        return (context.chunk * max(1, 64 // context.chunk), True) if context.chunk <= 128 else (128, False)
    return (16 if context.window <= 48 else 32 if context.window < 256 else 64), True


def _windows(x: Tensor, start: int, count: int, step: int, width: int) -> Tensor:
    """[count, width, D]: windows of x [T, D] that begin at start, start + step, ...; a view, they may overlap.

    Not as_strided, which takes an offset into the storage: torch.compile remembers that of the first call.
    """
    return x[start : start + (count - 1) * step + width].unfold(0, width, step).transpose(1, 2)
