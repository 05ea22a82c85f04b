"""What is added to the scores of one tile: 0, a relative bias, or -inf where a key is not seen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from speechattn.attention.relative_bias import blind_queries


@dataclass(frozen=True)
class TileMask:
    """What is added to the scores of one tile, keys first.

    The output of blind queries (see relative_bias.py), and the gradient that comes in for them, are set to 0.
    """

    given: Tensor  # [1 or H, keys, queries]
    index: Tensor | None  # [keys, queries]: columns of the relative-bias table, if there is one
    lead: int  # every query of the tile sees the keys from lead to trail
    trail: int

    def cut(self, queries: int, first: int, keys: int) -> TileMask:
        """Return the mask of the first `queries` queries and of `keys` keys from `first` on."""
        part = slice(first, first + keys)
        index = None if self.index is None else self.index[part, :queries]
        return TileMask(self.given[:, part, :queries], index, self.lead - first, self.trail - first)

    @cached_property
    def blind(self) -> Tensor | None:
        """Blind queries, bool [H, 1, queries]. None without a table, when none can be."""
        return None if self.index is None else blind_queries(self.given, keys=1)

    @cached_property
    def bias(self) -> Tensor:
        """What is added, [1 or H, keys, queries]: blind queries see every key."""
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
        bias = self.given.transpose(1, 2).clone(memory_format=torch.contiguous_format)  # the one copy
        return (bias if self.blind is None else bias.masked_fill_(self.blind.transpose(1, 2), 0))[None]

    def num_visible(self) -> Tensor:
        """Return how many keys each query sees, [1, 1, queries]."""
        return (self.given[:1] > -torch.inf).sum(1, keepdim=True)
