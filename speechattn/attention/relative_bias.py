"""The table of biases by distance that `attention` adds to its scores, and the keys that it hides.

A bias of -inf hides a key. A query from which it hides every key of its window is *blind*: its output is 0, and so are
its gradients. Softmax over nothing is NaN, so a backend gives a blind query every key and then clears its output
(`blind_queries`). A backend that masks with large finite numbers takes biases no lower than LOWEST_BIAS
(`bounded_bias`). Under relu the divisor counts hidden keys. A bias of +inf or NaN makes NaN of every query that sees
its key.
"""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.context import Context

LOWEST_BIAS = -1e38
"""Lowest finite bias in float32 arithmetic: a lower one is taken for it, since it must not hide its key."""


def table_offsets(table: Tensor, context: Context, num_frames: int) -> range:
    """Return the distances that the columns of a table [H, offsets] stand for.

    Those of the context; or, where a side has no limit, every distance among `num_frames` frames.

    Raises:
        ValueError: the table has neither width.
    """
    for offsets in (context.offsets(), context.offsets(num_frames)):
        if table.shape[1] == len(offsets):
            return offsets
    raise ValueError(
        f"relative_bias must be [H, len(context.offsets())] = [{len(table)}, {len(context.offsets())}], "
        f"got {list(table.shape)}."
    )


def relative_index(offsets: range, queries: Tensor, keys: Tensor) -> Tensor:
    """Return the column [Tq, Tk] of a table for every pair of frame indices; past an end, that end."""
    return (keys - queries[:, None] - offsets.start).clamp(0, len(offsets) - 1)


def columns(table: Tensor, index: Tensor) -> Tensor:
    """Return table[:, index], [H, *index.shape], whose own gradient takes a hundred times as long."""
    return table.index_select(1, index.flatten()).view(len(table), *index.shape)


def bounded_bias(table: Tensor) -> Tensor:
    """Return a table whose biases are -inf, or not below LOWEST_BIAS."""
    return table.clamp(min=LOWEST_BIAS).masked_fill(table == -torch.inf, -torch.inf)


def blind_queries(bias: Tensor, keys: int) -> Tensor:
    """Return the bool mask of blind queries, of size 1 in the dimension `keys`.

    `bias` is -inf where a key is hidden or outside the window. Fill it with 0 for blind queries: they see every key.
    """
    return (bias == -torch.inf).all(keys, keepdim=True)
