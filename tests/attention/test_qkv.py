"""One packed tensor == its three views, outputs and gradients; and the backend that "auto" takes."""

from typing import Any

import pytest
import torch

from speechattn.attention.call import AttentionCall, check_call
from speechattn.attention.dispatch import choose
from speechattn.attention.functional import attention, packed_attention
from speechattn.attention.native.attention import native_unavailable
from speechattn.attention.qkv import QKV
from speechattn.context import Context
from speechattn.encoder.self_attention import SelfAttention

attend: Any = attention  # mypy does not count what a star unpacks
WINDOW = Context.truncated(9, 4)
FULL = Context.full()
NATIVE = "banded" if native_unavailable() else "native"
CASES = [
    (backend, with_bias, context, dtype)
    for context in (WINDOW, Context.chunked(8, 5, 3), Context.causal(), FULL)
    for with_bias in (False, True)
    for dtype in (torch.float64, torch.float32)
    for backend in ("auto", "dense", "banded", "sdpa", NATIVE)
    if backend != "native" or dtype == torch.float32
    if backend != "sdpa" or (context == FULL and not with_bias)
]


@pytest.mark.parametrize(("backend", "with_bias", "context", "dtype"), CASES, ids=str)
def test_one_packed_tensor_is_its_three_views(
    backend: str, with_bias: bool, context: Context, dtype: torch.dtype
) -> None:
    qkv = torch.randn(3, 130, 3, 2, 16, dtype=dtype, requires_grad=True)
    bias = torch.randn(2, len(context.offsets(130)), dtype=dtype, requires_grad=True) if with_bias else None
    grad = torch.randn(3, 2, 130, 16, dtype=dtype)
    settings: dict[str, Any] = {"lengths": torch.tensor([130, 0, 71]), "relative_bias": bias, "backend": backend}
    leaves = [qkv, bias] if with_bias else [qkv]

    packed = packed_attention(qkv, context, **settings)
    split = attend(*qkv.permute(2, 0, 3, 1, 4), context, **settings)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    assert (packed - split).abs().max() < tolerance
    pairs = zip(torch.autograd.grad(packed, leaves, grad), torch.autograd.grad(split, leaves, grad), strict=True)  # type: ignore[arg-type]
    for x, y in pairs:
        assert x.shape == y.shape and y.abs().max() > 0
        assert (x - y).abs().max() < 30 * tolerance  # a bias sums over all frames


@pytest.mark.parametrize("shape", [(2, 7, 12, 8), (2, 7, 2, 3, 8), (7, 3, 4, 8)])
def test_what_is_not_packed_is_refused(shape: Any) -> None:
    with pytest.raises(ValueError, match=r"qkv must be \[B, T, 3, H, D\], got"):
        packed_attention(torch.randn(shape), WINDOW)


@pytest.mark.parametrize(
    ("expected", "context", "num_frames", "dtype", "activation", "with_bias"),
    [
        ("sdpa", FULL, 600, torch.float32, "softmax", False),
        (NATIVE, WINDOW, 600, torch.float32, "softmax", False),
        (NATIVE, WINDOW, 600, torch.float32, "relu", True),
        (NATIVE, Context.causal(), 600, torch.float32, "softmax", False),
        ("banded", Context.causal(), 5000, torch.float32, "softmax", False),
        ("banded", Context.truncated(5000, 0), 6000, torch.float32, "softmax", False),
        (NATIVE, Context.truncated(5000, 0), 600, torch.float32, "softmax", False),
        ("banded", WINDOW, 600, torch.float64, "softmax", False),
        ("banded", WINDOW, 600, torch.bfloat16, "softmax", False),
        ("dense", FULL, 512, torch.float64, "softmax", True),
        ("banded", FULL, 513, torch.float64, "relu", False),
    ],
)
def test_auto_takes(
    expected: Any, context: Context, num_frames: int, dtype: torch.dtype, activation: str, with_bias: bool
) -> None:
    q = torch.zeros(1, 1, num_frames, 16, dtype=dtype)
    bias = torch.zeros(1, len(context.offsets(num_frames)), dtype=dtype) if with_bias else None
    qkv = QKV(q, q, q)
    assert choose(qkv, check_call(qkv, context, None, activation, bias, None)) == expected


def test_auto_does_without_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHATTN_NATIVE", "0")
    q = torch.zeros(1, 1, 600, 16)
    assert choose(QKV(q, q, q), AttentionCall(WINDOW)) == "banded"


def test_sdpa_refuses_what_it_cannot_honour() -> None:
    q = torch.zeros(1, 1, 20, 16)
    for context, settings in (
        (WINDOW, {}),
        (FULL, {"activation": "relu"}),
        (FULL, {"relative_bias": torch.zeros(1, 257)}),
    ):
        with pytest.raises(ValueError, match="backend='sdpa' cannot take this call: it takes softmax"):
            attention(q, q, q, context, backend="sdpa", **settings)


def test_a_layer_says_why_it_is_not_native(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ("not native" in repr(SelfAttention(32, 2, WINDOW))) == (NATIVE != "native")
    monkeypatch.setenv("SPEECHATTN_NATIVE", "0")
    assert "not native: SPEECHATTN_NATIVE=0 is set" in repr(SelfAttention(32, 2, WINDOW))


@pytest.mark.skipif(NATIVE != "native", reason=f"not native: {native_unavailable()}")
def test_a_layer_says_what_native_cannot_take() -> None:
    assert "not native: it computes in float32, got float64" in repr(SelfAttention(32, 2, WINDOW).double())
    assert "not native: the features of a head must be a multiple of 8, got 4" in repr(SelfAttention(8, 2, WINDOW))
