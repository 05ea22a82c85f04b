"""The weights of attention, some queries at a time: for pictures and statistics, never for training.

Every other function returns what the weights make of the values; a [T, T] matrix of an hour would be 520 GB.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from speechattn.attention.call import AttentionCall
from speechattn.attention.dense import weights_of
from speechattn.attention.masks import band_mask
from speechattn.attention.relative_bias import relative_index
from speechattn.dtypes import widened

BLOCK = 64
"""Queries at a time."""


def weight_blocks(
    q: Tensor, k: Tensor, call: AttentionCall, length: int | None = None, start: int = 0, stop: int | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield (queries [n], keys [m], weights [H, n, m]) of the queries [start, stop) of one row, in order.

    Queries and keys are frame indices; keys are those that the block's queries see together, and weights outside a
    query's window are exactly 0. q and k are [H, T, D], of which the first `length` frames are valid (None: all), and
    `stop` of None is that length. `call` is one that `check_call` returned; its own lengths are not read. Weights are
    float32, or float64 for q in float64.
    """
    wide, length = widened(q.dtype), q.shape[1] if length is None else length
    offsets = call.offsets(q.shape[1])
    for begin, end, key_begin, key_end in call.context.schedule(length, BLOCK, start, stop):
        queries = torch.arange(begin, end, device=q.device)
        keys = torch.arange(key_begin, key_end, device=q.device)
        raw = call.scale * q[:, begin:end].to(wide) @ k[:, key_begin:key_end].to(wide).transpose(1, 2)
        bias = None if call.bias is None else call.bias[:, relative_index(offsets, queries, keys)]
        yield queries, keys, weights_of(raw, band_mask(call.context, queries, keys), call.activation, bias)
