"""`attention`: what it refuses, what layouts and dtypes it takes, and the weights it shows."""

from typing import Any

import pytest
import torch
from rounding import assert_same
from torch import Tensor

import speechattn as sa
from speechattn.attention.functional import attention, attention_weights
from speechattn.context import Context
from speechattn.encoder.self_attention import SelfAttention

attend: Any = attention  # mypy does not count what a star unpacks
WINDOW = Context.truncated(5, 3)


def random(*shape: Any, dtype: torch.dtype = torch.float64) -> Any:
    return torch.randn(*shape, dtype=dtype)


def test_the_public_name_can_be_called_whatever_was_imported_before() -> None:
    q = random(1, 1, 4, 2)
    assert_same(sa.attention(q, q, q, WINDOW), attention(q, q, q, WINDOW))


def test_wrong_calls_are_refused_by_name() -> None:
    q = random(1, 2, 6, 4)
    with pytest.raises(TypeError, match=r"speechattn\.Context, got tuple"):
        attention(q, q, q, (5, 3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[B, H, T, D\]"):
        attention(q[0], q[0], q[0], WINDOW)
    with pytest.raises(ValueError, match="equal B, H and T"):
        attention(q, q, q[:, :, 1:], WINDOW)
    with pytest.raises(TypeError, match="one floating dtype"):
        attention(q, q, q.float(), WINDOW)
    with pytest.raises(ValueError, match="activation must be one of softmax, relu"):
        attention(q, q, q, WINDOW, activation="sigmoid")
    with pytest.raises(ValueError, match="backend must be one of auto, dense, banded"):
        attention(q, q, q, WINDOW, backend="fast")
    with pytest.raises(ValueError, match=r"= \[2, 9\], got \[2, 8\]"):
        attention(q, q, q, WINDOW, relative_bias=random(2, 8))
    with pytest.raises(ValueError, match="Did you pass samples"):
        attention(q, q, q, WINDOW, lengths=torch.tensor([960]))


@pytest.mark.parametrize("backend", ["dense", "banded"])
def test_any_memory_layout_gives_the_same(backend: str) -> None:
    plain = random(3, 2, 2, 70, 4)
    expected = attend(*plain, WINDOW, backend=backend)
    time_first = plain.permute(3, 0, 1, 2, 4).contiguous().permute(1, 2, 3, 0, 4)
    last_strided = torch.stack((plain, plain), -1)[..., 0]
    for layout in (time_first, last_strided):
        assert (attend(*layout, WINDOW, backend=backend) - expected).abs().max() < 1e-12
    offset = torch.cat((random(1, 2, 2, 70, 4), plain))[1:]
    assert_same(attend(*offset, WINDOW, backend=backend), expected)


@pytest.mark.parametrize("backend", ["dense", "banded"])
def test_expanded_inputs_and_gradients(backend: str) -> None:
    plain = random(2, 3, 50, 4)
    q = random(1, 1, 50, 4).expand(2, 3, 50, 4)
    expected = attend(*(q.contiguous(),) * 3, WINDOW, backend=backend)
    assert (attention(q, q, q, WINDOW, backend=backend) - expected).abs().max() < 1e-12
    for reduced in ((0, 1, 2, 3), (0, 1, 2), (2,), (0, 3)):  # gradients come expanded, with strides of 0
        grads = []
        for how in ("dense", backend):
            leaf = plain.clone().requires_grad_()
            attention(leaf, leaf, leaf, WINDOW, backend=how).sum(reduced).square().sum().backward()  # type: ignore[no-untyped-call]
            grads.append(leaf.grad)
        assert (grads[0] - grads[1]).abs().max() < 1e-10


@pytest.mark.parametrize("backend", ["dense", "banded"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_computed_in_float32(dtype: torch.dtype, backend: str) -> None:
    q, k, v = (x.to(dtype) for x in random(3, 1, 2, 80, 16))
    output = attention(q, k, v, WINDOW, backend=backend)
    reference = attention(q.double(), k.double(), v.double(), WINDOW, backend="dense")
    assert output.dtype == dtype
    # Half a unit in the last place of the largest value, and float32's own rounding.
    assert (output.double() - reference).abs().max() <= torch.finfo(dtype).eps * reference.abs().max() + 1e-6


def test_huge_float16_scores_do_not_overflow() -> None:
    q = torch.full((1, 1, 40, 64), 200.0, dtype=torch.float16)
    output = attention(q, q, q, WINDOW)
    assert output.isfinite().all() and torch.all(output == 200)


@pytest.mark.parametrize("backend", ["dense", "banded", "auto"])
@pytest.mark.parametrize("context", [WINDOW, Context.full()], ids=str)
def test_autocast_changes_nothing_and_a_later_backward_works(context: Context, backend: str) -> None:
    leaf = random(3, 1, 2, 60, 8, dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = attend(*leaf, context, backend=backend)
    output.sum().backward()
    assert output.dtype == torch.float32 and leaf.grad.isfinite().all()
    assert_same(output, attend(*leaf, context, backend=backend))


def test_values_may_have_another_width() -> None:
    q, k = random(2, 1, 2, 40, 4)
    v = random(1, 2, 40, 7)
    dense = attention(q, k, v, WINDOW, backend="dense")
    assert dense.shape == (1, 2, 40, 7)
    assert (attention(q, k, v, WINDOW, backend="banded") - dense).abs().max() < 1e-10


def test_scale_replaces_the_root_of_the_width() -> None:
    q, k, v = random(3, 1, 2, 40, 4)
    assert torch.allclose(attention(q, k, v, WINDOW, scale=0.5), attention(q, k, v, WINDOW))
    flat = attention(q, k, v, Context.full(), scale=0.0, backend="dense")
    assert torch.allclose(flat, v.mean(2, keepdim=True).expand_as(v))


def test_empty_batches_and_empty_audio() -> None:
    for shape in ((0, 2, 5, 4), (2, 2, 0, 4), (0, 2, 0, 4)):
        for backend in ("dense", "banded", "auto"):
            for context in (WINDOW, Context.full()):
                leaf = random(*shape).requires_grad_()
                output = attention(leaf, leaf, leaf, context, backend=backend)
                output.sum().backward()  # type: ignore[no-untyped-call]
                assert output.shape == shape and leaf.grad.shape == shape


@pytest.mark.parametrize("activation", ["softmax", "relu"])
@pytest.mark.parametrize("context", [WINDOW, Context.chunked(4, 3, 2), Context.truncated(40, 0)], ids=str)
def test_weights_in_the_window_are_the_dense_weights(context: Context, activation: str) -> None:
    num_frames, lengths = 90, torch.tensor([90, 31, 0])
    q, k = random(2, 3, 2, num_frames, 4)
    bias = random(2, len(context.offsets()))
    identity = torch.eye(num_frames, dtype=torch.float64).expand(3, 2, -1, -1)
    kwargs = {"lengths": lengths, "activation": activation, "relative_bias": bias}
    dense = attention(q, k, identity, context, backend="dense", **kwargs)
    window = attention_weights(q, k, context, **kwargs)
    assert window.shape == (3, 2, num_frames, context.window)
    rebuilt = torch.zeros_like(dense)
    for i in range(num_frames):
        start, _ = context.span(i)
        for column in range(context.window):  # type: ignore[arg-type]
            if 0 <= start + column < num_frames:  # type: ignore[operator]
                rebuilt[:, :, i, start + column] = window[:, :, i, column]  # type: ignore[operator]
    assert (rebuilt - dense).abs().max() < 1e-10
    assert (window.sum(-1) - dense.sum(-1)).abs().max() < 1e-10


@pytest.mark.parametrize("num_frames", [0, 1, 2, 9, 40])
@pytest.mark.parametrize(
    "context",
    [
        Context.truncated(10**9, 3),
        Context.truncated(2, 10**9),
        Context.chunked(10**9, 4),
        Context.chunked(4, 10**9, 2),
        Context.causal(),
        Context.truncated(3, None),
        Context.full(),
    ],
    ids=str,
)
def test_a_window_past_the_audio_has_the_columns_that_the_audio_can_fill(context: Context, num_frames: int) -> None:
    q, k = random(2, 2, 1, num_frames, 4)
    identity = torch.eye(num_frames, dtype=torch.float64).expand(2, 1, -1, -1)
    seen = context.within(num_frames)
    assert [seen.visible(i, num_frames) for i in range(num_frames)] == [
        context.visible(i, num_frames) for i in range(num_frames)
    ]
    window = attention_weights(q, k, context)
    assert window.shape == (2, 1, num_frames, seen.window) and seen.window <= 3 * num_frames + 4  # type: ignore[operator]
    rebuilt = torch.zeros(2, 1, num_frames, num_frames, dtype=torch.float64)
    for i in range(num_frames):
        start, stop = seen.visible(i, num_frames)
        first = start - seen.span(i)[0]  # type: ignore[operator]
        rebuilt[:, :, i, start:stop] = window[:, :, i, first : first + stop - start]  # type: ignore[operator]
    assert (rebuilt - attention(q, k, identity, context, backend="dense")).abs().sum() < 1e-10


@pytest.mark.parametrize("position_encoding", ["relative", "alibi"])
def test_weights_of_an_unlimited_side_have_its_bias(position_encoding: str) -> None:
    layer = SelfAttention(8, 2, Context.causal(), position_encoding=position_encoding).double()
    frames = random(1, 150, 8)  # more than the distances that a table spends on a side without limit
    q, k, v = layer.project(frames)
    weights = attention_weights(q, k, layer.context, relative_bias=layer.bias(layer.context, 150))
    start = layer.context.within(150).span(149)[0]
    assert start == 0  # so that the last frame's columns are the frames
    last = (weights[0, :, 149, :, None] * v[0]).sum(1)
    heads = attention(q, k, v, layer.context, relative_bias=layer.bias(layer.context, 150))
    assert (last - heads[0, :, 149]).abs().max() < 1e-10


def test_relu_weighting_divides_by_the_visible_keys() -> None:
    q = torch.ones(1, 1, 4, 1, dtype=torch.float64)
    v = torch.arange(4.0, dtype=torch.float64).view(1, 1, 4, 1)
    output = attention(q, q, v, Context.truncated(1, 0), activation="relu", scale=1.0)
    assert output.flatten().tolist() == [0.0, 0.5, 1.5, 2.5]


def test_double_backward_is_refused_rather_than_wrong() -> None:
    leaf = random(1, 1, 20, 4).requires_grad_()
    output = attention(leaf, leaf, leaf, WINDOW, backend="banded")
    with pytest.raises(RuntimeError, match="use backend='dense'"):
        torch.autograd.grad(output.sum(), leaf, create_graph=True)


@pytest.mark.parametrize("context", [WINDOW, Context.chunked(4, 3, 2), Context.causal()], ids=str)
def test_gradients_against_finite_differences(context: Context) -> Any:
    inputs = [random(1, 2, 9, 2).requires_grad_() for _ in range(3)]
    bias = random(2, len(context.offsets())).requires_grad_()
    lengths = torch.tensor([7])

    def call(q: Tensor, k: Tensor, v: Tensor, table: Any) -> Any:
        return attention(q, k, v, context, lengths=lengths, relative_bias=table, backend="banded")

    assert torch.autograd.gradcheck(call, (*inputs, bias), fast_mode=True)


@pytest.mark.parametrize("context", [WINDOW, Context.chunked(4, 3, 2), Context.truncated(40, 20)], ids=str)
def test_heads_side_by_side_are_a_view_of_the_banded_output(context: Context) -> None:
    q, k, v = random(2, 90, 3, 2, 4).permute(2, 0, 3, 1, 4)
    output = attention(q, k, v, context, backend="banded")
    assert output.transpose(1, 2).flatten(2).data_ptr() == output.data_ptr()


@pytest.mark.parametrize("activation", ["softmax", "relu"])
@pytest.mark.parametrize("context", [WINDOW, Context.chunked(8, 9, 4), Context.truncated(40, 20)], ids=str)
def test_rows_of_equal_and_of_other_lengths_together(context: Context, activation: str) -> None:
    """Rows that end alike share their last block, and all share their first, wherever in the batch they are."""
    lengths = torch.tensor([150, 150, 86, 0, 150, 118, 150, 22])
    wide, narrow, bias = random(2, 8, 2, 150, 4), random(8, 2, 150, 6), random(2, len(context.offsets()))
    for v, table in ((wide[1], None), (narrow, None), (narrow, bias), (wide[1], bias)):
        grads = []
        for backend in ("dense", "banded"):
            leaves = [x.clone().requires_grad_() for x in (*wide, v, *([] if table is None else [table]))]
            kwargs = {
                "lengths": lengths,
                "activation": activation,
                "relative_bias": None if table is None else leaves[3],
            }
            output = attend(*leaves[:3], context, backend=backend, **kwargs)
            grads.append((output, *torch.autograd.grad(output.square().sum(), leaves)))
        for dense, banded in zip(*grads, strict=True):
            assert (dense - banded).abs().max() < 1e-10


def test_scores_far_apart_leave_weights_of_one_and_zero() -> None:
    """Weights of e^-1000, which are 0, and of e^-95, which have no room in a float32."""
    keys = torch.full((1, 1, 300, 1), -1000.0)
    keys[0, 0, ::7] = -95.0
    keys[0, 0, ::10] = 0.0
    q, v = torch.ones(1, 1, 300, 1), torch.randn(1, 1, 300, 1)
    results = []
    for backend in ("dense", "banded"):
        leaves = [x.clone().requires_grad_() for x in (q, keys, v)]
        output = attend(*leaves, Context.truncated(40, 20), scale=1.0, backend=backend)
        results.append((output, *torch.autograd.grad(output.sum(), leaves)))
    for dense, banded in zip(*results, strict=True):
        assert banded.isfinite().all() and (dense - banded).abs().max() < 1e-4
