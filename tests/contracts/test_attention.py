"""banded == dense, outputs and every gradient; padding and neighbours change nothing.

Tolerance 1e-10 in float64: both sum the same numbers in another order, so only a wrong algorithm is farther off.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_same
from torch import Tensor

from speechattn.attention.banded.attention import banded_step
from speechattn.attention.call import AttentionCall, check_call
from speechattn.attention.dense import dense_step
from speechattn.attention.dispatch import unsupported_reason
from speechattn.attention.functional import attention, attention_weights
from speechattn.attention.native.attention import native_step
from speechattn.attention.qkv import QKV
from speechattn.context import Context

attend: Any = attention  # mypy does not count what a star unpacks
TOLERANCE = 1e-10
CONTEXTS = [
    Context.truncated(0, 0),
    Context.truncated(3, 5),
    Context.truncated(0, 9),
    Context.truncated(40, 20),
    Context.truncated(300, 10),
    Context.causal(17),
    Context.chunked(4, 7, 3),
    Context.chunked(16, 64),
    Context.chunked(7, 0, 30),
    Context.chunked(150, 7, 3),
    Context.causal(),
    Context(None, 3, 4),
    Context(5, None, 3),
    Context.full(),
]


def both(
    context: Context,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Any,
    bias: Any,
    activation: str,
    grad: Tensor,
    other: Any = "banded",
) -> Any:
    """Output and gradients of q, k, v and the bias, from dense and from another backend."""
    results = []
    for backend in ("dense", other):
        leaves = [x.detach().clone().requires_grad_() for x in (q, k, v, *([] if bias is None else [bias]))]
        table = None if bias is None else leaves[3]
        output = attend(
            *leaves[:3], context, lengths=lengths, activation=activation, relative_bias=table, backend=backend
        )
        results.append((output, *torch.autograd.grad(output, leaves, grad)))
    return results


def assert_equal(results: Any) -> None:
    for dense, other in zip(*results, strict=True):
        assert dense.shape == other.shape
        if dense.numel():
            assert (dense - other).abs().max() <= TOLERANCE


@pytest.mark.parametrize("activation", ["softmax", "relu"])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("context", CONTEXTS, ids=str)
def test_banded_equals_dense(context: Context, with_bias: bool, activation: str) -> None:
    for num_frames in (0, 1, 2, 33, 97, 300):
        packed = torch.randn(3, num_frames, 3, 2, 8, dtype=torch.float64)
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        lengths = torch.tensor([num_frames, num_frames // 2, max(0, num_frames - 1)])
        bias = torch.randn(2, len(context.offsets()), dtype=torch.float64) if with_bias else None
        grad = torch.randn(3, 2, num_frames, 8, dtype=torch.float64)
        assert_equal(both(context, q, k, v, lengths, bias, activation, grad))


limited = st.builds(Context, st.integers(0, 40), st.integers(0, 40), st.integers(1, 40))
unlimited = st.builds(Context, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9), st.integers(1, 9))


@settings(max_examples=40, deadline=None)
@given(
    context=limited | unlimited,
    lengths=st.lists(st.integers(0, 120), min_size=1, max_size=3),
    with_bias=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_context_and_any_lengths(context: Context, lengths: Any, with_bias: bool, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: Any) -> Any:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    batch, num_frames = len(lengths), max(lengths)
    q, k, v, grad = (random(batch, 2, num_frames, 4) for _ in range(4))
    bias = random(2, len(context.offsets())) if with_bias else None
    assert_equal(both(context, q, k, v, torch.tensor(lengths), bias, "softmax", grad))
    if not with_bias:
        assert_equal(both(context, q, k, v, torch.tensor(lengths), bias, "softmax", grad, other="auto"))


@pytest.mark.parametrize(
    "context", [Context.truncated(64, 64), Context.truncated(128, 0), Context.chunked(64, 128, 32)]
)
def test_several_thousand_frames(context: Context) -> None:
    q, k, v, grad = (torch.randn(1, 2, 3001, 16, dtype=torch.float64) for _ in range(4))
    bias = torch.randn(2, len(context.offsets()), dtype=torch.float64)
    assert_equal(both(context, q, k, v, None, bias, "softmax", grad))


@pytest.mark.parametrize("backend", ["dense", "banded", "auto"])
@pytest.mark.parametrize(
    "context", [Context.truncated(9, 4), Context.chunked(8, 5, 3), Context.causal(), Context.full()]
)
@pytest.mark.parametrize("value", [1e30, float("nan"), float("inf"), -float("inf")])
def test_what_the_padding_holds_changes_nothing(context: Context, backend: str, value: float) -> None:
    lengths = torch.tensor([70, 0, 41])
    clean = torch.randn(3, 3, 2, 70, 4, dtype=torch.float64)
    padded = torch.arange(70) >= lengths[:, None]
    dirty = clean.masked_fill(padded[None, :, None, :, None], value)
    outputs = []
    for x in (clean, dirty):
        leaf = x.clone().requires_grad_()
        output = attend(*leaf, context, lengths=lengths, backend=backend)
        # The gradient that comes in at the padding is arbitrary as well.
        (grad,) = torch.autograd.grad(output, leaf, torch.ones_like(output))
        outputs.append((output, grad))
    (clean_out, clean_grad), (dirty_out, dirty_grad) = outputs
    assert_same((dirty_out, dirty_grad), (clean_out, clean_grad))
    assert torch.all(dirty_out.transpose(1, 2)[padded] == 0)
    assert torch.all(dirty_grad.permute(1, 3, 0, 2, 4)[padded] == 0)


@pytest.mark.parametrize("context", [Context.truncated(9, 4), Context.chunked(8, 5, 3), Context.causal()])
def test_a_row_alone_equals_the_row_in_a_batch(context: Context) -> None:
    q, k, v = torch.randn(3, 4, 2, 90, 4, dtype=torch.float64)
    lengths = torch.tensor([90, 13, 0, 55])
    together = attention(q, k, v, context, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = attend(*(x[row : row + 1, :, :length] for x in (q, k, v)), context)
        assert_same(together[row : row + 1, :, :length], alone)


@pytest.mark.parametrize("backend", ["dense", "banded"])
@pytest.mark.parametrize(
    "context",
    [Context.truncated(3, 5), Context.truncated(40, 0), Context.chunked(8, 5, 3), Context(None, 2, 3)],
    ids=str,
)
def test_the_weights_reach_exactly_the_declared_window(context: Context, backend: str) -> None:
    num_frames = 100
    q, k = torch.randn(2, 1, 2, num_frames, 4, dtype=torch.float64)
    identity = torch.eye(num_frames, dtype=torch.float64).expand(1, 2, -1, -1)
    weights = attention(q, k, identity, context, backend=backend)[0]
    assert torch.allclose(weights.sum(-1), torch.ones(2, num_frames, dtype=torch.float64))
    for i in range(num_frames):
        start, stop = context.visible(i, num_frames)
        assert torch.all(weights[:, i, start:stop] > 0)
        assert torch.all(weights[:, i, :start] == 0) and torch.all(weights[:, i, stop:] == 0)


def test_a_nan_among_valid_frames_spreads_no_further_than_its_window() -> None:
    context = Context.truncated(4, 2)
    q, k, v = torch.randn(3, 1, 1, 400, 4)
    v[0, 0, 200] = float("nan")
    output = attention(q, k, v, context, backend="banded")[0, 0]
    touched = output.isnan().any(-1).nonzero().flatten()
    # A block of queries shares its keys, so the promise is the block, not the frame.
    assert 200 in touched
    assert touched.min() >= 200 - 2 - 16 and touched.max() <= 200 + 4 + 16


def usable(backend: str, q: Tensor, k: Tensor, v: Tensor, context: Context, activation: str, bias: Any) -> None:
    """Skip what a backend cannot take."""
    qkv = QKV(q, k, v)
    call = check_call(qkv, context, None, activation, bias, None)
    if backend != "auto" and (reason := unsupported_reason(backend, qkv, call)):
        pytest.skip(f"{backend}: {reason}")


# Integers times a power of two: scores are exact in float32, so that rounding cannot choose another largest one, and
# many are equal. float16 ends at 65504, so its scores do at 1e6.
SIZES = [(torch.float32, size) for size in (-15, -5, 5, 15, 25)] + [(torch.float16, 12), (torch.bfloat16, 25)]
MODES = {
    "softmax": (Context.truncated(9, 20), "softmax", False),
    "chunks": (Context.chunked(8, 16, 3), "softmax", False),
    "bias": (Context.truncated(9, 20), "softmax", True),
    "relu": (Context.truncated(9, 20), "relu", True),
    "unlimited left side": (Context.causal(), "softmax", True),
    "unlimited sides": (Context.full(), "softmax", False),
}


@pytest.mark.parametrize("backend", ["dense", "banded", "native", "windows", "auto"])
@pytest.mark.parametrize(("dtype", "size"), SIZES)
@pytest.mark.parametrize("mode", MODES)
def test_gradients_are_within_rounding_for_scores_of_any_size(
    mode: str, dtype: torch.dtype, size: int, backend: str
) -> None:
    context, scores, with_bias = MODES[mode]
    torch.manual_seed(size)
    q, k = (torch.randint(-3, 4, (2, 2, 70, 16)).to(dtype) for _ in range(2))
    q = q * 2.0**size
    v, grad = (torch.randn(2, 2, 70, 16).to(dtype) for _ in range(2))
    bias = torch.randint(-3, 4, (2, len(context.offsets()))) * 2.0**size if with_bias else None
    usable(backend, q, k, v, context, scores, bias)
    lengths = torch.tensor([70, 41])
    wide = [x.double() for x in (q, k, v, grad)]
    expected = both(context, *wide[:3], lengths, None if bias is None else bias.double(), scores, wide[3])[0]  # type: ignore[arg-type, call-arg]
    found = both(context, q, k, v, lengths, bias, scores, grad, backend)[1]
    # Of the largest of all: where every score is one key's, a gradient is the rounding of sums that are 0.
    for x, y in zip(found, expected, strict=True):
        limit = 1e-5 * y.abs().max() + 2 * (dtype != torch.float32) * torch.finfo(dtype).eps * y.abs().max()
        assert (x - y).abs().max() <= limit


def hiding(context: Context, dtype: torch.dtype) -> Any:
    """A bias [2, offsets] that hides the frame itself and all before it, in the second head all."""
    bias = torch.linspace(-1, 1, 2 * len(context.offsets()), dtype=dtype).view(2, -1).clone()
    bias[0, [offset <= 0 for offset in context.offsets()]] = -torch.inf
    bias[1] = -torch.inf
    return bias


@pytest.mark.parametrize("backend", ["dense", "banded", "native", "windows", "auto"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ["softmax", "relu"])
@pytest.mark.parametrize("context", [Context.truncated(5, 3), Context.chunked(4, 3), Context.causal(4), Context.full()])
def test_a_frame_from_which_a_bias_hides_everything_gets_zeros(
    context: Context, activation: str, dtype: torch.dtype, backend: str
) -> None:
    q, k, v, grad = (torch.randn(3, 2, 70, 16).to(dtype) for _ in range(4))
    bias, lengths = hiding(context, dtype), torch.tensor([70, 1, 41])
    usable(backend, q, k, v, context, activation, bias)
    expected = both(context, *(x.double() for x in (q, k, v)), lengths, bias.double(), activation, grad.double())[0]  # type: ignore[arg-type, call-arg]
    found = both(context, q, k, v, lengths, bias, activation, grad, backend)[1]
    tolerance = {torch.float64: TOLERANCE, torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    for x, y in zip(found, expected, strict=True):
        assert (x - y).abs().max() <= tolerance * max(1, y.abs().max())
    sees = torch.tensor([any(j > i for j in range(*context.visible(i, 70))) for i in range(70)])  # type: ignore[arg-type]
    output, grad_q, _, _, grad_bias = found
    for x in (output, grad_q):
        assert (x[:, 1] == 0).all() and (x[0, 0, ~sees] == 0).all() and (x[1] == 0).all()
    assert (output[0, 0, sees] != 0).any() or context == Context.causal(4)
    assert (grad_bias[bias == -torch.inf] == 0).all()


@pytest.mark.parametrize("step", [dense_step, banded_step, native_step])
@pytest.mark.parametrize("activation", ["softmax", "relu"])
def test_a_stream_gives_zeros_where_a_bias_hides_everything(activation: str, step: Any) -> None:
    context = Context.chunked(4, 3, 2)
    q, k, v = torch.randn(3, 1, 2, 30, 16)
    bias = hiding(context, torch.float32)
    if step is native_step:
        usable("native", q, k, v, context, activation, bias)
    whole = attention(q, k, v, context, activation=activation, relative_bias=bias, backend="dense")
    call = AttentionCall(context, None, activation, bias, 0.25, query_start=8, key_start=5)
    found = step(QKV(q[:, :, 8:], k[:, :, 5:], v[:, :, 5:]), call)
    assert (found - whole[:, :, 8:]).abs().max() < 1e-5
    assert (found[:, 1] == 0).all() and (found[0, 0, -1] == 0).all() and (found != 0).any()
    weights = attention_weights(q, k, context, activation=activation, relative_bias=bias)
    assert (weights[:, 1] == 0).all() and (weights[0, 0, -1] == 0).all() and (weights != 0).any()


@pytest.mark.parametrize("backend", ["dense", "banded", "native", "windows"])
def test_the_lowest_finite_bias_hides_nothing(backend: str) -> None:
    context = Context.truncated(5, 3)
    q, k, v = torch.randn(3, 1, 2, 40, 16)
    bias = torch.full((2, 9), torch.finfo(torch.float32).min)
    usable(backend, q, k, v, context, "softmax", bias)
    output = attention(q, k, v, context, relative_bias=bias, backend=backend)
    for i in (0, 20, 39):  # beside such a bias every score is 0
        start, stop = context.visible(i, 40)
        assert (output[0, :, i] - v[0, :, start:stop].mean(1)).abs().max() < 1e-5


@pytest.mark.parametrize("backend", ["dense", "banded", "native", "windows"])
@pytest.mark.parametrize("value", [torch.inf, torch.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_bias_that_is_no_number_is_seen_in_the_output(dtype: torch.dtype, value: float, backend: str) -> None:
    context = Context.truncated(5, 3)
    q, k, v = torch.randn(3, 1, 1, 40, 16).to(dtype)
    bias = torch.zeros(1, 9)
    bias[0, 0] = value  # the key 5 frames before
    usable(backend, q, k, v, context, "softmax", bias)
    output = attention(q, k, v, context, relative_bias=bias, backend=backend)[0, 0]
    assert output[5:].isnan().all()
    assert backend != "dense" or output[:5].isfinite().all()


@pytest.mark.parametrize("backend", ["dense", "banded", "native", "windows", "auto"])
def test_a_gradient_of_the_padding_may_hold_nan(backend: str) -> None:
    q, k, v, grad = torch.randn(4, 2, 2, 30, 16)
    lengths = torch.tensor([30, 17])
    context = Context.truncated(5, 3)
    usable(backend, q, k, v, context, "softmax", None)
    clean = grad.clone()
    clean[1, :, 17:] = 0
    grad[1, :, 17:] = torch.nan
    expected: list[Tensor] = []
    found: list[Tensor] = []
    for incoming, results in ((clean, expected), (grad, found)):
        inputs = [x.clone().requires_grad_() for x in (q, k, v)]
        output = attend(*inputs, context, lengths=lengths, backend=backend)
        results += torch.autograd.grad(output, inputs, incoming)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("backend", "context"), [("windows", Context.truncated(9, 20)), ("sdpa", Context.full())])
def test_equal_scores_stay_equal_where_values_are_of_another_width(backend: str, context: Context) -> None:
    """torch multiplies q and k by the roots of the scale there, and equal scores of 1e5 differed by their rounding."""
    q, k = torch.randint(-3, 4, (2, 1, 2, 70, 16)).float() * 2.0**7
    v = torch.randn(1, 2, 70, 8)
    found = attention(q, k, v, context, scale=0.5, backend=backend)
    expected = attention(q.double(), k.double(), v.double(), context, scale=0.5, backend="dense")
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)
