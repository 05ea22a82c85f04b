"""Pieces of rows of frames whose scores are one batch of small matrix products: views, masks, and sums where they meet.

Queries are cut into blocks of `block` frames. The keys that a block sees together are `left + block + right`
neighbours, its window, so the blocks of one head are a batch of products over *overlapping strided views* of k and
v: nothing is copied. Blocks that reach past an end of their row have their window clipped::

    block 0   qq.......        q the block's queries, k the further keys it sees
              qqkk.....        left=1, right=2, block=2: blocks 0 and 3 are clipped,
    block 1   .kqqkk...        1 and 2 form a slab: two views of the same shape, `block` apart
    block 2   ...kqqkk.
    block 3   .....kqqk

A `Slab` is many whole blocks of some heads, an `Edge` one clipped block of all heads, and of all rows that have one of
the same shape. `plan.py` says which there are, `attention.py` what is done with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Grid:
    """Blocks and windows that have one shape: block n holds `block` queries from `start + n * block` on."""

    start: int
    block: int
    left: int  # frames from the first key of a window to the first query of its block
    window: int

    def whole(self, last: int, length: int) -> int:
        """How many blocks end by `last` and have their window inside a row of `length` frames."""
        stop = min(last, length - (self.window - self.left - self.block))
        return max(0, (stop - self.start) // self.block)


class Frames:
    """A tensor [B, H, T, D] whose first frame is frame `origin`, and its views: made once, for they cost time."""

    def __init__(self, tensor: Tensor, grid: Grid | None, origin: int = 0) -> None:
        self.tensor, self.origin = tensor, origin
        self.grid = Grid(0, 1, 0, 1) if grid is None else grid

    @cached_property
    def blocks(self) -> Tensor:
        """[B, H, blocks, block, D]."""
        return self._views(self.grid.start, self.grid.block)

    @cached_property
    def windows(self) -> Tensor:
        """[B, H, blocks, window, D], overlapping."""
        return self._views(self.grid.start - self.grid.left, self.grid.window)

    @cached_property
    def lanes(self) -> list[tuple[Tensor, ...]]:
        """[T, D] of every row and head."""
        return [row.unbind() for row in self.tensor.unbind()]

    @cached_property
    def block_lanes(self) -> list[tuple[Tensor, ...]]:
        """[blocks, block, D] of every row and head."""
        return [row.unbind() for row in self.blocks.unbind()]

    @cached_property
    def window_lanes(self) -> list[tuple[Tensor, ...]]:
        """[blocks, window, D] of every row and head."""
        return [row.unbind() for row in self.windows.unbind()]

    def part(self, rows: int | slice, start: int, frames: int) -> Tensor:
        """[H, frames, D] of one row, or that of several."""
        return self.tensor[rows, :, start - self.origin : start - self.origin + frames]

    def _views(self, start: int, width: int) -> Tensor:
        # Not as_strided, which takes an offset into the storage: torch.compile remembers that of the first call.
        return self.tensor[:, :, start - self.origin :].unfold(2, width, self.grid.block).transpose(3, 4)


class Memory:
    """Memory that pieces use one after the other: to get it from the system again costs as much as a product."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self._flat: dict[str, Tensor] = {}
        self._views: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    def __call__(self, name: str, *shape: int) -> Tensor:
        """An uninitialised tensor in the memory of this name."""
        view = self._views.get((name, shape))
        if view is None:
            size, flat = math.prod(shape), self._flat.get(name)
            if flat is None or flat.numel() < size:
                self._views = {key: kept for key, kept in self._views.items() if key[0] != name}
                flat = self._flat[name] = self.like.new_empty(size)
            view = self._views[name, shape] = flat[:size].view(shape)
        return view


@dataclass(frozen=True)
class Mask:
    """What is added to the scores of one block, keys first: 0, or a relative bias, or -inf where nothing is seen.

    A query from which the table hides every key is `blind`. It is given every key, so that its weights are finite;
    its output, and the gradient that comes in for it, are then set to 0.
    """

    given: Tensor  # [1 or H, keys, queries]
    index: Tensor | None  # [keys, queries]: columns of the relative-bias table, if there is one
    lead: int  # every query of the block sees the keys from lead to trail
    trail: int

    def cut(self, queries: int, first: int, keys: int) -> Mask:
        """The mask of the first `queries` queries and of `keys` keys from `first` on."""
        part = slice(first, first + keys)
        index = None if self.index is None else self.index[part, :queries]
        return Mask(self.given[:, part, :queries], index, self.lead - first, self.trail - first)

    @cached_property
    def blind(self) -> Tensor | None:
        """Bool [H, 1, queries]: from these the table hides every key. None without a table, when none can be."""
        return None if self.index is None else (self.given == -torch.inf).all(1, keepdim=True)

    @cached_property
    def bias(self) -> Tensor:
        """What is added, [1 or H, keys, queries]."""
        return self.given if self.blind is None else self.given.masked_fill(self.blind, 0)

    def add_to(self, scores: Tensor, head: int | None = None) -> None:
        """Mask scores [..., H, keys, queries], or [n, keys, queries] of one head."""
        bias = self.bias if head is None else self.bias[head if len(self.bias) > 1 else 0]
        keys = bias.shape[-2]
        if self.index is not None or self.trail <= self.lead:
            scores.add_(bias)
            return
        for first, stop in ((0, min(self.lead, keys)), (max(0, self.trail), keys)):
            if first < stop:
                scores.narrow(-2, first, stop - first).add_(bias.narrow(-2, first, stop - first))

    @cached_property
    def by_query(self) -> Tensor | None:
        """The bias as [1, 1 or H, queries, keys], or None if every query sees every key and nothing is added."""
        if self.index is None and self.lead <= 0 and self.trail >= self.given.shape[1]:
            return None
        bias = self.given.transpose(1, 2).clone(memory_format=torch.contiguous_format)
        return (bias if self.blind is None else bias.masked_fill_(self.blind.transpose(1, 2), 0))[None]

    def num_visible(self) -> Tensor:
        """How many keys each query sees, [1, 1, queries]."""
        return (self.given[:1] > -torch.inf).sum(1, keepdim=True)


@dataclass(frozen=True)
class Slab:
    """Whole blocks [begin, end) of some lanes, a lane being one head of one row; n = lanes * blocks.

    What is done with every score by itself is done for all lanes at once, so that short rows cost no more calls.
    """

    mask: Mask
    grid: Grid
    lanes: list[tuple[int, int]]  # row, head
    begin: int
    end: int

    def shape(self, num_heads: int) -> tuple[int, int, int]:
        """Of the scores: n, keys, queries."""
        return len(self.lanes) * (self.end - self.begin), self.grid.window, self.grid.block

    def queries(self, x: Frames) -> list[Tensor]:
        """[blocks, block, D] of each lane."""
        return [x.block_lanes[row][head][self.begin : self.end] for row, head in self.lanes]

    def keys(self, x: Frames) -> list[Tensor]:
        """[blocks, window, D] of each lane: overlapping views."""
        return [x.window_lanes[row][head][self.begin : self.end] for row, head in self.lanes]

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """[blocks, ...] of each lane of x [n, ...]."""
        return (x,) if len(self.lanes) == 1 else x.chunk(len(self.lanes))

    def put(self, x: Frames, values: Tensor) -> None:
        """Write [n, block, D]."""
        for target, value in zip(self.queries(x), self.split(values), strict=True):
            target.copy_(value)

    def add_product(self, x: Frames, left: Tensor, right: Tensor, scale: float, memory: Memory) -> None:
        """Add [n, window, block] times [n, block, D] times `scale`, where neighbouring windows overlap.

        It is computed in strips of one block of keys: within a strip no two windows touch the same frame, so that a
        batch of products adds to what others have left there.
        """
        block, count = self.grid.block, self.end - self.begin
        whole, rest = divmod(self.grid.window, block)
        start = self.grid.start - self.grid.left + self.begin * block - x.origin
        sums = memory("sums", count + whole - 1, block, right.shape[2])
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
        """Mask scores [n, window, block]."""
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

    # All heads of one row at once, [blocks, H, ...], for the lanes of a slab that is just that.

    def all_queries(self, x: Frames) -> Tensor:
        return x.blocks[self.lanes[0][0], :, self.begin : self.end].transpose(0, 1)

    def all_keys(self, x: Frames) -> Tensor:
        return x.windows[self.lanes[0][0], :, self.begin : self.end].transpose(0, 1)

    def put_all(self, x: Frames, values: Tensor) -> None:
        self.all_queries(x).copy_(values)


@dataclass(frozen=True)
class Edge:
    """One clipped block of all heads in several rows, as a `Slab` of one lane with n = rows * heads."""

    mask: Mask
    members: list[tuple[int, int, int]]  # row, first query, first key

    def shape(self, num_heads: int) -> tuple[int, int, int]:
        _, keys, queries = self.mask.given.shape
        return len(self.members) * num_heads, keys, queries

    def queries(self, x: Frames) -> list[Tensor]:
        return [self.all_queries(x).flatten(0, 1)]

    def keys(self, x: Frames) -> list[Tensor]:
        return [self.all_keys(x).flatten(0, 1)]

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,)

    def put(self, x: Frames, values: Tensor) -> None:
        self.put_all(x, self._by_row(values))

    def add_product(self, x: Frames, left: Tensor, right: Tensor, scale: float, memory: Memory) -> None:
        product = torch.bmm(left, right, out=memory("product", *left.shape[:2], right.shape[2]))
        for (row, _, start), part in zip(self.members, self._by_row(product), strict=True):
            x.part(row, start, part.shape[1]).add_(part, alpha=scale)

    def add_mask(self, scores: Tensor) -> None:
        self.mask.add_to(self._by_row(scores))

    def clear_blind(self, x: Tensor) -> None:
        if self.mask.blind is not None:
            self._by_row(x).masked_fill_(self.mask.blind.transpose(1, 2), 0)

    def add_to_table(self, table: Tensor, grad_scores: Tensor) -> None:
        assert self.mask.index is not None
        table.index_add_(1, self.mask.index.flatten(), self._by_row(grad_scores).sum(0).flatten(1))

    def all_queries(self, x: Frames) -> Tensor:
        """[rows, H, queries, D], a view where it can be one."""
        return self._all(x, [(row, start) for row, start, _ in self.members], self.mask.given.shape[2])

    def all_keys(self, x: Frames) -> Tensor:
        """[rows, H, keys, D], a view where it can be one."""
        return self._all(x, [(row, start) for row, _, start in self.members], self.mask.given.shape[1])

    def put_all(self, x: Frames, values: Tensor) -> None:
        for (row, start, _), part in zip(self.members, values, strict=True):
            x.part(row, start, part.shape[1]).copy_(part)

    def _all(self, x: Frames, places: list[tuple[int, int]], frames: int) -> Tensor:
        row, start = places[0]
        if places == [(row + n, start) for n in range(len(places))]:
            return x.part(slice(row, row + len(places)), start, frames)
        return torch.stack([x.part(row, start, frames) for row, start in places])

    def _by_row(self, x: Tensor) -> Tensor:
        return x.view(len(self.members), -1, *x.shape[1:])
