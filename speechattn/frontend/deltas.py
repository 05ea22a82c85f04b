"""Deltas: the slope of each feature over five frames, equal to torchaudio.functional.compute_deltas."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

DELTA_REACH = 2
"""Frames on each side that the slope of a frame is computed from, as `speechattn.model_config.DELTA` declares."""


def append_deltas(slabs: Iterator[Tensor], width: int) -> Iterator[Tensor]:
    """Yield slabs [n', F + width] given slabs [n, F] of one row: frames with the slopes of their last features.

    d_t = sum of k (c_{t+k} - c_{t-k}) over k = 1, 2, divided by 10: the straight line through 5 frames. The first and
    last frame of the row are repeated beyond its ends. Frames whose slopes need the next slab come with it.

    Examples:
        >>> slabs = [torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[3.0], [4.0], [5.0]])]
        >>> torch.cat(list(append_deltas(iter(slabs), 1)))[:, 1].tolist()
        [0.5, 0.800000011920929, 1.0, 1.0, 0.800000011920929, 0.5]
    """
    pending: Tensor | None = None
    for slab in slabs:
        ready, pending = deltas_step(slab, slab[:0] if pending is None else pending, width, final=False)
        if len(ready):
            yield ready
    if pending is not None:
        yield deltas_step(pending[:0], pending, width, final=True)[0]


def deltas_step(frames: Tensor, pending: Tensor, width: int, final: bool) -> tuple[Tensor, Tensor]:
    """Return the frames [..., m, F + width] that have all their neighbours, and the pending ones [..., k, F].

    `frames` [..., n, F] follow `pending`, which is empty before the first frame; `final` means that they are the last.
    """
    if frames.shape[-2] and not pending.shape[-2]:
        pending = frames[..., :1, :].expand(*frames.shape[:-2], DELTA_REACH, -1)
    x = torch.cat([pending, frames], -2)
    if final:
        x = torch.cat([x, x[..., -1:, :].expand(*x.shape[:-2], min(x.shape[-2], DELTA_REACH), -1)], -2)
    count = max(0, x.shape[-2] - 2 * DELTA_REACH)
    c = x[..., x.shape[-1] - width :]
    slope = 2 * (c[..., 4 : 4 + count, :] - c[..., :count, :]) + c[..., 3 : 3 + count, :] - c[..., 1 : 1 + count, :]
    ready = torch.cat([x[..., DELTA_REACH : DELTA_REACH + count, :], slope / 10], -1)
    return ready, x[..., count:, :]
