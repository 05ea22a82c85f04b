"""The same result as attention/dense.py in O(T * window) time and memory, forward and backward, in plain torch.

`plan.py` cuts a batch into pieces whose scores are one batch of small matrix products and fit into the cache,
`tiles.py` has their views, and here is what is done with each of them. On a CPU the forward pass gives whole pieces to
torch's own attention kernel, which takes overlapping strided views. Everything else is done with scores that lie
transposed, [n, keys, queries]: it is faster to multiply k by transposed queries than q by transposed keys, of which
there are more, and maxima and sums over the keys add rows instead of crossing them.

Saved for the backward pass are q, k and v. The weights are computed again, which is cheaper than reading T * window of
them back, and divided by their sum again: a piece holds every key of its queries. The logarithm of the forward pass's
sum would cost less, and is useless beside large scores: float32 has no room for it at 1e4, and scores that are rounded
otherwise than in the forward pass overflow at 1e9. A row is processed up to its length and no further: padding is
never read. It is differentiated once: a second time is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from speechattn.attention.banded.schedule import Plan
from speechattn.attention.banded.tiles import Edge, Frames, Memory, Slab
from speechattn.attention.dense import LOWEST_BIAS
from speechattn.attention.qkv import unpacked
from speechattn.context import Context
from speechattn.transforms import check_gradient

TINY = 1e-30
"""Of the largest weight of a query: less than that changes no gradient, in float64 neither."""
LOG2_E = 1.4426950408889634
NARROW = 32
"""Queries of a block below which the maximum over its keys is taken of a copy, which is faster by 6 times."""


def banded_attention(
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
    # torch.jit.trace cannot record an autograd.Function, and would keep the lengths of one call as constants.
    attend = torch.ops.speechattn.banded if torch._C._is_tracing() else _attend
    output: Tensor = attend(
        parts, lengths, relative_bias, context.left, context.right, context.chunk, activation, scale
    )
    return output


def _attend(
    parts: Sequence[Tensor],
    lengths: Tensor | None,
    table: Tensor | None,
    left: int | None,
    right: int | None,
    chunk: int,
    activation: str,
    scale: float,
) -> Tensor:
    """Return what `banded_attention` does, from arguments that an operator of torch can take."""
    q = unpacked(parts)[0]
    rows = [q.shape[2]] * q.shape[0] if lengths is None else lengths.tolist()
    wide = _widened(*parts)
    if table is not None:
        table = table.to(wide[0].dtype)
    context = Context(left, right, chunk)
    output: Tensor = _Banded.apply(table, context, rows, activation, scale, *wide)  # type: ignore[no-untyped-call]
    return output.to(q.dtype)


torch.library.define(
    "speechattn::banded",
    "(Tensor[] parts, Tensor? lengths, Tensor? table, int? left, int? right, int chunk, str scores, float scale)"
    " -> Tensor",
)
torch.library.impl("speechattn::banded", "CompositeImplicitAutograd")(_attend)


@torch.no_grad()
def banded_step(
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
    """Output [B, H, n, Dv] of the next n frames of a stream, by the arithmetic of `banded_attention`.

    Queries [B, H, n, D] are the frames from `query_start` on, which is the first of a chunk. Keys [B, H, m, D] and
    values are those from `key_start` to the newest there is: all that these queries see, or that will ever exist.
    """
    num_frames = key_start + k.shape[2]
    wide = _widened(q, k, v)
    table = None if relative_bias is None else relative_bias.to(wide[0].dtype)
    call = _Call(context, table, wide[0], activation, scale, num_frames, query_start)
    output = _heads_last(wide[0], v.shape[3])
    with torch.autocast(q.device.type, enabled=False):
        call.forward([num_frames] * len(q), wide[0], wide[1], wide[2], output, query_start, key_start)
    return output.to(q.dtype)


def _widened(*tensors: Tensor) -> list[Tensor]:
    """float16 and bfloat16 as float32, and a last stride of 1."""
    half = tensors[0].dtype in (torch.float16, torch.bfloat16)
    wide = [x.float() if half else x for x in tensors]
    return [x if x.stride(-1) == 1 else x.contiguous() for x in wide]


def _heads_last(q: Tensor, dim: int) -> Tensor:
    """Memory for [B, H, T, dim] in which the heads of a frame lie side by side."""
    batch, heads, frames, _ = q.shape
    return q.new_empty(batch, frames, heads, dim).transpose(1, 2)


class _Banded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, table: Tensor | None, context: Context, rows: list[int], activation: str, scale: float, *parts: Tensor
    ) -> Tensor:
        q, k, v = unpacked(parts)
        output = _heads_last(q, v.shape[3])
        for row, length in enumerate(rows):
            output[row, :, length:] = 0
        _Call(context, table, q, activation, scale, q.shape[2]).forward(rows, q, k, v, output)
        ctx.save_for_backward(table, *parts)
        ctx.rest = context, rows, activation, scale
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        check_gradient("banded", grad_output)
        table, *parts = ctx.saved_tensors
        context, rows, scores, scale = ctx.rest
        q, k, v = unpacked(parts)
        grads = [torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in parts]
        grad_table = None if table is None else torch.zeros_like(table)
        call = _Call(context, table, q, scores, scale, q.shape[2])
        call.backward(rows, q, k, v, grad_output, *unpacked(grads), grad_table)
        return grad_table, None, None, None, None, *grads


class _Inputs(NamedTuple):
    """What the gradients are made of, each [B, H, T, features]."""

    q: Frames
    k: Frames
    v: Frames
    grad_output: Frames


class _Grads(NamedTuple):
    """Gradients to be added to, and that of the table [H, offsets]."""

    q: Frames
    k: Frames
    v: Frames
    table: Tensor | None


class _Call:
    """What every piece of one call shares: the plan, the weighting, and memory to work in."""

    def __init__(
        self,
        context: Context,
        table: Tensor | None,
        q: Tensor,
        activation: str,
        scale: float,
        num_frames: int,
        first: int = 0,
    ) -> None:
        if table is not None:
            table = table.detach()
            if activation == "relu":
                # -inf marks what lies outside the context, and relu divides by the number of keys inside.
                table = table.clamp(min=LOWEST_BIAS)
        self.plan = Plan(context, table, q, q.shape[1], num_frames, first)
        self.memory = Memory(q.new_empty(0))
        self.activation, self.scale = activation, scale

    def forward(
        self,
        rows: list[int],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        output: Tensor,
        query_start: int = 0,
        key_start: int = 0,
    ) -> None:
        """Write the output; the first query is frame `query_start` of its row, the first key frame `key_start`."""
        queries, out = (Frames(x, self.plan.grid, query_start) for x in (q, output))
        keys, values = (Frames(x, self.plan.grid, key_start) for x in (k, v))
        fused = self.activation == "softmax" and q.device.type == "cpu" and q.shape[3] == v.shape[3]
        for piece in self.plan.pieces(rows, query_start + q.shape[2], fused):
            (self._attend_fused if fused else self._attend)(piece, queries, keys, values, out)

    def backward(
        self,
        rows: list[int],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        grad_output: Tensor,
        grad_q: Tensor,
        grad_k: Tensor,
        grad_v: Tensor,
        grad_table: Tensor | None,
    ) -> None:
        """Add to the gradients, which are zeros in any memory; the gradient of the output may be expanded."""
        if grad_output.stride(-1) != 1:
            grad_output = grad_output.contiguous()
        inputs = _Inputs(*(Frames(x, self.plan.grid) for x in (q, k, v, grad_output)))
        to_q, to_k, to_v = (Frames(x, self.plan.grid) for x in (grad_q, grad_k, grad_v))
        grads = _Grads(to_q, to_k, to_v, grad_table)
        for piece in self.plan.pieces(rows, q.shape[2]):
            self._differentiate(piece, inputs, grads)

    def _attend_fused(self, piece: Slab | Edge, q: Frames, k: Frames, v: Frames, output: Frames) -> None:
        heads, _ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            piece.all_queries(q), piece.all_keys(k), piece.all_keys(v), attn_mask=piece.mask.by_query, scale=self.scale
        )
        if piece.mask.blind is not None:
            heads = heads.masked_fill(piece.mask.blind.transpose(1, 2)[None], 0)
        piece.put_all(output, heads)

    def _attend(self, piece: Slab | Edge, q: Frames, k: Frames, v: Frames, output: Frames) -> None:
        weights, total = self._weights(piece, piece.queries(q), piece.keys(k))
        heads = self.memory("heads", len(weights), weights.shape[2], v.tensor.shape[3])
        for part, values, out in zip(piece.split(weights), piece.keys(v), piece.split(heads), strict=True):
            torch.bmm(part.transpose(1, 2), values, out=out)
        piece.clear_blind(heads)
        piece.put(output, heads.div_(total.transpose(1, 2)))

    def _differentiate(self, piece: Slab | Edge, inputs: _Inputs, grads: _Grads) -> None:
        queries, grad = self._copied("queries", piece, inputs.q), self._copied("grad", piece, inputs.grad_output)
        keys, values = piece.keys(inputs.k), piece.keys(inputs.v)
        weights, total = self._weights(piece, piece.split(queries), keys)
        # Not the weights, of which there are more.
        grad.div_(total.transpose(1, 2))
        piece.clear_blind(grad)
        piece.add_product(grads.v, weights, grad, 1.0, self.memory)
        grad_scores = self.memory("grad_scores", *weights.shape)
        for value, part, out in zip(values, piece.split(grad), piece.split(grad_scores), strict=True):
            torch.bmm(value, part.transpose(1, 2), out=out)
        if self.activation == "relu":
            grad_scores.mul_(weights > 0)
        else:
            # weight * (grad - sum of weight * grad), where the weights of the sum are those that add up to 1.
            grad_scores.mul_(weights)
            grad_scores.addcmul_(weights, grad_scores.sum(1, keepdim=True).div_(total), value=-1)
        if grads.table is not None:
            piece.add_to_table(grads.table, grad_scores)
        heads = self.memory("heads", *queries.shape)
        for part, key, out in zip(piece.split(grad_scores), keys, piece.split(heads), strict=True):
            torch.baddbmm(out, part.transpose(1, 2), key, beta=0, alpha=self.scale, out=out)
        piece.put(grads.q, heads)
        piece.add_product(grads.k, grad_scores, queries, self.scale, self.memory)

    def _weights(self, piece: Slab | Edge, queries: Iterable[Tensor], keys: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Weights [n, keys, queries], the largest of a softmax being 1, and what divides them, [.., 1, queries]."""
        weights = self._scores(piece, queries, keys)
        if self.activation == "relu":
            return weights.relu_(), piece.mask.num_visible()
        if weights.shape[2] < NARROW:
            count, window, block = weights.shape
            top = torch.amax(self.memory("copy", window, count, block).copy_(weights.transpose(0, 1)), 0)[:, None]
        else:
            top = torch.amax(weights, 1, keepdim=True)
        # Powers of 2: on a CPU exp is far slower for -inf, and for what ends below 1e-38. After the difference: matrix
        # products by alpha * log2(e) are rounded, and two equal scores of 1e9 would differ.
        weights.sub_(top).mul_(LOG2_E).exp2_()
        # A weight of 1e-38 changes nothing but the time: such small floats are many times slower to multiply.
        torch.threshold_(weights, TINY, 0.0)
        return weights, weights.sum(1, keepdim=True)

    def _scores(self, piece: Slab | Edge, queries: Iterable[Tensor], keys: list[Tensor]) -> Tensor:
        """Scores [n, keys, queries], -inf outside the context: weights there are exactly 0."""
        scores = self.memory("scores", *piece.shape(self.plan.num_heads))
        for query, key, out in zip(queries, keys, piece.split(scores), strict=True):
            torch.baddbmm(out, key, query.transpose(1, 2), beta=0, alpha=self.scale, out=out)
        piece.add_mask(scores)
        return scores

    def _copied(self, name: str, piece: Slab | Edge, x: Frames) -> Tensor:
        """[n, queries, D] without gaps: products read it several times."""
        count, _, queries = piece.shape(self.plan.num_heads)
        copy = self.memory(name, count, queries, x.tensor.shape[3])
        for target, part in zip(piece.split(copy), piece.queries(x), strict=True):
            target.copy_(part)
        return copy
