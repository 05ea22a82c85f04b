"""Context -> bool mask (True = may attend), and the picture of it. Polarity never flips in this package."""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.context import Context


def band_mask(context: Context, queries: Tensor, keys: Tensor) -> Tensor:
    """Return bool [Tq, Tk]: True where query frame `queries[i]` may attend to key frame `keys[j]`.

    `queries` [Tq] and `keys` [Tk] are int64 frame indices.

    Examples:
        >>> band_mask(Context.truncated(1, 0), torch.arange(3), torch.arange(3)).int().tolist()
        [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    start, stop = context.span(queries[:, None])
    mask = torch.ones(len(queries), len(keys), dtype=torch.bool, device=queries.device)
    if start is not None:
        mask &= keys >= start
    if stop is not None:
        mask &= keys < stop
    return mask


def context_mask(context: Context, num_frames: int, device: torch.device | None = None) -> Tensor:
    """Return bool [T, T], True = may attend. Quadratic: for the dense backend and for pictures."""
    frames = torch.arange(num_frames, device=device)
    return band_mask(context, frames, frames)


def picture(context: Context, num_frames: int) -> str:
    """Return the mask in hashes and dots, one row a query.

    Examples:
        >>> print(picture(Context.chunked(2, left=2), 6))
        0 ##....
        1 ##....
        2 ####..
        3 ####..
        4 ..####
        5 ..####
    """
    width = len(str(max(0, num_frames - 1)))
    rows = context_mask(context, num_frames).tolist()
    return "\n".join(f"{i:{width}d} " + "".join(".#"[seen] for seen in row) for i, row in enumerate(rows))
