"""Rows of a batch, dealt to ranks and to the steps of gradient accumulation.

The mean loss of a batch is the sum of the losses of its parts, each weighted by its share of the targets; so one
update from all parts equals one from the whole batch, for any number of ranks and of parts.
"""

from __future__ import annotations

from torch import Tensor

Batch = tuple[Tensor, Tensor, Tensor]
"""Frames [B, T, F], lengths [B] and labels [B, L]."""


def own_rows(num_rows: int, rank: int, size: int, accumulate: int) -> list[slice]:
    """Return the parts of a batch of `num_rows` rows that `rank` of `size` ranks trains on, one after the other.

    Rows are dealt like cards, because rows of a batch are sorted by length. A rank without a row has no part.

    Examples:
        >>> [list(range(5))[part] for part in own_rows(5, rank=0, size=2, accumulate=2)]
        [[0, 4], [2]]
        >>> [list(range(5))[part] for part in own_rows(5, rank=1, size=2, accumulate=2)]
        [[1], [3]]
    """
    count = size * accumulate
    return [slice(first, None, count) for first in range(rank, min(num_rows, count), size)]


def take_rows(batch: Batch, rows: slice, per_frame: bool = True) -> Batch:
    """Return rows of a batch, frames cut to the longest of them; and labels, if they are one a frame."""
    frames, lengths, labels = batch
    longest = int(lengths[rows].max())
    return frames[rows, :longest], lengths[rows], labels[rows, :longest] if per_frame else labels[rows]
