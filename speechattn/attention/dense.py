"""The reference: mask, scores, weights, sum. Plain, quadratic, never optimised; every backend equals it."""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.attention.call import AttentionCall
from speechattn.attention.masks import band_mask, context_mask
from speechattn.attention.qkv import QKV
from speechattn.attention.relative_bias import columns, relative_index
from speechattn.dtypes import widened


def dense_attention(qkv: QKV, call: AttentionCall) -> Tensor:
    """Return the output [B, H, T, Dv]. Float16 and bfloat16 are computed in float32."""
    wide = widened(qkv.q.dtype)
    q, k, v = qkv.q.to(wide), qkv.k.to(wide), qkv.v.to(wide)
    # Padding may hold NaN, and 0 * NaN is NaN: it is replaced, not multiplied away.
    valid = call.valid_frames(q)
    q, k, v = (torch.where(valid, x, x.new_zeros(())) for x in (q, k, v))
    mask = context_mask(call.context, q.shape[2], q.device) & valid.transpose(2, 3) & valid
    frames = torch.arange(q.shape[2], device=q.device)
    bias = _bias(call, frames, frames, q.shape[2])
    output = attend(q, k, v, mask, call.activation, bias, call.scale).to(qkv.q.dtype)
    # The gradient of the padding may hold NaN, too.
    return output if call.lengths is None else torch.where(valid, output, output.new_zeros(()))


def dense_step(qkv: QKV, call: AttentionCall) -> Tensor:
    """Return the output [B, H, n, Dv] of the next n frames of a stream."""
    wide = widened(qkv.q.dtype)
    q, k, v = qkv.q.to(wide), qkv.k.to(wide), qkv.v.to(wide)
    queries = call.query_start + torch.arange(q.shape[2], device=q.device)
    keys = call.key_start + torch.arange(k.shape[2], device=q.device)
    bias = _bias(call, queries, keys, call.key_start + k.shape[2])
    mask = band_mask(call.context, queries, keys)
    return attend(q, k, v, mask, call.activation, bias, call.scale).to(qkv.q.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, activation: str, bias: Tensor | None, scale: float) -> Tensor:
    """Return the output [B, H, Tq, Dv] of queries [B, H, Tq, D] that see keys [B, H, Tk, D] by a mask [.., Tq, Tk].

    `bias` [.., Tq, Tk] or None is added to the scores. Where it is -inf it hides the key.
    """
    return weights_of((q * scale) @ k.transpose(2, 3), mask, activation, bias) @ v


def weights_of(raw: Tensor, mask: Tensor, activation: str, bias: Tensor | None) -> Tensor:
    """Return the weights [.., Tq, Tk] of scores of that shape, by the rules that every backend follows.

    A query sees the keys of its mask that no bias of -inf hides. A key that it does not see weighs exactly 0, so a
    query that sees none gets 0, and gradients of 0: see relative_bias.py. Under relu the weights are divided by the
    number of keys in the mask, hidden ones included.
    """
    number, zero = mask.sum(-1, keepdim=True).clamp(min=1), raw.new_zeros(())
    if bias is not None:
        hidden = bias == -torch.inf
        mask = mask & ~hidden
        raw = raw + torch.where(hidden, zero, bias)
    # One name for each stage of the scores, so that the stage before is freed: T x T numbers are many.
    if activation == "relu":
        raw = torch.where(mask, raw, zero)
        raw = raw.relu()
        return raw / number
    seen = mask | ~mask.any(-1, keepdim=True)
    raw = raw.masked_fill(~seen, -torch.inf)
    raw = raw.softmax(-1)
    return torch.where(mask, raw, zero)


def _bias(call: AttentionCall, queries: Tensor, keys: Tensor, num_frames: int) -> Tensor | None:
    """Return the bias [H, Tq, Tk] of pairs of frames among `num_frames`, or None."""
    if call.bias is None:
        return None
    return columns(call.bias, relative_index(call.offsets(num_frames), queries, keys))
