"""Statistics of the heads of one layer: sums over queries, so that hours take the memory of a second.

A query's weights are divided by their sum first: under relu they do not sum to 1, and a query whose weights are all 0
looks nowhere: it is counted and left out. Sums are float64. What is derived from them is in head_summary.py.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from speechattn.attention.call import check_call
from speechattn.attention.qkv import QKV
from speechattn.attention.weight_blocks import weight_blocks
from speechattn.context import Context
from speechattn.encoder.self_attention import SelfAttention

EDGE_SHARE = 0.1
"""Share of a side of the window, at least one frame, that is its edge."""


class HeadStatistics:
    """Sums over the queries of one attention layer with H heads; queries are divided into G groups.

    Args:
        layer: the layer.
        num_groups: groups of queries, for example families of phones.
        num_frames: frames of the recording; needed only if a side of the context is unlimited.

    Attributes:
        offsets: distances key minus query, in frames of the encoder: the D columns of the sums.
        queries: [G], queries of each group.
        empty: [G, H], queries whose weights are all 0, which add to no other sum.
        total: [G, H], sum of the weights before they are divided.
        mass: [G, H, D], weight by distance.
        entropy: [G, H], sum of the entropies of the queries' weights, in bits.
        seen: [H, D], queries that see a key at this distance.
        views: queries [H] by the first and last distance that they see.
        edge: [2, G, H], weight on the edge of the window, past and future, of queries whose edge lies inside the audio.
        edge_queries: [2, G, H], those queries.
    """

    def __init__(self, layer: SelfAttention, num_groups: int, num_frames: int | None = None) -> None:
        self.layer, self.context = layer, layer.context
        if num_frames is None and not self.context.limited:
            raise ValueError(f"a context without limits ({self.context}) needs num_frames.")
        self.offsets = self.context.offsets(num_frames)
        groups, heads, width = num_groups, layer.num_heads, len(self.offsets)
        self.queries = torch.zeros(groups, dtype=torch.float64)
        self.empty, self.total, self.entropy = (torch.zeros(groups, heads, dtype=torch.float64) for _ in range(3))
        self.mass = torch.zeros(groups, heads, width, dtype=torch.float64)
        self.seen = torch.zeros(heads, width, dtype=torch.float64)
        self.edge, self.edge_queries = (torch.zeros(2, groups, heads, dtype=torch.float64) for _ in range(2))
        self.views: dict[tuple[int, int], Tensor] = defaultdict(lambda: torch.zeros(heads, dtype=torch.float64))

    @torch.no_grad()
    def add(self, input: Tensor, groups: Tensor, start: int, stop: int) -> None:
        """Add the queries [start, stop) of a layer whose input is [1, T, D]; `groups` [stop - start] int64 are theirs.

        The input must reach as far as these queries look, or to the end of the recording.
        """
        q, k, _ = self.layer.project(input)
        bias = self.layer.bias(self.context, q.shape[2])
        call = check_call(QKV(q, k, k), self.context, None, self.layer.activation, bias, None)
        for queries, keys, weights in weight_blocks(q[0], k[0], call, start=start, stop=stop):
            own = torch.zeros(len(queries), len(self.queries), dtype=torch.float64)
            own[torch.arange(len(queries)), groups[queries.cpu() - start]] = 1
            self._add_block(own, queries.cpu(), keys.cpu(), weights.cpu().double(), q.shape[2])

    def _add_block(self, own: Tensor, queries: Tensor, keys: Tensor, weights: Tensor, num_frames: int) -> None:
        """Add weights [H, n, m] of queries [n], which `own` [n, G] assigns to groups."""
        total = weights.sum(2)
        looks = total > 0
        weights = weights / torch.where(looks, total, 1.0)[:, :, None]
        # The distances that occur in this block: without limits there are many more in a recording.
        begin = max(self.offsets.start, int(keys[0] - queries[-1]))
        end = min(self.offsets.stop, int(keys[-1] - queries[0]) + 1)
        offsets, part = torch.arange(begin, end), slice(begin - self.offsets.start, end - self.offsets.start)
        column = queries[:, None] + offsets - keys[0]
        first, last = _ends(self.context, queries, num_frames)
        visible = (offsets >= first[:, None]) & (offsets <= last[:, None])
        by_offset = weights.gather(2, column.clamp(0, len(keys) - 1).expand(len(weights), -1, -1)) * visible
        active = looks.double()
        self.queries += own.sum(0)
        self.total += (total @ own).T
        self.empty += ((1 - active) @ own).T
        self.mass[:, :, part] += torch.einsum("ng,hnd->ghd", own, by_offset)
        self.entropy += (-torch.xlogy(weights, weights).sum(2) / torch.log(torch.tensor(2.0)).double() @ own).T
        self.seen[:, part] += active @ visible.double()
        for view in set(zip(first.tolist(), last.tolist(), strict=True)):
            same = (first == view[0]) & (last == view[1])
            self.views[view] += active[:, same].sum(1)
        self._add_edges(own, active, by_offset, offsets, queries, num_frames)

    def _add_edges(
        self, own: Tensor, active: Tensor, by_offset: Tensor, offsets: Tensor, queries: Tensor, num_frames: int
    ) -> None:
        """Add the weight on the outermost frames of each side, of queries whose window is not clipped there."""
        start, stop = self.context.span(queries)
        for side, limit in enumerate((start, stop)):
            width = self.edge_frames[side]
            if limit is None or not width:
                continue
            whole = (limit >= 0) if side == 0 else (limit <= num_frames)
            outermost = (limit if side == 0 else limit - width) - queries
            at_edge = (offsets >= outermost[:, None]) & (offsets < outermost[:, None] + width)
            counted = own * whole[:, None]
            self.edge[side] += ((by_offset * at_edge).sum(2) @ counted).T
            self.edge_queries[side] += (active @ counted).T

    @property
    def edge_frames(self) -> tuple[int, int]:
        """Frames of the edge in the past and in the future; 0 for a side without limit or without frames."""
        past, future = (
            max(1, round(EDGE_SHARE * side)) if side else 0 for side in (self.context.left, self.context.right)
        )
        return past, future

    def state(self) -> dict[str, Any]:
        """Return the sums by name, for tests and merging."""
        names = ("queries", "empty", "total", "mass", "entropy", "seen", "edge", "edge_queries")
        return {name: getattr(self, name) for name in names}


def _ends(context: Context, queries: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Return the first and last distance [n] that each query sees."""
    start, stop = context.span(queries)
    first = torch.zeros_like(queries) if start is None else start.clamp(min=0)
    end = torch.full_like(queries, num_frames) if stop is None else stop.clamp(max=num_frames)
    return first - queries, end - 1 - queries
