"""What the sums of `HeadStatistics` say of each head: where it looks, how far, how widely, and why.

**Position or content.** A head that looks at the distance alone has the same weights for every query. Its mean weight
by distance, renormalised over the keys that a query sees, is the best guess that knows the distance only. With KL the
mean divergence of the weights from a guess, in bits:

    position share = 1 - KL(weights, guess by distance) / KL(weights, all visible keys alike)

1 is a tap of a convolution, 0 a head whose choice of keys has nothing to do with their distance; `content_bits` is the
first divergence: what the sound adds to the distance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from speechattn.analysis.head_statistics import HeadStatistics

FLAT_BITS = 0.01
"""Below this divergence from equal weights, a head has no choice of keys that a position could explain."""
SHORT_WINDOW = 0.1
"""Weight on the edge of one side above which the window may be too short, if the edge gets more than an even share."""


@dataclass(frozen=True)
class View:
    """The view of a head over some queries. Shares are of the weight, and sum to 1."""

    queries: int
    """Queries with any weight."""
    distance_ms: float
    """Mean distance of a key, in ms, without its sign."""
    offset_ms: float
    """Mean of key minus query in ms: negative is back, positive is ahead."""
    past: float
    """Share of keys before the query."""
    itself: float
    """Share of the query's own frame."""
    future: float
    """Share of keys after the query."""
    entropy_bits: float
    """Mean entropy of the weights of a query."""
    effective_frames: float
    """Frames over which equal weights have this entropy."""


@dataclass(frozen=True)
class HeadSummary:
    """One head of one layer. Layers and heads are counted from 1."""

    layer: int
    head: int
    all: View
    """All queries."""
    by_group: dict[str, View]
    """Queries of each group that occurs: families of phones, or classes."""
    peak_ms: float
    """Key minus query of the distance with the largest mean weight."""
    peak_weight: float
    """The mean weight there, over the queries that see it."""
    edge_past: float | None
    """Share on the farthest tenth of the left side; None without such a side."""
    edge_future: float | None
    """Share on the farthest tenth of the right side."""
    short_past: bool
    """Whether the left side may be too short: its edge gets over a tenth of the weight, and more than an even share."""
    short_future: bool
    """The same of the right side."""
    position_share: float | None
    """Share of the choice of keys that their distance explains; None for a head that looks at all keys alike."""
    content_bits: float
    """Divergence of the weights from the mean by distance."""
    mean_sum: float
    """Mean sum of a query's weights: 1 under softmax."""
    empty: float
    """Share of queries whose weights are all 0, as relu makes them."""
    offsets_ms: list[float]
    """Key minus query of the profile, in ms."""
    profile: list[float]
    """Mean weight at each of these distances, over the queries that see it."""

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON types, with None for what is not a number."""
        return asdict(self)


def summarize(statistics: HeadStatistics, layer: int, groups: Sequence[str], frame_ms: float) -> list[HeadSummary]:
    """Return a summary of each head of a layer; a frame of the encoder is `frame_ms` long."""
    offsets = torch.arange(statistics.offsets.start, statistics.offsets.stop)
    return [_summary(statistics, layer, head, groups, offsets, frame_ms) for head in range(statistics.layer.num_heads)]


def _summary(
    found: HeadStatistics, layer: int, head: int, groups: Sequence[str], offsets: Tensor, frame_ms: float
) -> HeadSummary:
    queries = found.queries - found.empty[:, head]
    mass, seen = found.mass[:, head], found.seen[head]
    profile = mass.sum(0) / seen.clamp(min=1)
    views = {
        name: _view(mass[group], found.entropy[group, head], queries[group], offsets, frame_ms)
        for group, name in enumerate(groups)
        if queries[group]
    }
    edges = [_edge(found, side, head) for side in (0, 1)]
    content, choice = _divergences(found, head, profile)
    counted = max(1.0, float(found.queries.sum()))
    peak = int(profile.argmax()) if len(profile) else 0
    return HeadSummary(
        layer=layer,
        head=head + 1,
        all=_view(mass.sum(0), found.entropy[:, head].sum(), queries.sum(), offsets, frame_ms),
        by_group=views,
        peak_ms=float(offsets[peak]) * frame_ms,
        peak_weight=float(profile[peak]),
        edge_past=edges[0],
        edge_future=edges[1],
        short_past=_is_short(found, 0, edges[0]),
        short_future=_is_short(found, 1, edges[1]),
        position_share=max(0.0, 1 - content / choice) if choice > FLAT_BITS else None,
        content_bits=content,
        mean_sum=float(found.total[:, head].sum()) / counted,
        empty=float(found.empty[:, head].sum()) / counted,
        offsets_ms=(offsets * frame_ms).tolist(),
        profile=profile.tolist(),
    )


def _view(mass: Tensor, entropy: Tensor, queries: Tensor, offsets: Tensor, frame_ms: float) -> View:
    count = max(1.0, float(queries))
    share = mass / count
    bits = float(entropy) / count
    return View(
        queries=round(float(queries)),
        distance_ms=float(share @ offsets.abs().double()) * frame_ms,
        offset_ms=float(share @ offsets.double()) * frame_ms,
        past=float(share[offsets < 0].sum()),
        itself=float(share[offsets == 0].sum()),
        future=float(share[offsets > 0].sum()),
        entropy_bits=bits,
        effective_frames=2.0**bits,
    )


def _edge(found: HeadStatistics, side: int, head: int) -> float | None:
    queries = float(found.edge_queries[side, :, head].sum())
    return float(found.edge[side, :, head].sum()) / queries if queries else None


def _is_short(found: HeadStatistics, side: int, edge: float | None) -> bool:
    """Return whether the edge of a side gets so much weight that the head may look for farther keys."""
    window = found.context.window
    if edge is None or window is None:
        return False
    return edge > max(SHORT_WINDOW, found.edge_frames[side] / window)


def _divergences(found: HeadStatistics, head: int, profile: Tensor) -> tuple[float, float]:
    """Return the mean divergence of the weights from the mean by distance, and from equal weights, in bits.

    KL(p, guess) = sum p log p - sum p log guess: the first sum is the entropy, the second needs the mass by distance
    only, and the normalisation of the guess depends on the first and last distance that a query sees.
    """
    queries = float((found.queries - found.empty[:, head]).sum())
    if not queries:
        return 0.0, 0.0
    mass = found.mass[:, head].sum(0)
    cross = -float(torch.xlogy(mass, profile).sum()) / math.log(2)
    ahead = torch.cat([profile.new_zeros(1), profile.cumsum(0)])
    equal = 0.0
    for (first, last), counts in found.views.items():
        if not (count := float(counts[head])):
            continue
        begin, end = first - found.offsets.start, last - found.offsets.start + 1
        normal = float(ahead[end] - ahead[begin])
        cross += count * math.log2(normal) if normal > 0 else 0.0
        equal += count * math.log2(end - begin)
    entropy = float(found.entropy[:, head].sum())
    return max(0.0, (cross - entropy) / queries), max(0.0, (equal - entropy) / queries)
