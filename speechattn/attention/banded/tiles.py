"""Tiles: parts of rows of frames whose scores are one batch of small matrix products.

Queries are cut into blocks of `block` frames. The keys that a block sees together are `left + block + right`
neighbours, its window, so the blocks of one head are a batch of products over *overlapping strided views* of k and
v: nothing is copied. Blocks that reach past an end of their row have their window clipped::

    block 0   qq.......        q the block's queries, k the further keys it sees
              qqkk.....        left=1, right=2, block=2: blocks 0 and 3 are clipped,
    block 1   .kqqkk...        1 and 2 are a batch: two views of the same shape, `block` apart
    block 2   ...kqqkk.
    block 3   .....kqqk

A `TileBatch` is many whole blocks of some heads, a `BoundaryTile` one clipped block of all heads, and of all rows that
have one of the same shape. `schedule.py` lists them, `tile_attention.py` computes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from speechattn.attention.banded.tile_mask import TileMask
from speechattn.attention.banded.views import FrameViews, Grid, Workspace


@dataclass(frozen=True)
class TileBatch:
    """Whole blocks [begin, end) of some lanes, a lane being one head of one row; n = lanes * blocks.

    Elementwise functions of scores take all lanes at once, so that short rows cost no more calls.
    """

    mask: TileMask
    grid: Grid
    lanes: list[tuple[int, int]]  # row, head
    begin: int
    end: int

    def shape(self, num_heads: int) -> tuple[int, int, int]:
        """Return the shape of the scores: n, keys, queries."""
        return len(self.lanes) * (self.end - self.begin), self.grid.window, self.grid.block

    def queries(self, x: FrameViews) -> list[Tensor]:
        """Return [blocks, block, D] of each lane."""
        return [x.block_lanes[row][head][self.begin : self.end] for row, head in self.lanes]

    def keys(self, x: FrameViews) -> list[Tensor]:
        """Return [blocks, window, D] of each lane: overlapping views."""
        return [x.window_lanes[row][head][self.begin : self.end] for row, head in self.lanes]

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return [blocks, ...] of each lane of x [n, ...]."""
        return (x,) if len(self.lanes) == 1 else x.chunk(len(self.lanes))

    def put(self, x: FrameViews, values: Tensor) -> None:
        """Write [n, block, D]."""
        for target, value in zip(self.queries(x), self.split(values), strict=True):
            target.copy_(value)

    def add_product(self, x: FrameViews, left: Tensor, right: Tensor, scale: float, workspace: Workspace) -> None:
        """Add [n, window, block] times [n, block, D] times `scale`, where neighbouring windows overlap.

        It is computed in strips of one block of keys: within a strip no two windows touch the same frame, so that one
        batch of products adds to the sums of the strips before.
        """
        block, count = self.grid.block, self.end - self.begin
        whole, rest = divmod(self.grid.window, block)
        start = self.grid.key_start + self.begin * block - x.origin
        sums = workspace("sums", count + whole - 1, block, right.shape[2])
        parts = [sums[strip : strip + count] for strip in range(whole)]
        for (row, head), a, b in zip(self.lanes, self.split(left), self.split(right), strict=True):
            frames = x.lanes[row][head]
            sums[count:] = 0
            for strip, part in enumerate(parts):
                part.baddbmm_(a.narrow(1, strip * block, block), b, beta=float(strip > 0))
            frames[start : start + len(sums) * block].add_(sums.view(-1, sums.shape[2]), alpha=scale)
            if rest:
                first = start + whole * block
                target = frames[first : first + (count - 1) * block + rest].unfold(0, rest, block).transpose(1, 2)
                target.add_(torch.bmm(a[:, whole * block :], b), alpha=scale)

    def add_mask(self, scores: Tensor) -> None:
        """TileMask scores [n, window, block]."""
        if len(self.mask.given) == 1:
            self.mask.add_to(scores, 0)
            return
        for (_, head), part in zip(self.lanes, self.split(scores), strict=True):
            self.mask.add_to(part, head)

    def clear_blind(self, x: Tensor) -> None:
        """Put zeros for blind queries into x [n, block, D]."""
        if self.mask.blind is None:
            return
        for (_, head), part in zip(self.lanes, self.split(x), strict=True):
            part.masked_fill_(self.mask.blind[head].T, 0)

    def add_to_table(self, table: Tensor, grad_scores: Tensor) -> None:
        """Sum the gradient of the scores by key minus query into that of a table [H, offsets]."""
        assert self.mask.index is not None
        for (_, head), part in zip(self.lanes, self.split(grad_scores), strict=True):
            table[head].index_add_(0, self.mask.index.flatten(), part.sum(0).flatten())

    # All heads of one row at once, [blocks, H, ...], for a batch whose lanes are these.

    def all_queries(self, x: FrameViews) -> Tensor:
        """Return views [blocks, H, block, D]."""
        return x.blocks[self.lanes[0][0], :, self.begin : self.end].transpose(0, 1)

    def all_keys(self, x: FrameViews) -> Tensor:
        """Return overlapping views [blocks, H, window, D]."""
        return x.windows[self.lanes[0][0], :, self.begin : self.end].transpose(0, 1)

    def put_all(self, x: FrameViews, values: Tensor) -> None:
        """Write [blocks, H, block, D]."""
        self.all_queries(x).copy_(values)


@dataclass(frozen=True)
class BoundaryTile:
    """One clipped block of all heads in several rows, as a `TileBatch` of one lane with n = rows * heads."""

    mask: TileMask
    members: list[tuple[int, int, int]]  # row, first query, first key

    def shape(self, num_heads: int) -> tuple[int, int, int]:
        """Return the shape of the scores: n, keys, queries."""
        _, keys, queries = self.mask.given.shape
        return len(self.members) * num_heads, keys, queries

    def queries(self, x: FrameViews) -> list[Tensor]:
        """Return [n, queries, D], of the one lane."""
        return [self.all_queries(x).flatten(0, 1)]

    def keys(self, x: FrameViews) -> list[Tensor]:
        """Return [n, keys, D], of the one lane."""
        return [self.all_keys(x).flatten(0, 1)]

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return x [n, ...], of the one lane."""
        return (x,)

    def put(self, x: FrameViews, values: Tensor) -> None:
        """Write [n, queries, D]."""
        self.put_all(x, self._by_row(values))

    def add_product(self, x: FrameViews, left: Tensor, right: Tensor, scale: float, workspace: Workspace) -> None:
        """Add [n, keys, queries] times [n, queries, D] times `scale` to the keys' frames."""
        product = torch.bmm(left, right, out=workspace("product", *left.shape[:2], right.shape[2]))
        for (row, _, start), part in zip(self.members, self._by_row(product), strict=True):
            x.part(row, start, part.shape[1]).add_(part, alpha=scale)

    def add_mask(self, scores: Tensor) -> None:
        """Mask scores [n, keys, queries]."""
        self.mask.add_to(self._by_row(scores))

    def clear_blind(self, x: Tensor) -> None:
        """Put zeros for blind queries into x [n, queries, D]."""
        if self.mask.blind is not None:
            self._by_row(x).masked_fill_(self.mask.blind.transpose(1, 2), 0)

    def add_to_table(self, table: Tensor, grad_scores: Tensor) -> None:
        """Sum the gradient of the scores by key minus query into that of a table [H, offsets]."""
        assert self.mask.index is not None
        table.index_add_(1, self.mask.index.flatten(), self._by_row(grad_scores).sum(0).flatten(1))

    def all_queries(self, x: FrameViews) -> Tensor:
        """Return [rows, H, queries, D], a view where it can be one."""
        return self._all(x, [(row, start) for row, start, _ in self.members], self.mask.given.shape[2])

    def all_keys(self, x: FrameViews) -> Tensor:
        """Return [rows, H, keys, D], a view where it can be one."""
        return self._all(x, [(row, start) for row, _, start in self.members], self.mask.given.shape[1])

    def put_all(self, x: FrameViews, values: Tensor) -> None:
        """Write [rows, H, queries, D]."""
        for (row, start, _), part in zip(self.members, values, strict=True):
            x.part(row, start, part.shape[1]).copy_(part)

    def _all(self, x: FrameViews, places: list[tuple[int, int]], frames: int) -> Tensor:
        row, start = places[0]
        if places == [(row + n, start) for n in range(len(places))]:
            return x.part(slice(row, row + len(places)), start, frames)
        return torch.stack([x.part(row, start, frames) for row, start in places])

    def _by_row(self, x: Tensor) -> Tensor:
        return x.view(len(self.members), -1, *x.shape[1:])
