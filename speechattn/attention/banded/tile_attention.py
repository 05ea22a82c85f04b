"""Attention over one tile after the other: scores, weights, output and gradients, as batches of matrix products.

On a CPU the forward pass gives whole tiles to torch's own attention kernel, which takes overlapping strided views.
Everything else is computed from scores that lie transposed, [n, keys, queries]: it is faster to multiply k by
transposed queries than q by transposed keys, of which there are more, and maxima and sums over the keys add rows
instead of crossing them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from speechattn.attention.banded.schedule import Schedule
from speechattn.attention.banded.tiles import BoundaryTile, TileBatch
from speechattn.attention.banded.views import FrameViews, Workspace
from speechattn.attention.call import AttentionCall
from speechattn.attention.qkv import QKV
from speechattn.attention.relative_bias import LOWEST_BIAS

TINY = 1e-30
"""Of the largest weight of a query: less than that changes no gradient, in float64 neither."""
LOG2_E = 1.4426950408889634
NARROW = 32
"""Queries of a tile below which the maximum over its keys is taken of a copy, which is faster by 6 times."""


class _Inputs(NamedTuple):
    """What the gradients are made of, each [B, H, T, features]."""

    q: FrameViews
    k: FrameViews
    v: FrameViews
    grad_output: FrameViews


class _Grads(NamedTuple):
    """Gradients to be added to, and that of the bias [H, offsets]."""

    q: FrameViews
    k: FrameViews
    v: FrameViews
    bias: Tensor | None


class TileAttention:
    """One call of attention over tiles, in one workspace. Queries, keys and values are float32 or float64."""

    def __init__(self, qkv: QKV, call: AttentionCall) -> None:
        bias = call.bias
        if bias is not None:
            bias = bias.detach()
            if call.activation == "relu":
                # -inf marks what lies outside the context, and relu divides by the number of keys inside.
                bias = bias.clamp(min=LOWEST_BIAS)
        self.qkv, self.call = qkv, call
        self.schedule = Schedule(call, bias, qkv)
        self.workspace = Workspace(qkv.q.new_empty(0))

    def forward(self, rows: list[int], output: Tensor) -> None:
        """Write the output [B, H, T, Dv] of rows of so many frames."""
        (q, k, v, _), call, grid = self.qkv, self.call, self.schedule.grid
        queries, out = (FrameViews(x, grid, call.query_start) for x in (q, output))
        keys, values = (FrameViews(x, grid, call.key_start) for x in (k, v))
        fused = call.activation == "softmax" and q.device.type == "cpu" and q.shape[3] == v.shape[3]
        for tile in self.schedule.tiles(rows, call.query_start + q.shape[2], fused):
            (self._attend_fused if fused else self._attend)(tile, queries, keys, values, out)

    def backward(self, rows: list[int], grad_output: Tensor, grads: QKV, grad_bias: Tensor | None) -> None:
        """Add to the gradients, which are zeros in any memory."""
        grid = self.schedule.grid
        q, k, v, grad = (FrameViews(x, grid) for x in (*self.qkv[:3], grad_output))
        inputs = _Inputs(q, k, v, grad)
        to_q, to_k, to_v = (FrameViews(x, grid) for x in grads[:3])
        targets = _Grads(to_q, to_k, to_v, grad_bias)
        for tile in self.schedule.tiles(rows, self.qkv.q.shape[2]):
            self._differentiate(tile, inputs, targets)

    def _attend_fused(
        self, tile: TileBatch | BoundaryTile, q: FrameViews, k: FrameViews, v: FrameViews, output: FrameViews
    ) -> None:
        mask = tile.mask
        heads, _ = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            tile.all_queries(q), tile.all_keys(k), tile.all_keys(v), attn_mask=mask.by_query, scale=self.call.scale
        )
        if mask.blind is not None:
            heads.masked_fill_(mask.blind.transpose(1, 2)[None], 0)
        tile.put_all(output, heads)

    def _attend(
        self, tile: TileBatch | BoundaryTile, q: FrameViews, k: FrameViews, v: FrameViews, output: FrameViews
    ) -> None:
        weights, total = self._weights(tile, tile.queries(q), tile.keys(k))
        heads = self.workspace("heads", len(weights), weights.shape[2], v.tensor.shape[3])
        for part, values, out in zip(tile.split(weights), tile.keys(v), tile.split(heads), strict=True):
            torch.bmm(part.transpose(1, 2), values, out=out)
        tile.clear_blind(heads)
        tile.put(output, heads.div_(total.transpose(1, 2)))

    def _differentiate(self, tile: TileBatch | BoundaryTile, inputs: _Inputs, grads: _Grads) -> None:
        queries, grad = self._copied("queries", tile, inputs.q), self._copied("grad", tile, inputs.grad_output)
        keys, values = tile.keys(inputs.k), tile.keys(inputs.v)
        weights, total = self._weights(tile, tile.split(queries), keys)
        # Not the weights, of which there are more.
        grad.div_(total.transpose(1, 2))
        tile.clear_blind(grad)
        tile.add_product(grads.v, weights, grad, 1.0, self.workspace)
        grad_scores = self.workspace("grad_scores", *weights.shape)
        for value, part, out in zip(values, tile.split(grad), tile.split(grad_scores), strict=True):
            torch.bmm(value, part.transpose(1, 2), out=out)
        if self.call.activation == "relu":
            grad_scores.mul_(weights > 0)
        else:
            # weight * (grad - sum of weight * grad), where the weights of the sum are those that add up to 1.
            grad_scores.mul_(weights)
            grad_scores.addcmul_(weights, grad_scores.sum(1, keepdim=True).div_(total), value=-1)
        if grads.bias is not None:
            tile.add_to_table(grads.bias, grad_scores)
        heads = self.workspace("heads", *queries.shape)
        for part, key, out in zip(tile.split(grad_scores), keys, tile.split(heads), strict=True):
            torch.baddbmm(out, part.transpose(1, 2), key, beta=0, alpha=self.call.scale, out=out)
        tile.put(grads.q, heads)
        tile.add_product(grads.k, grad_scores, queries, self.call.scale, self.workspace)

    def _weights(
        self, tile: TileBatch | BoundaryTile, queries: Iterable[Tensor], keys: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return weights [n, keys, queries], the largest of a softmax being 1, and their divisor [.., 1, queries]."""
        weights = self._scores(tile, queries, keys)
        if self.call.activation == "relu":
            return weights.relu_(), tile.mask.num_visible()
        if weights.shape[2] < NARROW:
            count, window, block = weights.shape
            top = torch.amax(self.workspace("copy", window, count, block).copy_(weights.transpose(0, 1)), 0)[:, None]
        else:
            top = torch.amax(weights, 1, keepdim=True)
        # Powers of 2: on a CPU exp is far slower for -inf, and for results below 1e-38. After the difference: matrix
        # products by alpha * log2(e) are rounded, and two equal scores of 1e9 would differ.
        weights.sub_(top).mul_(LOG2_E).exp2_()
        # A weight of 1e-38 changes nothing but the time: such small floats are many times slower to multiply.
        torch.threshold_(weights, TINY, 0.0)
        return weights, weights.sum(1, keepdim=True)

    def _scores(self, tile: TileBatch | BoundaryTile, queries: Iterable[Tensor], keys: list[Tensor]) -> Tensor:
        """Return scores [n, keys, queries], -inf outside the context: weights there are exactly 0."""
        scores = self.workspace("scores", *tile.shape(self.schedule.num_heads))
        for query, key, out in zip(queries, keys, tile.split(scores), strict=True):
            torch.baddbmm(out, key, query.transpose(1, 2), beta=0, alpha=self.call.scale, out=out)
        tile.add_mask(scores)
        return scores

    def _copied(self, name: str, tile: TileBatch | BoundaryTile, x: FrameViews) -> Tensor:
        """Return [n, queries, D] without gaps: products read it several times."""
        count, _, queries = tile.shape(self.schedule.num_heads)
        copy = self.workspace(name, count, queries, x.tensor.shape[3])
        for target, part in zip(tile.split(copy), tile.queries(x), strict=True):
            target.copy_(part)
        return copy
