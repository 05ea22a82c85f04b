"""native == dense, outputs and every gradient; what it cannot take; and that nothing needs it.

Tolerance 1e-5 of the largest value against dense in float64: native computes in float32, where sums of some hundred
products are off by a few units of 6e-8; a wrong algorithm is off by far more.
"""

import os
import random as random_numbers
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rounding import assert_same
from torch import Tensor

from speechattn.attention.banded.attention import banded_step
from speechattn.attention.call import AttentionCall
from speechattn.attention.functional import attention
from speechattn.attention.native import attention as native
from speechattn.attention.native import launch
from speechattn.attention.native.attention import native_step, native_unavailable, native_unsupported_reason
from speechattn.attention.native.jit_cache import cache_folder
from speechattn.attention.qkv import QKV
from speechattn.context import Context
from speechattn.encoder.self_attention import SelfAttention

attend: Any = attention  # mypy does not count what a star unpacks
TOLERANCE = 1e-5
CONTEXTS = [
    Context.truncated(0, 0),
    Context.truncated(3, 5),
    Context.truncated(0, 9),
    Context.truncated(40, 20),
    Context.truncated(300, 10),
    Context.truncated(10**10, 2),
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
WINDOW = Context.truncated(9, 4)
needs_native = pytest.mark.skipif(native_unavailable() is not None, reason=f"not native: {native_unavailable()}")


def random(*shape: Any) -> Any:
    return torch.randn(*shape)


def results(
    context: Context,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    grad: Tensor,
    lengths: Any = None,
    bias: Any = None,
    activation: str = "softmax",
    backend: str = "native",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """Output and the gradients of q, k, v and the bias."""
    leaves = [x.detach().to(dtype).requires_grad_() for x in (q, k, v, *([] if bias is None else [bias]))]
    table = None if bias is None else leaves[3]
    output = attend(*leaves[:3], context, lengths=lengths, activation=activation, relative_bias=table, backend=backend)
    return output.detach(), *torch.autograd.grad(output, leaves, grad.to(dtype))


def assert_equal_to_dense(*args: Any, reference: Any = "dense", **kwargs: Any) -> None:
    expected = results(*args, **kwargs, backend=reference, dtype=torch.float64)  # type: ignore[misc]
    found = results(*args, **kwargs)
    # The largest of all of them: a gradient whose terms cancel is as wrong as its terms are.
    largest = max((float(x.abs().max()) for x in expected if x.numel()), default=0.0)
    for name, dense, other in zip(("output", "q", "k", "v", "bias"), expected, found, strict=False):
        assert dense.shape == other.shape and other.dtype == torch.float32
        if dense.numel():
            assert (dense - other).abs().max() <= TOLERANCE * largest, name


def inputs(num_frames: int, dim: int = 16, batch: int = 3, heads: int = 2) -> Any:
    """Queries, keys and values as a projection leaves them, a gradient, and ragged lengths."""
    q, k, v = random(batch, num_frames, 3, heads, dim).permute(2, 0, 3, 1, 4)
    lengths = torch.tensor([num_frames, num_frames // 2, max(0, num_frames - 1)][:batch])
    return q, k, v, random(batch, heads, num_frames, dim), lengths


@needs_native
@pytest.mark.parametrize(("activation", "with_bias"), [("softmax", False), ("softmax", True), ("relu", True)])
@pytest.mark.parametrize("context", CONTEXTS, ids=str)
def test_native_equals_dense(context: Context, with_bias: bool, activation: str) -> None:
    for num_frames in (0, 1, 2, 33, 97, 300):
        *tensors, lengths = inputs(num_frames)
        bias = random(2, len(context.offsets())) if with_bias and len(context.offsets()) < 10**6 else None
        assert_equal_to_dense(context, *tensors, lengths=lengths, bias=bias, activation=activation)


@needs_native
@pytest.mark.parametrize(("dim", "width"), [(8, 8), (24, 40), (32, 32), (64, 64), (64, 16), (80, 112), (128, 128)])
def test_any_width_that_is_a_multiple_of_the_lanes(dim: int, width: int) -> None:
    q, k, v = random(2, 2, 90, dim), random(2, 2, 90, dim), random(2, 2, 90, width)
    bias = random(2, len(WINDOW.offsets()))
    assert_equal_to_dense(WINDOW, q, k, v, random(2, 2, 90, width), bias=bias, lengths=torch.tensor([90, 61]))


limited = st.builds(Context, st.integers(0, 40), st.integers(0, 40), st.integers(1, 40))
unlimited = st.builds(Context, st.none() | st.integers(0, 9), st.none() | st.integers(0, 9), st.integers(1, 9))


@needs_native
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    context=limited | unlimited,
    lengths=st.lists(st.integers(0, 120), min_size=1, max_size=3),
    with_bias=st.booleans(),
    part=st.sampled_from([16, 512]),
    seed=st.integers(0, 2**31),
)
def test_any_context_and_any_lengths(
    context: Context, lengths: Any, with_bias: bool, part: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "PART_FRAMES", part)  # so that 120 frames are many tasks
    torch.manual_seed(seed)
    q, k, v, grad = (random(len(lengths), 2, max(lengths), 16) for _ in range(4))
    bias = random(2, len(context.offsets())) if with_bias else None
    assert_equal_to_dense(context, q, k, v, grad, lengths=torch.tensor(lengths), bias=bias)


@needs_native
@pytest.mark.parametrize(
    "context", [Context.truncated(64, 64), Context.truncated(128, 0), Context.chunked(64, 128, 32), Context.causal()]
)
def test_several_thousand_frames(context: Context) -> None:
    q, k, v, grad, _ = inputs(3001, batch=1)
    bias = None if context.left is None else random(2, len(context.offsets()))
    assert_equal_to_dense(context, q, k, v, grad, bias=bias, reference="banded")


@needs_native
@pytest.mark.parametrize("context", [WINDOW, Context.chunked(8, 5, 3), Context.causal()], ids=str)
@pytest.mark.parametrize("value", [1e30, float("nan"), -float("inf")])
def test_what_the_padding_holds_changes_nothing(context: Context, value: float) -> None:
    lengths = torch.tensor([70, 0, 41])
    clean, grad = random(3, 3, 2, 70, 16), random(3, 2, 70, 16)
    padded = (torch.arange(70) >= lengths[:, None])[:, None, :, None]
    first = results(context, *clean, grad, lengths=lengths)  # type: ignore[call-arg, misc]
    # The gradient that comes in at the padding is arbitrary as well.
    second = results(context, *clean.masked_fill(padded, value), grad.masked_fill(padded, value), lengths=lengths)  # type: ignore[call-arg, misc]
    for x, y in zip(first, second, strict=True):
        assert_same(x, y)
        assert torch.all(y.masked_select(padded) == 0)


@needs_native
def test_the_weights_reach_exactly_the_declared_window() -> None:
    num_frames = 96
    q, k = random(2, 1, 2, num_frames, 16)
    identity = torch.eye(num_frames).expand(1, 2, -1, -1)
    for context in (WINDOW, Context.chunked(8, 5, 3), Context(None, 2, 3)):
        weights = attention(q, k, identity, context, backend="native")[0]
        for i in range(num_frames):
            start, stop = context.visible(i, num_frames)
            assert torch.all(weights[:, i, start:stop] > 0)
            assert torch.all(weights[:, i, :start] == 0) and torch.all(weights[:, i, stop:] == 0)


@needs_native
def test_nan_and_huge_scores_do_what_they_do_in_dense() -> None:
    q, k, v = random(3, 1, 1, 400, 16)
    # Scores in the thousands are rounded to 1e-4, and their weights with them.
    huge = attention(300 * q, k, v, WINDOW, backend="native")
    reference = attention(300 * q.double(), k.double(), v.double(), WINDOW, backend="dense")
    assert (huge - reference).abs().max() <= 1e-3 * v.abs().max()
    k[0, 0, 200] = float("nan")
    found = attention(q, k, v, WINDOW, backend="native")[0, 0].isnan().any(-1)
    assert torch.equal(found, attention(q, k, v, WINDOW, backend="dense")[0, 0].isnan().any(-1))
    k[0, 0, 200], v[0, 0, 200] = 0, float("nan")
    touched = attention(q, k, v, WINDOW, backend="native")[0, 0].isnan().any(-1).nonzero().flatten()
    # Eight queries share their keys, so the promise is the block, not the frame.
    assert 200 in touched and touched.min() >= 200 - 4 - 16 and touched.max() <= 200 + 9 + 16


@needs_native
def test_threads_change_nothing_but_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "ONE_THREAD", 0)
    monkeypatch.setattr(launch, "PART_FRAMES", 32)
    bias, before = random(2, len(WINDOW.offsets())), torch.get_num_threads()
    *tensors, lengths = inputs(900)
    try:
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(results(WINDOW, *tensors, lengths=lengths, bias=bias))  # type: ignore[misc]
    finally:
        torch.set_num_threads(before)
    assert_same(*found)
    assert_equal_to_dense(WINDOW, *tensors, lengths=lengths, bias=bias)


@needs_native
@pytest.mark.parametrize(
    "context", [WINDOW, Context.chunked(8, 5, 30), Context.truncated(70, 0), Context.full()], ids=str
)
def test_whatever_its_memory_held_before_is_overwritten(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "empty_float32", lambda *shape: torch.full(shape, float("nan")))
    monkeypatch.setattr(launch, "PART_FRAMES", 32)  # many parts that share keys: each key is cleared exactly once
    *tensors, lengths = inputs(333)
    assert_equal_to_dense(context, *tensors, lengths=lengths)


@needs_native
def test_vectors_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHATTN_NATIVE", "avx2")
    assert launch.vector_lanes(64, 64) == 8
    for context in (WINDOW, Context.chunked(16, 64), Context.truncated(64, 64), Context.causal()):
        for num_frames, dim in ((3, 16), (97, 64), (300, 8)):
            *tensors, lengths = inputs(num_frames, dim)
            bias = random(2, len(context.offsets()))
            assert_equal_to_dense(context, *tensors, lengths=lengths, bias=bias)


@needs_native
def test_any_strides_and_expanded_gradients() -> None:
    wide = random(2, 2, 60, 16, 2)
    for q in (wide[..., 1], wide[..., 0].transpose(0, 1), random(1, 1, 60, 16).expand(2, 2, 60, 16)):
        assert_equal_to_dense(WINDOW, q, q, q, random(2, 2, 60, 16))
    assert_equal_to_dense(WINDOW, q, q, q, torch.tensor(0.3).expand(2, 2, 60, 16))
    assert_equal_to_dense(WINDOW, q, q, q, random(2, 2, 60, 1).expand(2, 2, 60, 16))


@needs_native
def test_empty_batches() -> None:
    for shape in ((0, 2, 5, 16), (2, 0, 5, 16), (0, 2, 0, 16)):
        found = results(WINDOW, *(torch.zeros(shape) for _ in range(4)))  # type: ignore[arg-type]
        assert all(x.shape == shape for x in found)


@needs_native
@pytest.mark.parametrize("position_encoding", ["none", "relative", "alibi"])
def test_compiled_by_torch_it_gives_the_same(position_encoding: str) -> None:
    layer = SelfAttention(32, 2, WINDOW, position_encoding=position_encoding)
    frames, lengths = random(2, 50, 32), torch.tensor([50, 31])
    found = []
    for call in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
        layer.zero_grad()
        output = call(frames, lengths, backend="native")
        output.square().sum().backward()
        found.append([output.detach(), *(weight.grad.clone() for weight in layer.parameters())])  # type: ignore[union-attr]
    assert all(torch.allclose(x, y, atol=1e-6) for x, y in zip(*found, strict=True))


@needs_native
def test_torch_finds_the_operator_well_made() -> None:
    q, k, v = (random(1, 2, 20, 16).requires_grad_() for _ in range(3))
    bias = random(2, len(WINDOW.offsets())).requires_grad_()
    call = (torch.tensor([17]), bias, WINDOW.left, WINDOW.right, WINDOW.chunk, "softmax", 0.25)
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.speechattn.native, ([q, k, v], *call), test_utils=checks)


@needs_native
def test_double_backward_is_refused_rather_than_wrong() -> None:
    leaf = random(1, 1, 20, 16).requires_grad_()
    output = attention(leaf, leaf, leaf, WINDOW, backend="native")
    with pytest.raises(RuntimeError, match="use backend='dense'"):
        torch.autograd.grad(output.sum(), leaf, create_graph=True)


@needs_native
def test_heads_side_by_side_are_a_view() -> None:
    q, k, v = random(3, 2, 4, 64, 16)
    output = attention(q, k, v, WINDOW, backend="native")
    assert output.transpose(1, 2).flatten(2).data_ptr() == output.data_ptr()


@needs_native
def test_a_layer_takes_it_when_asked() -> None:
    layer, x = SelfAttention(32, 2, WINDOW, "relative"), random(2, 70, 32)
    assert (layer(x, backend="native") - layer(x, backend="banded")).abs().max() < 1e-5


@needs_native
@pytest.mark.parametrize(
    ("shape", "dtype", "device", "reason"),
    [
        ((1, 2, 9, 12), torch.float32, "cpu", "multiple of 8, got 12"),
        ((1, 2, 9, 16), torch.float64, "cpu", "float32, got float64"),
        ((1, 2, 9, 16), torch.float32, "meta", "on the CPU, got meta"),
    ],
)
def test_what_it_cannot_take_is_refused_with_the_reason(
    shape: Any, dtype: torch.dtype, device: str, reason: str
) -> None:
    q = torch.randn(shape, dtype=dtype, device=device)
    assert reason in native_unsupported_reason(QKV(q, q, q), AttentionCall(WINDOW))  # type: ignore[operator]
    if device == "cpu":
        with pytest.raises(ValueError, match=f"backend='native' cannot take this call: .*{reason}. Use 'auto'"):
            attention(q, q, q, WINDOW, backend="native")


def test_the_environment_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHATTN_NATIVE", "0")
    q, k, v = random(3, 1, 2, 40, 16)
    assert native_unavailable() == "SPEECHATTN_NATIVE=0 is set"
    assert_same(attention(q, k, v, WINDOW), attention(q, k, v, WINDOW, backend="banded"))
    with pytest.raises(ValueError, match="SPEECHATTN_NATIVE=0 is set"):
        attention(q, k, v, WINDOW, backend="native")


def test_a_folder_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPEECHATTN_CACHE", str(tmp_path / "file"))
    assert cache_folder() == ""
    monkeypatch.setenv("SPEECHATTN_CACHE", str(tmp_path / "mine"))
    assert cache_folder().startswith(str(tmp_path / "mine" / "native"))


WITHOUT_NUMBA = """
import sys
from dataclasses import replace
import torch
from speechattn.attention import functional
from speechattn import Context
assert "numba" not in sys.modules and "llvmlite" not in sys.modules
sys.modules["numba"] = None
q = torch.randn(1, 2, 40, 16)
context = Context.truncated(3, 2)
banded = functional.attention(q, q, q, context, backend="banded")
assert torch.allclose(functional.attention(q, q, q, context), banded, atol=1e-6)
try:
    functional.attention(q, q, q, context, backend="native")
except ValueError as error:
    print(error)
"""


def test_without_numba_only_native_is_refused() -> None:
    ran = subprocess.run([sys.executable, "-c", WITHOUT_NUMBA], capture_output=True, text=True, env=dict(os.environ))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("backend='native' cannot take this call: ")
    assert native_unavailable() is not None or "numba is not installed: pip install numba" in ran.stdout


@needs_native
@pytest.mark.parametrize("activation", ["softmax", "relu"])
@pytest.mark.parametrize("context", [c for c in CONTEXTS if c.right is not None], ids=str)
def test_steps_of_a_stream_are_those_of_banded(context: Context, activation: str) -> None:
    generator = random_numbers.Random(0)
    for _ in range(12):
        query_start = generator.randrange(60) * context.chunk
        start, _ = context.span(query_start)
        key_start = 0 if start is None else max(0, start)
        n = generator.randrange(70)
        _, stop = context.span(max(query_start, query_start + n - 1))
        keys = query_start + n + generator.randrange(stop - query_start - n + 9) - key_start  # type: ignore[operator]
        q, k, v = random(2, 2, n, 16), random(2, 2, keys, 16), random(2, 2, keys, 16)
        bias = random(2, len(context.offsets(key_start + keys))) if context.window != 10**10 + 3 else None
        call = AttentionCall(context, None, activation, bias, 0.25, query_start, key_start)
        wide = call._replace(bias=None if bias is None else bias.double())
        expected = banded_step(QKV(q.double(), k.double(), v.double()), wide)
        found = native_step(QKV(q, k, v), call)
        assert found.shape == expected.shape
        assert found.numel() == 0 or (found - expected).abs().max() <= TOLERANCE * expected.abs().max()
