"""Which tiles a call of banded attention has: block sizes, masks, and the order in which they are processed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from speechattn.attention.banded.tile_mask import TileMask
from speechattn.attention.banded.tiles import BoundaryTile, TileBatch
from speechattn.attention.banded.views import Grid
from speechattn.attention.call import AttentionCall
from speechattn.attention.masks import band_mask
from speechattn.attention.qkv import QKV
from speechattn.attention.relative_bias import relative_index
from speechattn.heuristics import FUSED_FRAMES, TILE_BATCH_BYTES, block_size

BOUNDARY_FRAMES = 64
"""Queries of a boundary tile: a few more products with what is masked, and half as many calls."""
LONG_WINDOW = 1024
"""Frames up to which a window's mask is made once, however short the audio."""


class Schedule:
    """The tiles of rows of frames whose queries begin with frame `call.query_start`, the first of a chunk.

    `bias` [H, offsets] is the relative bias or None.
    """

    def __init__(self, call: AttentionCall, bias: Tensor | None, qkv: QKV) -> None:
        context, num_frames = call.context, call.key_start + qkv.k.shape[2]
        self.context, self.bias, self.num_heads, self.first = context, bias, qkv.q.shape[1], call.query_start
        self.like = qkv.q.new_empty(0)
        self.offsets = call.offsets(num_frames)
        self.grid: Grid | None = None
        self.boundary = block = block_size(context)
        # A window far longer than the audio clips every block, and its mask must not cost memory.
        if context.window is None or block % context.chunk or context.window > max(num_frames, LONG_WINDOW):
            return
        assert context.right is not None
        start, window = context.first_unclipped(block, self.first), context.block_window(block)
        key_start, _ = context.span(start)
        assert window is not None and key_start is not None
        self.grid = Grid(start, block, key_start, window)
        self.boundary = block * max(1, BOUNDARY_FRAMES // block)
        # Every block starts on a chunk, so all of them, clipped ones too, cut their mask from one of these.
        self.masks = {size: self._mask(start, size, key_start, context.right) for size in (block, self.boundary)}

    def tiles(self, rows: list[int], last: int, whole_rows: bool = False) -> Iterator[TileBatch | BoundaryTile]:
        """Yield tiles that together hold every query from the first to `last` of rows of so many frames once.

        `whole_rows` says that a batch holds all heads of one row, however many scores those are.
        """
        lanes: dict[int, list[tuple[int, int]]] = {}
        clipped: dict[tuple[int, int, int, int], list[tuple[int, int, int]]] = {}
        for row, length in enumerate(rows):
            stop = min(last, length)
            spans = [(self.first, stop)]
            if self.grid is not None and (whole := self.grid.whole(stop, length)):
                lanes.setdefault(whole, []).extend((row, head) for head in range(self.num_heads))
                spans = [(self.first, self.grid.start), (self.grid.start + whole * self.grid.block, stop)]
            for begin, end in spans:
                for start, query_stop, key_start, key_stop in self.context.schedule(length, self.boundary, begin, end):
                    shape = start % self.context.chunk, query_stop - start, key_start - start, key_stop - query_stop
                    clipped.setdefault(shape, []).append((row, start, key_start))
        for whole, members in lanes.items():
            yield from self._batches(whole, members, whole_rows)
        for (_, queries, before, after), places in clipped.items():
            yield from self._boundary_tiles(queries, before, after, places)

    def _batches(self, whole: int, lanes: list[tuple[int, int]], whole_rows: bool) -> Iterator[TileBatch]:
        assert self.grid is not None
        block = self.grid.block
        most = max(1, FUSED_FRAMES // block) if whole_rows else self._fit(block * self.grid.window)
        count = -(-whole // -(-whole // most))  # batches of one size, or nearly
        together = self.num_heads if whole_rows else self._fit(count * block * self.grid.window)
        for begin in range(0, whole, count):
            end = min(begin + count, whole)
            for lane in range(0, len(lanes), together):
                yield TileBatch(self.masks[block], self.grid, lanes[lane : lane + together], begin, end)

    def _boundary_tiles(
        self, queries: int, before: int, after: int, places: list[tuple[int, int, int]]
    ) -> Iterator[BoundaryTile]:
        if self.grid is None:
            mask = self._mask(places[0][1], queries, places[0][2], after)
        else:
            mask = self.masks[self.boundary].cut(
                queries, before + self.grid.start - self.grid.key_start, queries + after - before
            )
        most = self._fit(2 * self.num_heads * mask.given[0].numel())  # keys and values are copied, too
        for begin in range(0, len(places), most):
            yield BoundaryTile(mask, places[begin : begin + most])

    def _fit(self, scores: int) -> int:
        """Return how many times so many scores fit into a batch, at least once."""
        return max(1, TILE_BATCH_BYTES // (scores * self.like.element_size()))

    def _mask(self, start: int, queries: int, key_start: int, after: int) -> TileMask:
        """Return the mask of so many queries from `start` on, for keys from `key_start` to `after` past the last."""
        stop, key_stop = start + queries, start + queries + after
        query_frames = torch.arange(start, stop, device=self.like.device)
        key_frames = torch.arange(key_start, key_stop, device=self.like.device)
        outside = ~band_mask(self.context, query_frames, key_frames).T
        if self.bias is not None:
            index = relative_index(self.offsets, query_frames, key_frames).T
            return TileMask(self.bias[:, index].masked_fill_(outside, -torch.inf), index, 0, 0)
        bias = self.like.new_zeros(1, *outside.shape).masked_fill_(outside, -torch.inf)
        low, high = self.context.span(stop - 1)[0], self.context.span(start)[1]
        lead, trail = (key_start if low is None else low), (key_stop if high is None else high)
        return TileMask(bias, None, lead - key_start, trail - key_start)
