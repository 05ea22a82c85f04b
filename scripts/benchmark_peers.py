"""Attention of other libraries, to be timed next to ours: each in the layout, the setting and the mask that suit it.

A function of PEERS takes a context, a number of frames and whether gradients are wanted, and returns attention as a
function of q, k and v [1, H, T, D] alone: masks are made beforehand. Their inputs are contiguous, a head after the
other, which all of them prefer to a model's packed projection. What one cannot compute it refuses with a
CannotRunError that says why; what it computes is compared with float64 before it is timed.

    sdpa-full         torch's scaled_dot_product_attention, every frame sees every frame: not the context asked for
    sdpa-mask         the same with a mask: T x T numbers to add, faster than the boolean one that torch converts
    dense             masked softmax as most toolkits write it: product, masked_fill, softmax, product
    local-attention   LocalAttention of lucidrains' local-attention, exact_windowsize
    longformer        the sliding chunks of Hugging Face's LongformerSelfAttention, without its mask of padding
    flex              torch's flex_attention, compiled, with a block mask made by hand: create_block_mask is T x T

Not here: layers and whole models, which benchmark_encoder.py has; peers' behaviour, see conformance_peers.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from benchmark_measuring import CannotRunError
from torch import Tensor
from torch.nn import functional

import speechattn as sa

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
HEADS = 4
MOST_BYTES = 2e9
"""T x T numbers that a peer is let have at once."""
MOST_FULL = 16384
"""Frames up to which every frame may see every frame: four times as many take half a minute, and backward more."""
FLEX_BLOCK = 64
"""Half of torch's own 128, and twice as fast for a window of 129."""
INSTALL = "is not installed: pip install -c constraints.txt -e '.[bench]'"


def sdpa_full(context: sa.Context, frames: int, backward: bool) -> Attend:
    """No mask at all."""
    if frames > MOST_FULL:
        raise CannotRunError(f"quadratic in time: it stops at {MOST_FULL} frames")
    return functional.scaled_dot_product_attention


def sdpa_mask(context: sa.Context, frames: int, backward: bool) -> Attend:
    """0 where a frame sees, -inf elsewhere."""
    refuse_square(frames, 1)
    mask = fill_hidden(torch.zeros(frames, frames), context, -math.inf)
    return lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def dense(context: sa.Context, frames: int, backward: bool) -> Attend:
    """Return attention with the T x T scores of all heads."""
    refuse_square(frames, HEADS)
    hidden = fill_hidden(torch.zeros(frames, frames, dtype=torch.bool), context, True)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q * q.shape[3] ** -0.5) @ k.transpose(2, 3)
        return scores.masked_fill(hidden, -math.inf).softmax(-1) @ v

    return attend


def local_attention(context: sa.Context, frames: int, backward: bool) -> Attend:
    """Its windows are one side of ours, or half of it if it looks back only: the fastest of those that fit."""
    try:
        from local_attention import LocalAttention
    except ImportError:
        raise CannotRunError(f"local-attention {INSTALL}") from None
    left, right, chunk = sides(context)
    window = chunk if chunk > 1 else math.gcd(left, right) if right else max(1, left // 2)
    if frames % window:
        raise CannotRunError(f"frames must be a multiple of its window, {window}")
    if left % window:
        raise CannotRunError(f"it looks back whole windows of {window}, not {left} frames")
    sight = {"look_backward": left // window, "look_forward": -(-right // window), "causal": not right and chunk == 1}
    attend = LocalAttention(window, **sight, exact_windowsize=chunk == 1, use_rotary_pos_emb=False)
    if chunk == 1:
        return lambda q, k, v: attend(q, k, v)
    keys = window * (1 + sight["look_backward"] + sight["look_forward"])
    bias = torch.zeros(HEADS, window, keys)
    bias[:, :, left + chunk + right :] = -math.inf  # it sees whole windows ahead, we do not
    return lambda q, k, v: attend(q, k, v, attn_bias=bias)


def longformer(context: sa.Context, frames: int, backward: bool) -> Attend:
    """From the scaled query to the output, with the methods of its layer."""
    left, right, chunk = sides(context)
    if left != right or chunk > 1:
        raise CannotRunError(f"it looks back as far as ahead, frame by frame, not ({context})")
    if frames % (2 * left):
        raise CannotRunError(f"frames must be a multiple of its window, {2 * left}")
    try:
        from transformers import LongformerConfig
        from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
    except ImportError:
        raise CannotRunError(f"transformers {INSTALL}") from None
    layer = LongformerSelfAttention(
        LongformerConfig(attention_window=[2 * left], hidden_size=2, num_attention_heads=1, num_hidden_layers=1), 0
    )

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        query, key, value = ((q * q.shape[3] ** -0.5).transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
        weights = layer._sliding_chunks_query_key_matmul(query, key, left).softmax(-1)
        return layer._sliding_chunks_matmul_attn_probs_value(weights, value, left).transpose(1, 2)

    return attend


def flex(context: sa.Context, frames: int, backward: bool) -> Attend:
    """Compiles when it is called first, and again for every length."""
    if backward:
        raise CannotRunError("flex_attention has no backward on the CPU")
    if frames < 2 * FLEX_BLOCK:
        raise CannotRunError(f"shorter than two blocks of {FLEX_BLOCK}")
    from torch.nn.attention.flex_attention import BlockMask, flex_attention

    def mask(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        start, stop = context.span(query)
        return (key >= start) & (key < stop)

    number = -(-frames // FLEX_BLOCK)
    first = torch.arange(number) * FLEX_BLOCK
    start, _ = context.span(first)
    _, stop = context.span((first + FLEX_BLOCK - 1).clamp(max=frames - 1))
    start, stop = start.clamp(min=0) // FLEX_BLOCK, -(-stop.clamp(max=frames) // FLEX_BLOCK)
    seen = (start[:, None] + torch.arange(number)).clamp(max=number - 1)  # it wants as many columns as blocks
    blocks = BlockMask.from_kv_blocks(
        (stop - start).int()[None, None],
        seen.int()[None, None],
        BLOCK_SIZE=FLEX_BLOCK,
        mask_mod=mask,
        seq_lengths=(frames, frames),
        compute_q_blocks=False,
    )
    torch._dynamo.config.recompile_limit = 64  # a benchmark has more shapes than a program
    compiled = torch.compile(flex_attention, fullgraph=True, dynamic=False)
    return lambda q, k, v: compiled(q, k, v, block_mask=blocks)


PEERS = {
    "sdpa-full": sdpa_full,
    "sdpa-mask": sdpa_mask,
    "dense": dense,
    "local-attention": local_attention,
    "longformer": longformer,
    "flex": flex,
}
OTHER_CONTEXT = {"sdpa-full": "not this context: every frame sees all"}
"""Peers that are timed although they compute something else."""
ONE_THREAD = {"flex": "on two threads torch 2.11's compiled code writes beyond its memory, and malloc ends the process"}
"""Peers that are not timed on more."""


def sides(context: sa.Context) -> tuple[int, int, int]:
    """(left, right, chunk) of a context with limits."""
    assert context.left is not None and context.right is not None
    return context.left, context.right, context.chunk


def fill_hidden(square: Tensor, context: sa.Context, value: float, rows: int = 256) -> Tensor:
    """`square` [T, T] with `value` wherever query i must not see key j; some rows at a time, to take no more memory."""
    keys = torch.arange(len(square))
    for queries in keys.split(rows):
        start, stop = context.span(queries[:, None])
        square[queries[0] : queries[-1] + 1].masked_fill_((keys < start) | (keys >= stop), value)
    return square


def refuse_square(frames: int, heads: int) -> None:
    """No more than MOST_BYTES of T x T floats."""
    needed = 4.0 * heads * frames**2
    if needed > MOST_BYTES:
        what = "mask of T x T" if heads == 1 else f"scores of {heads} heads, T x T,"
        raise CannotRunError(f"quadratic: its {what} would be {needed / 1e9:.1f} GB")
