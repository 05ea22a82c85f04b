"""FramesConvolution: torch's convolution, masked, and the same in a stream."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechattn.context import Context
from speechattn.encoder.convolution import FramesConvolution


@pytest.mark.parametrize("groups", [None, 1, 3])
@pytest.mark.parametrize("context", [Context(7, 7), Context(14, 0), Context(0, 3), Context(0, 0)], ids=str)
def test_it_is_torchs_convolution_with_zeros_around(context: Any, groups: Any) -> None:
    layer = FramesConvolution(6, context, groups).double()
    x = torch.randn(2, 33, 6, dtype=torch.float64)
    padded = torch.nn.functional.pad(x.transpose(1, 2), (context.left, context.right))
    assert (layer(x) - layer.kernel(padded).transpose(1, 2)).abs().max() < 1e-12


def test_a_causal_convolution_sees_no_future() -> None:
    layer = FramesConvolution(4, Context(6, 0))
    x = torch.randn(1, 30, 4, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x)[0, 12].sum(), x)
    assert grad[0].abs().sum(1).nonzero().flatten().tolist() == list(range(6, 13))


def test_padding_counts_as_the_zeros_past_the_end() -> None:
    layer = FramesConvolution(4, Context(3, 3))
    x = torch.randn(2, 20, 4)
    x[1, 9:] = float("nan")
    output = layer(x, torch.tensor([20, 9]))
    assert torch.all(output[1, 9:] == 0)
    assert torch.allclose(output[1, :9], layer(x[1:, :9])[0], atol=1e-6)


@given(
    left=st.integers(0, 8),
    right=st.integers(0, 8),
    pushes=st.lists(st.integers(0, 9), max_size=8),
    num=st.integers(0, 40),
)
def test_any_split_equals_the_whole(left: Any, right: Any, pushes: Any, num: Any) -> None:
    context = Context(left, right)
    layer = FramesConvolution(3, context).double()
    x = torch.randn(2, num, 3, dtype=torch.float64)
    state, position, parts = layer.initial_state(2), 0, []
    for size in pushes:
        part, state = layer.step(x[:, position : position + size], state)
        position = min(num, position + size)
        parts.append(part)
        assert sum(p.shape[1] for p in parts) == context.ready(position)
        assert state.shape[1] <= context.kept_frames  # type: ignore[operator]
    part, state = layer.step(x[:, position:], state, final=True)
    streamed = torch.cat([*parts, part], 1)
    whole = layer(x)
    assert streamed.shape == whole.shape and torch.allclose(streamed, whole, atol=1e-12)


def test_it_needs_a_window_without_chunks() -> None:
    for context in (Context.causal(), Context.chunked(4, 2)):
        with pytest.raises(ValueError, match="two limits and no chunk"):
            FramesConvolution(4, context)
