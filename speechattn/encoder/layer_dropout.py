"""Layer dropout: training skips whole blocks at random (Fan et al. 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn


def is_skipped(probability: float) -> bool:
    """Return True with `probability`; no random number is drawn if it is 0."""
    return bool(probability and torch.rand(()) < probability)


def skip(block: nn.Module, x: Tensor) -> Tensor:
    """Return `x`; with several processes the block's parameters get gradients of 0.

    DistributedDataParallel waits for a gradient of every parameter, and each rank skips other blocks. In one process
    the parameters stay without a gradient, so that no optimizer decays or moves them in that step.
    """
    if torch.is_grad_enabled() and distributed.is_available() and distributed.is_initialized():
        output: Tensor = _ZeroGradients.apply(x, *block.parameters())  # type: ignore[no-untyped-call]
        return output
    return x


class _ZeroGradients(torch.autograd.Function):
    """The identity, with gradients of 0 for all inputs but the first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        """Return `x`."""
        ctx.save_for_backward(*parameters)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        """Return the gradient of `x`, and zeros."""
        return grad, *map(torch.zeros_like, ctx.saved_tensors)
