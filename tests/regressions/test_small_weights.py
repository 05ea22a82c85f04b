"""Weights too small for a normal float made attention with a bias that falls with the distance several times slower.

A relative bias begins with 1.5 nats a frame: 64 frames away a weight is 1e-42. The native kernel now takes such floats
for 0 while it runs, and only then; banded attention drops such weights where it differentiates.
"""

from __future__ import annotations

import pytest
import torch

from speechattn.attention.functional import attention
from speechattn.attention.native.attention import native_unavailable
from speechattn.context import Context

CONTEXT = Context.truncated(90, 70)
needs_native = pytest.mark.skipif(native_unavailable() is not None, reason=f"not native: {native_unavailable()}")


def gradients(backend: str, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(0)
    q, k, v, grad = (torch.randn(1, 2, 300, 16).to(dtype) for _ in range(4))
    bias = -1.5 * torch.arange(-90, 71).abs().to(dtype).expand(2, -1).contiguous()
    leaves = [x.requires_grad_() for x in (q, k, v, bias)]
    output = attention(q, k, v, CONTEXT, relative_bias=bias, backend=backend)
    return [output.detach(), *torch.autograd.grad(output, leaves, grad)]


@pytest.mark.parametrize("backend", [pytest.param("native", marks=needs_native), "banded"])
def test_small_weights_are_those_of_the_reference(backend: str) -> None:
    for found, expected in zip(gradients(backend, torch.float32), gradients("dense", torch.float64), strict=True):
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


@needs_native
def test_small_floats_are_as_before_behind_a_call() -> None:
    gradients("native", torch.float32)
    small = torch.full((64,), 1e-40)
    assert (small * 1.0 > 0).all() and float(small.sum()) > 6e-39
