"""The public functions: `attention`, its packed form, and its weights for pictures. dispatch.py picks the backend."""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.attention.call import check_call
from speechattn.attention.dispatch import run
from speechattn.attention.qkv import QKV, unpack
from speechattn.attention.weight_blocks import weight_blocks
from speechattn.context import Context
from speechattn.system.renamed_arguments import renamed


@renamed(execution="backend", scores="activation")
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    context: Context,
    *,
    lengths: Tensor | None = None,
    activation: str = "softmax",
    relative_bias: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return, for every frame, the values its context lets it see, weighted by query and key: [B, H, T, Dv].

    The output has q's dtype and is exactly 0 at and past `lengths`, whatever the padding holds.

    Args:
        q: queries [B, H, T, D]; any strides.
        k: keys [B, H, T, D].
        v: values [B, H, T, Dv].
        context: what each frame may see; each row's window is clipped to that row's length.
        lengths: valid frames [B], integer; None means all T.
        activation: "softmax" (Vaswani et al. 2017, eq. 1), or "relu": max(score, 0) divided by the number of
            visible keys.
        relative_bias: [H, len(context.offsets())], added to the scores by key minus query. A side without
            limit shares its last entry, unless the table is [H, len(context.offsets(T))], with every distance. -inf
            hides a key: a frame from which all are hidden gets 0, and gradients of 0. +inf and NaN give NaN.
        scale: factor on the scores; None is D ** -0.5.
        backend: how it is computed. "auto" is the fastest that can take the call. "dense" is the plain reference with
            T x T scores; "banded" takes time and memory linear in T (one unlimited side: linear memory, quadratic
            time); "native" does so near the speed of the processor, for float32 on a CPU; "sdpa" is torch's
            scaled_dot_product_attention, for softmax without a bias over everything, whose gradients lose 1e-7 of the
            largest score; "windows" is the same function over overlapping windows, "flex" torch's flex_attention and
            "triton" Triton kernels, the last two for CUDA. speechattn/attention/dispatch.py lists what "auto" takes.
            Only "dense" can be differentiated twice: request it. Inside torch.func and forward-mode derivatives "auto"
            takes it by itself.

    Windows elsewhere, and the same window here; theirs are inclusive ranges about the frame itself:

    - flash-attention, `window_size=(l, r)`: `Context.truncated(l, r)`; -1 is None
    - torch.nn.attention.varlen, `window_size=(l, r)`: the same; rows [B, T] and `lengths` instead of `cu_seq_q`
    - transformers, `sliding_window=w` of a decoder: `Context.causal(w - 1)`, since w counts the frame itself
    - `is_causal=True`: `Context.causal()`

    scaled_dot_product_attention has what this function lacks: dropout, fewer heads of keys than of queries (GQA),
    queries of other frames than the keys (cross attention), and any mask.

    Raises:
        TypeError, ValueError: shapes, dtypes or lengths that do not fit, or an unknown activation or backend.

    Examples:
        >>> q = k = v = torch.eye(3)[None, None]
        >>> attention(q, k, v, Context.truncated(0, 0))[0, 0].tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    qkv = QKV(q, k, v)
    return run(qkv, check_call(qkv, context, lengths, activation, relative_bias, scale), backend)


@renamed(execution="backend", scores="activation")
def packed_attention(
    qkv: Tensor,
    context: Context,
    *,
    lengths: Tensor | None = None,
    activation: str = "softmax",
    relative_bias: Tensor | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """Return `attention` of the one tensor [B, T, 3, H, D] that a projection returns: output [B, H, T, D].

    The same output as of its views q, k and v; its gradient is written in place, and not stacked from theirs.

    Examples:
        >>> packed_attention(torch.ones(2, 7, 3, 4, 8), Context.truncated(1, 1)).shape
        torch.Size([2, 4, 7, 8])
    """
    if qkv.ndim != 5 or qkv.shape[2] != 3:
        raise ValueError(f"qkv must be [B, T, 3, H, D], got {list(qkv.shape)}.")
    views = unpack(qkv)
    return run(views, check_call(views, context, lengths, activation, relative_bias, scale), backend)


@renamed(scores="activation")
def attention_weights(
    q: Tensor,
    k: Tensor,
    context: Context,
    *,
    lengths: Tensor | None = None,
    activation: str = "softmax",
    relative_bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Return weights [B, H, T, window] for pictures, never T x T: column j is frame ``seen.span(i)[0] + j``.

    `seen` is ``context.within(T)``, the context itself unless a side is unlimited or reaches past the audio; `window`
    is its left + chunk + right. Columns outside the row's valid frames are 0, and so is every row at and past
    `lengths`. Arguments are those of `attention`; no gradient is meant to flow.
    """
    call = check_call(QKV(q, k, k), context, lengths, activation, relative_bias, scale)
    num_heads, num_frames = q.shape[1:3]
    seen = context.within(num_frames)
    assert seen.window is not None
    weights = q.new_zeros(len(q), num_heads, num_frames, seen.window)
    columns = torch.arange(seen.window, device=q.device)
    for row, length in enumerate(call.row_lengths(k)):
        for queries, keys, block in weight_blocks(q[row], k[row], call, length):
            start, _ = seen.span(queries)
            assert start is not None
            frame = start[:, None] + columns
            inside = (frame >= keys[0]) & (frame <= keys[-1])
            index = (frame - keys[0]).clamp(0, len(keys) - 1).expand(num_heads, -1, -1)
            weights[row, :, queries] = (block.gather(2, index) * inside).to(weights.dtype)
    return weights
