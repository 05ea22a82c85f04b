"""What every frame sees, as tensors: for kernels, which cannot call `Context.span`.

This file tabulates it once and keeps the table. A table serves every audio up to its size, which is a power of two, so
that batches of changing lengths need few tables. A row's length is not known here: a kernel clips `high` to it.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from speechattn.context import Context

MIN_FRAMES = 1024
"""Frames of the smallest table: 8 KB."""


class KeyRangeTable(NamedTuple):
    """Frames 0 .. size - 1 of one context, and their blocks of `block` frames. int32, neither falls as i grows."""

    low: Tensor  # [size]: frame i sees the keys [low[i], high[i])
    high: Tensor
    some_first: Tensor  # [size / block]: the queries [first, stop) see some key of a block
    some_stop: Tensor
    every_first: Tensor  # [size / block]: the queries [first, stop) see every key of a block
    every_stop: Tensor
    reach: int  # the most frames before the first query of a block that it sees
    keys: int  # the most keys that the queries of one block see together, beginning `reach` before the block
    queries: int  # the most queries that see some key of one block


def key_range_table(context: Context, num_frames: int, block: int, device: torch.device) -> KeyRangeTable:
    """Return the table of a context for at least `num_frames` frames; `block` is a power of two up to 1024."""
    size = max(MIN_FRAMES, 1 << max(0, num_frames - 1).bit_length())
    return _table(context, size, block, device)


@functools.lru_cache(maxsize=16)  # 8 bytes a frame each
def _table(context: Context, size: int, block: int, device: torch.device) -> KeyRangeTable:
    frames = torch.arange(size)
    start, stop = context.span(frames)
    start = torch.full_like(frames, -size) if start is None else start.clamp(min=-size)
    low = start.clamp(min=0)
    high = torch.full_like(frames, size) if stop is None else stop.clamp(max=size)
    first = frames[::block].contiguous()
    beyond = first + block
    some_first = torch.searchsorted(high, first, right=True)  # as many frames end at or before the block
    some_stop = torch.searchsorted(low, beyond)  # as many begin before its end
    every_first, every_stop = torch.searchsorted(high, beyond), torch.searchsorted(low, first, right=True)
    reach = int((first - start[::block]).max())
    keys = int((high[block - 1 :: block] - first).max()) + reach
    queries = int((some_stop - some_first).max())
    tables = (low, high, some_first, some_stop, every_first, every_stop)
    moved = [x.to(device, torch.int32) for x in tables]
    return KeyRangeTable(moved[0], moved[1], moved[2], moved[3], moved[4], moved[5], reach, keys, queries)
