"""The public door to attention: checks what comes in, picks the execution, never loses a window."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from speechattn.attention.banded import banded_attention
from speechattn.attention.dense import dense_attention, relative_index, table_offsets
from speechattn.attention.masks import band_mask
from speechattn.attention.native import native_attention, native_refusal
from speechattn.config import SCORES
from speechattn.context import Context
from speechattn.lengths import check_lengths, valid_mask

EXECUTIONS = ("auto", "dense", "banded", "native")
SHORT = 512
"""Frames up to which full attention with a bias is one dense product: blocks would save nothing."""


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    context: Context,
    *,
    lengths: Tensor | None = None,
    scores: str = "softmax",
    relative_bias: Tensor | None = None,
    scale: float | None = None,
    execution: str = "auto",
) -> Tensor:
    """Output [B, H, T, Dv]: for every frame, the values its context lets it see, weighted by query and key.

    The output has q's dtype and is exactly 0 at and past `lengths`, whatever the padding holds.

    Args:
        q, k: queries and keys [B, H, T, D]; any strides.
        v: values [B, H, T, Dv].
        context: what each frame may see; each row's window is clipped to that row's length.
        lengths: valid frames [B], integer; None means all T.
        scores: "softmax" (Vaswani et al. 2017, eq. 1), or "relu": max(score, 0) divided by the number of
            visible keys, for those who hold that softmax is not required.
        relative_bias: [H, len(context.offsets())], added to the scores by key minus query. A side without
            limit shares its last entry, unless the table is [H, len(context.offsets(T))], with every distance.
        scale: factor on the scores; None is D ** -0.5.
        execution: "dense" is the plain reference with T x T scores; "banded" takes time and memory linear in
            T (one unlimited side: linear memory, quadratic time); "native" does so at the speed of the processor,
            for float32 on a CPU (`native_refusal` says what it cannot take); "auto" is banded, or, when both sides
            are unlimited, torch's SDPA if nothing is added to the scores, and dense up to 512 frames.

    Raises:
        TypeError, ValueError: shapes, dtypes or lengths that do not fit, or an unknown scores or execution.

    Example:
        >>> q = k = v = torch.eye(3)[None, None]
        >>> attention(q, k, v, Context.truncated(0, 0))[0, 0].tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    _check(q, k, v, context, scores, relative_bias)
    lengths = check_lengths(lengths, q.shape[0], q.shape[2])
    if scale is None:
        scale = q.shape[3] ** -0.5
    if execution not in EXECUTIONS:
        raise ValueError(f"execution must be one of {', '.join(EXECUTIONS)}, got {execution!r}.")
    unlimited = context.left is None and context.right is None
    with torch.autocast(q.device.type, enabled=False):  # the output has q's dtype, whatever stands around the call
        if execution == "dense":
            return dense_attention(q, k, v, context, lengths, scores, relative_bias, scale)
        if execution == "auto" and unlimited and relative_bias is None and scores == "softmax":
            return _full_attention(q, k, v, lengths, scale)
        if execution == "auto" and unlimited and q.shape[2] <= SHORT:
            return dense_attention(q, k, v, context, lengths, scores, relative_bias, scale)
        if execution != "native":
            return banded_attention(q, k, v, context, lengths, scores, relative_bias, scale)
        if refusal := native_refusal(q, k, v, context):
            raise ValueError(f"execution='native' cannot take this call: {refusal}. Use 'auto' or 'banded'.")
        return native_attention(q, k, v, context, lengths, scores, relative_bias, scale)


def attention_weights(
    q: Tensor,
    k: Tensor,
    context: Context,
    *,
    lengths: Tensor | None = None,
    scores: str = "softmax",
    relative_bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Weights [B, H, T, window] for pictures, never T x T: column j is frame ``seen.span(i)[0] + j``.

    `seen` is ``context.within(T)``, the context itself unless a side is unlimited or reaches past the audio; `window`
    is its left + chunk + right. Columns outside the row's valid frames are 0, and so is every row at and past
    `lengths`. Arguments are those of `attention`; no gradient is meant to flow.
    """
    _check(q, k, k, context, scores, relative_bias)
    lengths = check_lengths(lengths, q.shape[0], q.shape[2])
    batch, heads, num_frames, dim = q.shape
    seen = context.within(num_frames)
    assert seen.window is not None
    weights = q.new_zeros(batch, heads, num_frames, seen.window)
    columns = torch.arange(seen.window, device=q.device)
    scale = dim**-0.5 if scale is None else scale
    offsets = context.offsets() if relative_bias is None else table_offsets(relative_bias, context, num_frames)
    for row, length in enumerate([num_frames] * batch if lengths is None else lengths.tolist()):
        for begin, end, key_begin, key_end in context.plan(length, 64):
            queries = torch.arange(begin, end, device=q.device)
            keys = torch.arange(key_begin, key_end, device=q.device)
            raw = scale * q[row, :, begin:end] @ k[row, :, key_begin:key_end].transpose(1, 2)
            if relative_bias is not None:
                raw = raw + relative_bias[:, relative_index(offsets, queries, keys)]
            mask = band_mask(context, queries, keys)
            if scores == "relu":
                block = torch.where(mask, raw.relu(), raw.new_zeros(())) / mask.sum(-1, keepdim=True)
            else:
                block = raw.masked_fill(~mask, -torch.inf).softmax(-1)
            start, _ = seen.span(queries)
            assert start is not None
            frame = start[:, None] + columns
            inside = (frame >= key_begin) & (frame < key_end)
            index = (frame - key_begin).clamp(0, len(keys) - 1).expand(heads, -1, -1)
            weights[row, :, begin:end] = block.gather(2, index) * inside
    return weights


def _full_attention(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor | None, scale: float) -> Tensor:
    """Both sides unlimited: torch's kernel, with each row's padding replaced and masked."""
    if lengths is None:
        return scaled_dot_product_attention(q, k, v, scale=scale)
    valid = valid_mask(lengths.to(q.device), q.shape[2])[:, None, :, None]
    q, k, v = (torch.where(valid, x, x.new_zeros(())) for x in (q, k, v))
    mask = valid.transpose(2, 3) | ~valid.any(2, keepdim=True)  # an empty row sees zeros, not nothing
    output = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return torch.where(valid, output, output.new_zeros(()))


def _check(q: Tensor, k: Tensor, v: Tensor, context: Context, scores: str, relative_bias: Tensor | None) -> None:
    if not isinstance(context, Context):
        raise TypeError(f"context must be a speechattn.Context, got {type(context).__name__}.")
    if q.ndim != 4 or k.shape != q.shape or v.shape[:-1] != q.shape[:-1]:
        shapes = ", ".join(str(list(x.shape)) for x in (q, k, v))
        raise ValueError(f"q, k and v must be [B, H, T, D] with equal B, H and T, got {shapes}.")
    if not q.is_floating_point() or k.dtype != q.dtype or v.dtype != q.dtype:
        raise TypeError(f"q, k and v must share one floating dtype, got {q.dtype}, {k.dtype}, {v.dtype}.")
    if scores not in SCORES:
        raise ValueError(f"scores must be one of {', '.join(SCORES)}, got {scores!r}.")
    if relative_bias is None:
        return
    if relative_bias.ndim != 2 or relative_bias.shape[0] != q.shape[1]:
        raise ValueError(
            f"relative_bias must be [H, len(context.offsets())] = [{q.shape[1]}, {len(context.offsets())}], "
            f"got {list(relative_bias.shape)}."
        )
    table_offsets(relative_bias, context, q.shape[2])
