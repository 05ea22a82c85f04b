"""The same result as attention/dense.py in O(T * window) time and memory, forward and backward, in plain torch.

`schedule.py` cuts a batch into tiles whose scores are one batch of small matrix products and fit into the cache,
`tiles.py` has their views, `tile_attention.py` computes each of them. Here they are one node of autograd.

Saved for the backward pass are q, k and v. The weights are computed again, which is cheaper than reading T * window of
them back, and divided by their sum again: a tile holds every key of its queries. The logarithm of the forward pass's
sum would cost less, and is useless beside large scores: float32 has no room for it at 1e4, and scores that are rounded
otherwise than in the forward pass overflow at 1e9. A row is processed up to its length and no further: padding is
never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from speechattn.attention.banded.tile_attention import TileAttention
from speechattn.attention.call import OPERATOR_ARGUMENTS, AttentionCall, call_of_operator
from speechattn.attention.qkv import QKV, from_parts
from speechattn.dtypes import widened
from speechattn.transforms import differentiated_once, is_traced


def banded_attention(qkv: QKV, call: AttentionCall) -> Tensor:
    """Return the output [B, H, T, Dv]; in memory it is [B, T, H, Dv], so that heads side by side are a view of it."""
    if is_traced():  # torch.jit.trace cannot record an autograd.Function, and would keep lengths as constants
        output: Tensor = torch.ops.speechattn.banded(qkv.parts, *call.operator_arguments())
        return output
    return _attend(qkv, call)


def banded_step(qkv: QKV, call: AttentionCall) -> Tensor:
    """Return the output [B, H, n, Dv] of the next n frames of a stream, by the arithmetic of `banded_attention`."""
    wide = QKV(*_widened(qkv.parts))
    return _output(wide, call, call.row_lengths(wide.k)).to(qkv.q.dtype)


def _attend(qkv: QKV, call: AttentionCall) -> Tensor:
    rows = call.row_lengths(qkv.k)
    output: Tensor = _Banded.apply(call.bias, call, rows, *_widened(qkv.parts))  # type: ignore[no-untyped-call]
    return output.to(qkv.q.dtype)


def _operator(parts: Sequence[Tensor], *arguments: Any) -> Tensor:
    return _attend(from_parts(parts), call_of_operator(*arguments))


torch.library.define("speechattn::banded", f"(Tensor[] parts, {OPERATOR_ARGUMENTS}) -> Tensor")
torch.library.impl("speechattn::banded", "CompositeImplicitAutograd")(_operator)


def _widened(parts: Sequence[Tensor]) -> list[Tensor]:
    return [x.to(widened(x.dtype)) for x in parts]


def _output(qkv: QKV, call: AttentionCall, rows: list[int]) -> Tensor:
    """Return the output [B, H, T, Dv] of rows of so many frames, 0 past their ends."""
    batch, heads, frames, _ = qkv.q.shape
    output = qkv.q.new_empty(batch, frames, heads, qkv.v.shape[3]).transpose(1, 2)
    if call.lengths is not None:
        for row, length in enumerate(rows):
            output[row, :, length:] = 0
    TileAttention(qkv, call).forward(rows, output)
    return output


class _Banded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, bias: Tensor | None, call: AttentionCall, rows: list[int], *parts: Tensor) -> Tensor:
        ctx.save_for_backward(bias, *parts)
        ctx.rest = call, rows
        return _output(from_parts(parts), call, rows)

    @staticmethod
    @differentiated_once("banded")
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        bias, *parts = ctx.saved_tensors
        call, rows = ctx.rest
        grads = [torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in parts]
        grad_bias = None if bias is None else torch.zeros_like(bias)
        TileAttention(from_parts(parts), call).backward(rows, grad_output, from_parts(grads), grad_bias)
        return grad_bias, None, None, *grads
