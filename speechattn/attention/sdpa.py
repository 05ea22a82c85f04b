"""torch's scaled_dot_product_attention, for softmax over everything: T x T products, linear memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from speechattn.attention.call import AttentionCall
from speechattn.attention.qkv import QKV


def sdpa_unsupported_reason(qkv: QKV, call: AttentionCall) -> str | None:
    """Return why torch's kernel cannot take this call, or None if it can."""
    if call.context.left is call.context.right is None and call.activation == "softmax" and call.bias is None:
        return None
    bias = "no bias" if call.bias is None else "a bias"
    return (
        f"it takes softmax over an unlimited context without a bias, got {call.activation} over ({call.context}) "
        f"and {bias}"
    )


def sdpa_attention(qkv: QKV, call: AttentionCall) -> Tensor:
    """Return the output [B, H, T, Dv], with each row's padding replaced and masked."""
    q, k, v, _ = qkv
    q, scale = with_exact_scale(q, v, call.scale)
    if call.lengths is None:
        return scaled_dot_product_attention(q, k, v, scale=scale)
    valid = call.valid_frames(q)
    q, k, v = (torch.where(valid, x, x.new_zeros(())) for x in (q, k, v))
    mask = valid.transpose(2, 3) | ~valid.any(2, keepdim=True)  # an empty row sees zeros, not nothing
    output = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return torch.where(valid, output, output.new_zeros(()))


def with_exact_scale(q: Tensor, v: Tensor, scale: float) -> tuple[Tensor, float]:
    """Return queries and the scale to give to torch's kernel.

    Where values are wider or narrower than queries, torch multiplies q and k by roots of the scale, which rounds equal
    scores to different ones: there the queries are multiplied here.
    """
    return (q, scale) if q.shape[-1] == v.shape[-1] else (q * scale, 1.0)
