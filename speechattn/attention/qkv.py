"""Queries, keys and values the two ways they come: as three tensors, or as the one that a projection leaves.

A backend takes them as `parts`, a sequence of three or of one, and gives gradients of the same form. So the
gradient of one packed tensor is written in place, where that of its three views would be stacked: a copy of all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def unpacked(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Views q, k, v [B, H, T, D] of three tensors of that shape, or of one packed [B, T, 3, H, D]."""
    q, k, v = parts if len(parts) == 3 else parts[0].permute(2, 0, 3, 1, 4)
    return q, k, v
