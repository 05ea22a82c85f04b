"""Which of torch's transforms surround a call: autograd, torch.func, tracing.

`torch.func` (grad, vmap, jvp, ...) and forward-mode derivatives give a function tensors without memory of their own. A
computation written for addresses, or with a backward pass of its own, cannot take them; plain torch can.

They are asked of private functions of torch; tests/test_transforms.py fails where torch drops one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

GradientsT = TypeVar("GradientsT")


def is_recorded() -> bool:
    """Return True under torch.compile, tracing, profiling or a dispatch mode: they must see an operator."""
    recorded = torch.compiler.is_compiling() or is_traced() or torch._C._autograd._profiler_enabled()
    return recorded or torch._C._len_torch_dispatch_stack() > 0


def is_traced() -> bool:
    """Return True under torch.jit.trace, which keeps what Python computes as constants."""
    return torch._C._is_tracing()


def is_transformed() -> bool:
    """Return True inside a transform of torch.func, or while torch computes forward-mode derivatives."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def is_learning(tensors: Iterable[Tensor | None]) -> bool:
    """Return True if a gradient of one of the tensors may be computed."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def differentiated_once(
    name: str,
) -> Callable[[Callable[[Any, Tensor], GradientsT]], Callable[[Any, Tensor], GradientsT]]:
    """Decorate the backward pass of a backend, which gets a gradient whose last stride is 1.

    It raises RuntimeError where it is differentiated again, or is given many gradients at once, as by
    torch.autograd.functional.jacobian(..., vectorize=True).
    """

    def decorate(backward: Callable[[Any, Tensor], GradientsT]) -> Callable[[Any, Tensor], GradientsT]:
        @functools.wraps(backward)
        def checked(ctx: Any, grad: Tensor) -> GradientsT:
            instead = "use backend='dense' for that, with an encoder EncoderConfig(backend='dense')."
            if torch.is_grad_enabled():
                raise RuntimeError(f"{name} attention cannot be differentiated twice; {instead}")
            if is_transformed() or torch._C._functorch.is_legacy_batchedtensor(grad):
                raise RuntimeError(f"{name} attention's gradient cannot be batched by vmap; {instead}")
            return backward(ctx, grad if grad.stride(-1) == 1 else grad.contiguous())  # an expanded one has stride 0

        return checked

    return decorate
