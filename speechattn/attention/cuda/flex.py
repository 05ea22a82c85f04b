"""The same result as attention/dense.py by torch's flex_attention, compiled, on a CUDA device.

flex_attention takes the pairs of *blocks* of 128 queries and 128 keys in which some query sees some key, and a function
of pairs of frames. torch's own way to find the blocks fills a matrix of all of them:
T x T, or (T / 128) ** 2 for one of its two sides. Here both sides are listed by hand from what the context says about
the first and the last frame of a block, in memory linear in T::

    queries  0  #x.....      # every frame of the block sees every key of the other: computed without the function
             1  x#x....      x some do: the function is called
             2  .x#x...      . none does: not in any list
             3  ..x#x..      `by_query` lists the rows of this picture, `by_key` its columns

Not compiled, flex_attention allocates T x T scores, so that nothing here runs without a device. It is compiled once for
all lengths, which takes about a minute. Padding is replaced before the call by a copy of q, k and v: the kernel reads
whole blocks, and NaN in them would spread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from speechattn.attention.call import AttentionCall
from speechattn.attention.cuda.key_ranges import KeyRangeTable, key_range_table
from speechattn.attention.qkv import QKV
from speechattn.context import Context
from speechattn.lengths import full_lengths

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

BLOCK = 128
"""Frames of a block: the kernel's own default, whose tiles divide it."""
MAX_WINDOW = 2**16
"""Keys of a frame up to which blocks are listed: 512 pairs of them for every block."""
FEATURES = (16, 32, 64, 128)
VARIANTS = 64
"""Times that torch may compile: for each dtype, number of heads and features, with or without lengths, bias, gradient.

Neither for other contexts nor for other numbers of frames, save that a number that happens to equal another is taken
for the same, once."""


def flex_unsupported_reason(qkv: QKV, call: AttentionCall) -> str | None:
    """Return why flex_attention cannot take this call, or None if it can."""
    q, _, v, _ = qkv
    if q.device.type != "cuda":
        return f"flex_attention needs a CUDA device, not compiled it allocates T x T; got {q.device.type}"
    if call.activation != "softmax":
        return f"flex_attention weights by softmax, got {call.activation!r}"
    if q.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"it computes in float32, float16 and bfloat16, got {str(q.dtype).removeprefix('torch.')}"
    for width in (q.shape[3], v.shape[3]):
        if width not in FEATURES:
            return f"a head must have {', '.join(map(str, FEATURES))} features, got {width}"
    if not call.context.limited:
        return f"both sides need a limit, got {call.context}"
    window = call.context.within(q.shape[2]).window
    if window is not None and window > MAX_WINDOW:
        return f"a frame may see {MAX_WINDOW} frames together with its chunk, got {window}"
    if q.shape[2] <= BLOCK:
        return f"audio of one block of {BLOCK} frames is not worth it, got {q.shape[2]}"
    if max(q.numel(), v.numel()) >= 2**31:
        return f"tensors must have fewer than 2**31 elements, got {max(q.numel(), v.numel())}"
    return None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def flex_attention(qkv: QKV, call: AttentionCall) -> Tensor:
    """Return the output [B, H, T, Dv].

    It is compiled on its own: torch.compile around it leaves the call to Python, a break in its graph.
    """
    from torch._dynamo import config

    with config.patch(cache_size_limit=VARIANTS):
        return attend_by(_compiled(), qkv, call)


@functools.cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    # fullgraph: an error, rather than the function that is not compiled, should torch ever give up on a call.
    return torch.compile(flex_attention, dynamic=True, fullgraph=True)


def attend_by(function: Callable[..., Any], qkv: QKV, call: AttentionCall) -> Tensor:
    """Return the output by torch's function, compiled or not: tests pass it as it is, for a few frames."""
    q, k, v, _ = qkv
    num_frames = q.shape[2]
    rows = full_lengths(q[:, 0]) if call.lengths is None else call.lengths.to(q.device)
    valid = call.valid_frames(q)
    if call.lengths is not None:
        q, k, v = (torch.where(valid, x, x.new_zeros(())) for x in (q, k, v))
    mask = block_mask(call.context, num_frames, rows)
    bias = None if call.bias is None else _bias(call.bias, call.offsets(num_frames))
    output: Tensor = function(q, k, v, score_mod=bias, block_mask=mask, scale=call.scale)
    return output if call.lengths is None else torch.where(valid, output, output.new_zeros(()))


def block_mask(context: Context, num_frames: int, lengths: Tensor) -> BlockMask:
    """Return the blocks of a context and rows of `lengths` [B] frames, on their device.

    It holds int32 lists of about 2 * T * window / 4096 entries a row, by query and by key.
    """
    from torch.nn.attention.flex_attention import BlockMask

    seen = key_range_table(context, num_frames, BLOCK, lengths.device)
    low, high = seen.low, seen.high
    rows = lengths.to(torch.int32)

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        # Tables rather than numbers: with numbers, every context would be compiled anew.
        return (key >= low[query]) & (key < high[query]) & (key < rows[row])

    block = torch.arange(-(-num_frames // BLOCK), dtype=torch.int32, device=lengths.device)[:, None]
    keys = low[block * BLOCK] // BLOCK + _up_to(seen.keys, lengths.device)
    queries = seen.some_first[block] // BLOCK + _up_to(seen.queries, lengths.device)
    by_query = _lists(keys, *_pairs(seen, rows[:, None, None], block, keys))
    by_key = _lists(queries, *_pairs(seen, rows[:, None, None], queries, block))
    # Not BlockMask.from_kv_blocks, which finds the other side by a matrix of all pairs of blocks.
    return BlockMask(
        seq_lengths=(num_frames, num_frames),
        kv_num_blocks=by_query[0],
        kv_indices=by_query[1],
        full_kv_num_blocks=by_query[2],
        full_kv_indices=by_query[3],
        q_num_blocks=by_key[0],
        q_indices=by_key[1],
        full_q_num_blocks=by_key[2],
        full_q_indices=by_key[3],
        BLOCK_SIZE=(BLOCK, BLOCK),
        mask_mod=sees,
    )


def _up_to(frames: int, device: torch.device) -> Tensor:
    """Return 0, 1, ... for as many blocks as that many neighbouring frames can touch."""
    return torch.arange((frames + BLOCK - 2) // BLOCK + 1, dtype=torch.int32, device=device)


def _pairs(seen: KeyRangeTable, length: Tensor, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Return two bool [B, blocks, n] of pairs of blocks.

    In the first some query sees some key, but not all of them all; in the second all see all.
    """
    first, first_key = queries * BLOCK, keys * BLOCK
    most = len(seen.low) - 1
    last = (first + BLOCK - 1).minimum(length - 1).clamp(0, most)
    start, stop = seen.low[first.clamp(max=most)], seen.high[last].minimum(length)
    some = (first < length) & (start < first_key + BLOCK) & (stop > first_key)
    start, stop = seen.low[(first + BLOCK - 1).clamp(max=most)], seen.high[first.clamp(max=most)].minimum(length)
    every = some & (start <= first_key) & (stop >= first_key + BLOCK)
    return some & ~every, every


def _lists(candidates: Tensor, partial: Tensor, whole: Tensor) -> tuple[Tensor, ...]:
    """Return how many and which of the candidates [blocks, n] are partial, then whole.

    How many is [B, 1, blocks], which [B, 1, blocks, n].
    """
    found = []
    for chosen in (partial, whole):
        order = chosen.to(torch.int32).argsort(dim=-1, descending=True, stable=True)
        number = chosen.sum(-1, dtype=torch.int32)
        listed = candidates.expand(chosen.shape).gather(-1, order)
        listed = torch.where(_first(number, listed.shape[-1]), listed, 0)
        found += [number[:, None], listed[:, None].contiguous()]
    return tuple(found)


def _first(number: Tensor, size: int) -> Tensor:
    return torch.arange(size, device=number.device) < number[..., None]


def _bias(table: Tensor, offsets: range) -> Callable[..., Tensor]:
    """Return what adds a relative-bias table [H, offsets] to the scores, by key minus query; past an end, that end."""
    start, last = (torch.tensor(x, dtype=torch.int32, device=table.device) for x in (offsets.start, len(offsets) - 1))

    def add(score: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return score + table[head, (key - query - start).clamp(min=0).minimum(last)]

    return add
