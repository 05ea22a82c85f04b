"""The reference: mask, scores, weights, sum. Plain, quadratic, never optimised; every backend equals it."""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.attention.masks import band_mask, context_mask
from speechattn.context import Context
from speechattn.lengths import full_lengths, valid_mask

LOWEST_BIAS = -1e38
"""A finite bias below is taken for this one by loops whose masked scores are finite, too: it must hide nothing."""


def dense_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    context: Context,
    lengths: Tensor | None,
    activation: str,
    relative_bias: Tensor | None,
    scale: float,
) -> Tensor:
    """Output [B, H, T, Dv] of queries and keys [B, H, T, D] and values [B, H, T, Dv].

    `lengths` [B] or None, `relative_bias` [H, offsets] or None. Float16 and bfloat16 are
    computed in float32. Meant to be called through `attention(..., backend="dense")`.
    """
    output_dtype, wide = q.dtype, torch.promote_types(q.dtype, torch.float32)
    q, k, v = q.to(wide), k.to(wide), v.to(wide)
    num_frames = q.shape[2]
    # Padding may hold NaN, and 0 * NaN is NaN: it is replaced, not multiplied away.
    valid = valid_mask(full_lengths(q[:, 0]) if lengths is None else lengths.to(q.device), num_frames)[:, None, :, None]
    q, k, v = (torch.where(valid, x, x.new_zeros(())) for x in (q, k, v))
    mask = context_mask(context, num_frames, q.device) & valid.transpose(2, 3) & valid

    bias = None if relative_bias is None else dense_relative_bias(relative_bias.to(q.dtype), context, num_frames)
    output = attend(q, k, v, mask, activation, bias, scale).to(output_dtype)
    # The gradient of the padding may hold NaN, too.
    return output if lengths is None else torch.where(valid, output, output.new_zeros(()))


def dense_step(
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
    """Output [B, H, n, Dv] of the next n frames of a stream; arguments as in `banded_step`."""
    wide = torch.promote_types(q.dtype, torch.float32)
    queries = query_start + torch.arange(q.shape[2], device=q.device)
    keys = key_start + torch.arange(k.shape[2], device=q.device)
    bias = None
    if relative_bias is not None:
        offsets = table_offsets(relative_bias, context, key_start + k.shape[2])
        bias = relative_bias.to(wide)[:, relative_index(offsets, queries, keys)]
    mask = band_mask(context, queries, keys)
    return attend(q.to(wide), k.to(wide), v.to(wide), mask, activation, bias, scale).to(q.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, activation: str, bias: Tensor | None, scale: float) -> Tensor:
    """Output [B, H, Tq, Dv] of queries [B, H, Tq, D] that see the keys [B, H, Tk, D] of a mask [.., Tq, Tk].

    `bias` [.., Tq, Tk] or None is added to the scores. Where it is -inf it hides the key.
    """
    return weights_of((q * scale) @ k.transpose(2, 3), mask, activation, bias) @ v


def weights_of(raw: Tensor, mask: Tensor, activation: str, bias: Tensor | None) -> Tensor:
    """Weights [.., Tq, Tk] of scores of that shape. This is the rule that every backend follows.

    A query sees the keys of its mask from which no bias of -inf hides it. What it does not see weighs exactly 0, so
    that a query that sees nothing gets 0, and gradients of 0. Under relu the weights are divided by the number of
    keys in the mask, hidden ones included. A bias of +inf or NaN makes NaN of every query that sees its key.
    """
    number, zero = mask.sum(-1, keepdim=True).clamp(min=1), raw.new_zeros(())
    if bias is not None:
        hidden = bias == -torch.inf
        mask = mask & ~hidden
        raw = raw + torch.where(hidden, zero, bias)
    # What is made of the scores keeps their name, so that they are freed: T x T numbers are many.
    if activation == "relu":
        raw = torch.where(mask, raw, zero)
        raw = raw.relu()
        return raw / number
    # Softmax over nothing is NaN, so a query that sees nothing is given everything, then zeros.
    seen = mask | ~mask.any(-1, keepdim=True)
    raw = raw.masked_fill(~seen, -torch.inf)
    raw = raw.softmax(-1)
    return torch.where(mask, raw, zero)


def bounded_bias(table: Tensor) -> Tensor:
    """A table whose biases are -inf, or not below LOWEST_BIAS."""
    return table.clamp(min=LOWEST_BIAS).masked_fill(table == -torch.inf, -torch.inf)


def dense_relative_bias(table: Tensor, context: Context, num_frames: int) -> Tensor:
    """Bias [H, T, T] from a table [H, offsets] indexed by key minus query, ends shared."""
    frames = torch.arange(num_frames, device=table.device)
    index = relative_index(table_offsets(table, context, num_frames), frames, frames)
    # Not table[:, index], whose gradient takes a hundred times as long.
    return table.index_select(1, index.flatten()).view(len(table), num_frames, num_frames)


def table_offsets(table: Tensor, context: Context, num_frames: int) -> range:
    """The distances that the columns of a relative-bias table [H, offsets] stand for.

    Those of the context; or, where a side has no limit, every distance among `num_frames` frames.

    Raises:
        ValueError: the table has neither width.
    """
    for offsets in (context.offsets(), context.offsets(num_frames)):
        if table.shape[1] == len(offsets):
            return offsets
    raise ValueError(
        f"relative_bias must be [H, len(context.offsets())] = [{len(table)}, {len(context.offsets())}], "
        f"got {list(table.shape)}."
    )


def relative_index(offsets: range, queries: Tensor, keys: Tensor) -> Tensor:
    """Column [Tq, Tk] of a table with these offsets for every pair of frame indices; past an end, that end."""
    return (keys - queries[:, None] - offsets.start).clamp(0, len(offsets) - 1)
