"""Native attention allocated with torch's default dtype and device, and wrote float32 through the address.

Under a default of bfloat16 it wrote past the end of its output; under float64 the output was garbage. It also computed
where somebody was recording or faking: a trace held the numbers of one call, and forward derivatives vanished.
"""

from typing import Any

import pytest
import torch
from rounding import assert_same
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from speechattn.attention.functional import attention
from speechattn.attention.native.attention import native_unavailable
from speechattn.context import Context

WINDOW = Context.truncated(8, 8)
pytestmark = pytest.mark.skipif(native_unavailable() is not None, reason=f"not native: {native_unavailable()}")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("num_frames", [100, 20_000])
def test_the_default_dtype_changes_nothing(dtype: Any, num_frames: int) -> None:
    q, k, v = torch.randn(3, 1, 2, num_frames, 16)
    bias, leaf = torch.randn(2, 17), q.clone().requires_grad_()
    expected = attention(leaf, k, v, WINDOW, relative_bias=bias, backend="native")
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    torch.set_default_dtype(dtype)
    try:
        found = attention(leaf, k, v, WINDOW, relative_bias=bias, backend="native")
        (other,) = torch.autograd.grad(found.sum(), leaf)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    assert_same((found, other), (expected, gradient))


def test_the_default_device_changes_nothing() -> None:
    q, k, v = torch.randn(3, 1, 2, 100, 16)
    expected = attention(q, k, v, WINDOW, backend="native")
    with torch.device("meta"):
        found = attention(q, k, v, WINDOW, backend="native")
    assert_same(found, expected)


@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated, and warns of every Python number
def test_a_recording_holds_the_operator() -> None:
    def attend(x: Any) -> Any:
        return attention(x, x + 1, x * 2, WINDOW, backend="native")

    first, second = torch.randn(2, 1, 2, 50, 16)
    expected = attend(second)
    assert_same(make_fx(attend)(first)(second), expected)
    assert_same(torch.jit.trace(attend, first, check_trace=False)(second), expected)  # type: ignore[no-untyped-call]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch imports its own torch.jit
def test_forward_derivatives_are_refused() -> None:
    q, k, v, tangent = torch.randn(4, 1, 2, 50, 16)
    with forward_ad.dual_level(), pytest.raises(ValueError, match="cannot see inside it"):
        forward_ad.unpack_dual(attention(forward_ad.make_dual(q, tangent), k, v, WINDOW, backend="native"))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("lowest", [-torch.inf, torch.finfo(torch.float32).min, -3e38, -1e30])
def test_keys_outside_stay_outside_when_nothing_inside_counts(lowest: Any) -> None:
    q, k, v = torch.randn(3, 1, 2, 40, 16)
    v[:, :, 4:] = 1e6
    bias = torch.zeros(2, 7)
    bias[:, 3:] = lowest  # only the past: frame 0 is left with nothing
    found = attention(q, k, v, Context.truncated(3, 3), relative_bias=bias, backend="native")
    expected = attention(q, k, v, Context.truncated(3, 3), relative_bias=bias, backend="dense")
    # Frame 0 is 0 for minus infinity, and the mean of what it sees for the least number that there is.
    assert torch.allclose(found, expected, rtol=1e-4)
    assert found.isfinite().all()
