"""What torch does around a call: it differentiates, transforms or records it.

`torch.func` (grad, vmap, jvp, ...) and forward-mode derivatives give a function tensors without memory of their own. A
computation written for addresses, or with a backward pass of its own, cannot take them; plain torch can.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.autograd import forward_ad


def is_recorded() -> bool:
    """True under torch.compile, tracing, profiling or a dispatch mode, which must see an operator, not addresses."""
    recorded = torch.compiler.is_compiling() or torch._C._is_tracing() or torch._C._autograd._profiler_enabled()
    return recorded or torch._C._len_torch_dispatch_stack() > 0


def is_traced() -> bool:
    """Return True under torch.jit.trace, which keeps what Python computes as constants."""
    return torch._C._is_tracing()


def is_transformed() -> bool:
    """True inside a transform of torch.func, or while torch computes forward-mode derivatives."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_learning(tensors: Iterable[Tensor | None]) -> bool:
    """True if a gradient of one of the tensors may be asked for."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def check_gradient(name: str, grad: Tensor) -> None:
    """Raise RuntimeError in a backward pass that is differentiated again, or done for many gradients at once.

    `grad` is what comes in. torch.autograd.functional.jacobian(..., vectorize=True) batches it.
    """
    instead = "use backend='dense' for that, with an encoder EncoderConfig(backend='dense')."
    if torch.is_grad_enabled():
        raise RuntimeError(f"{name} attention cannot be differentiated twice; {instead}")
    if is_transformed() or torch._C._functorch.is_legacy_batchedtensor(grad):
        raise RuntimeError(f"{name} attention's gradient cannot be batched by vmap; {instead}")
