"""Muon: momentum with orthogonalized matrix updates (Jordan et al. 2024), for the weights inside the blocks.

`torch.optim.Muon` (torch 2.9 and later) is the same rule, computed in bfloat16, which is slow on a CPU without
bfloat16 units; this one keeps the dtype of the weights and runs on every torch that the package supports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Jordan's quintic, steep at 0: it moves singular values to within 0.7 and 1.2 in 5 iterations."""


def orthogonalize(update: Tensor, iterations: int = 5) -> Tensor:
    """Return `update` [m, n] with its singular values moved to about 1 by Newton-Schulz iterations."""
    a, b, c = COEFFICIENTS
    tall = update.shape[0] > update.shape[1]
    x = update.T if tall else update
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for matrices, with decoupled weight decay.

    The update is scaled by 0.2 * sqrt(max(m, n)), so that it is as large as AdamW's at the same learning rate
    (Liu et al. 2025, arXiv 2502.16982, equation 4).

    Args:
        params: matrices [m, n], or groups of them; a kernel [m, channels, taps] counts as [m, channels * taps].
        lr: learning rate, of the same size as for AdamW.
        momentum: decay of the running mean of gradients, with Nesterov's look-ahead.
        weight_decay: share of a weight that is subtracted per step, times lr.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim < 2:
                    raise ValueError(f"Muon updates matrices, got a parameter of shape {list(parameter.shape)}.")

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; closures are not supported."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalize(parameter.grad.lerp(state["momentum"], group["momentum"]).flatten(1))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.reshape(parameter.shape), alpha=-group["lr"] * 0.2 * max(update.shape) ** 0.5)
