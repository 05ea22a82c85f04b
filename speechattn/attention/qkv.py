"""Queries, keys and values: three tensors, or views of the one tensor that a projection returns.

A backend that writes the gradient of the packed tensor in place saves the copy that stacking the gradients of its
three views would take.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class QKV(NamedTuple):
    """Queries and keys [B, H, T, D] and values [B, H, T, Dv] of one call."""

    q: Tensor
    k: Tensor
    v: Tensor
    packed: Tensor | None = None
    """[B, T, 3, H, D], where the other three are views of it."""

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The tensors that are differentiated: three, or the packed one."""
        return (self.q, self.k, self.v) if self.packed is None else (self.packed,)

    def with_unit_stride(self) -> QKV:
        """Return these tensors, copied where neighbouring features do not lie side by side."""
        if self.q.stride(-1) == self.k.stride(-1) == self.v.stride(-1) == 1:
            return self
        return from_parts([with_unit_stride(x) for x in self.parts])


def unpack(packed: Tensor) -> QKV:
    """Return the views of a packed tensor [B, T, 3, H, D]."""
    q, k, v = packed.permute(2, 0, 3, 1, 4)
    return QKV(q, k, v, packed)


def from_parts(parts: Sequence[Tensor]) -> QKV:
    """Return what has these `QKV.parts`."""
    return unpack(parts[0]) if len(parts) == 1 else QKV(*parts)


def with_unit_stride(x: Tensor) -> Tensor:
    """Return `x`, copied where its last stride is not 1: an expanded gradient has 0."""
    return x if x.stride(-1) == 1 else x.contiguous()
