"""windows, flex and triton == dense, as far as a machine without a GPU can tell, and with a GPU where there is one.

windows runs anywhere. flex is called uncompiled, and its lists of blocks are compared with a mask. triton's kernels
run in triton's interpreter, in a process of its own, since triton asks for it when it is imported.

Tolerances of the largest value: 1e-10 in float64 (another order of the same sums), 2e-5 in float32, and 1e-2 and 4e-2
for the 11 and 8 digits of float16 and bfloat16.
"""

import os
import random
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from speechattn import heuristics
from speechattn.attention.call import AttentionCall
from speechattn.attention.cuda import flex, sdpa_windows, triton
from speechattn.attention.cuda.flex import flex_attention, flex_unsupported_reason
from speechattn.attention.cuda.key_ranges import key_range_table
from speechattn.attention.cuda.sdpa_windows import windowed_attention, windows_unsupported_reason
from speechattn.attention.cuda.triton import triton_attention, triton_unsupported_reason
from speechattn.attention.dense import dense_attention
from speechattn.attention.dispatch import unsupported_reason
from speechattn.attention.functional import attention
from speechattn.attention.masks import context_mask
from speechattn.attention.qkv import QKV, unpack
from speechattn.context import Context

TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.float16: 1e-2, torch.bfloat16: 4e-2}
CONTEXTS = [
    Context.truncated(0, 0),
    Context.truncated(3, 5),
    Context.truncated(40, 20),
    Context.truncated(300, 10),
    Context.truncated(10**10, 2),
    Context.causal(17),
    Context.chunked(4, 7, 3),
    Context.chunked(64, 128, 32),
    Context.chunked(7, 0, 30),
    Context.chunked(150, 7, 3),
]
WINDOW = Context.truncated(9, 4)


def results(
    function: Any,
    packed: Tensor,
    context: Context,
    lengths: Any = None,
    bias: Any = None,
    activation: str = "softmax",
    grad: Tensor | None = None,
) -> Any:
    """Output and the gradients of packed queries, keys and values [B, T, 3, H, D] and of the bias."""
    leaf, table = packed.detach().requires_grad_(), None if bias is None else bias.detach().requires_grad_()
    output = function(unpack(leaf), AttentionCall(context, lengths, activation, table, packed.shape[-1] ** -0.5))
    wanted = [leaf] if table is None else [leaf, table]
    return output.detach(), *torch.autograd.grad(output, wanted, torch.ones_like(output) if grad is None else grad)


def assert_equal_to_dense(
    function: Any, packed: Tensor, context: Context, lengths: Any = None, bias: Any = None, activation: str = "softmax"
) -> None:
    """NaN in the padding, and in the gradient that comes in there, is for `function` alone."""
    batch, frames, _, heads, dim = packed.shape
    grad = torch.randn(batch, heads, frames, dim, device=packed.device).to(packed.dtype)
    wide = None if bias is None else bias.double()
    expected = results(dense_attention, packed.double(), context, lengths, wide, activation, grad.double())
    if lengths is not None:
        padded = torch.arange(frames, device=packed.device) >= lengths[:, None]
        packed = packed.masked_fill(padded[:, :, None, None, None], torch.nan)
        grad = grad.masked_fill(padded[:, None, :, None], torch.nan)
    found = results(function, packed, context, lengths, bias, activation, grad)
    largest = max(float(x.abs().max()) for x in expected)  # of all: a gradient whose terms cancel is as wrong as they
    for dense, other in zip(expected, found, strict=True):
        assert dense.shape == other.shape
        assert (dense - other).abs().max() <= TOLERANCE[packed.dtype] * max(largest, 1e-3)
    if lengths is not None:
        assert torch.all(found[0].transpose(1, 2)[padded] == 0) and torch.all(found[1][padded] == 0)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("context", CONTEXTS, ids=str)
def test_windows_equal_dense(context: Context, with_bias: bool) -> None:
    for num_frames in (1, 2, 33, 97, 400):
        packed = torch.randn(3, num_frames, 3, 2, 8, dtype=torch.float64)
        lengths = torch.tensor([num_frames, num_frames // 2, max(0, num_frames - 1)])
        if with_bias and context.left == 10**10:
            continue
        bias = torch.randn(2, len(context.offsets()), dtype=torch.float64) if with_bias else None
        assert_equal_to_dense(windowed_attention, packed, context, lengths, bias)
        assert_equal_to_dense(windowed_attention, packed[:1], context, None, bias)


def test_windows_in_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdpa_windows, "FEW_WINDOWS", 0)
    packed, lengths = torch.randn(3, 500, 3, 2, 8, dtype=torch.float64), torch.tensor([500, 33, 411])
    for batch_bytes in (1, 100_000):
        monkeypatch.setattr(heuristics, "WINDOWS_BYTES", batch_bytes)
        for context in (WINDOW, Context.truncated(64, 64), Context.chunked(32, 40, 7)):
            bias = torch.randn(2, len(context.offsets()), dtype=torch.float64)
            assert_equal_to_dense(windowed_attention, packed, context, lengths, bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_windows_in_every_precision(dtype: torch.dtype) -> None:
    packed, lengths = torch.randn(2, 300, 3, 2, 16).to(dtype), torch.tensor([300, 77])
    assert_equal_to_dense(windowed_attention, packed, WINDOW, lengths)
    assert_equal_to_dense(windowed_attention, packed, Context.chunked(32, 64), lengths, torch.randn(2, 127))


def test_windows_of_nothing() -> None:
    for shape in ((0, 2, 5, 8), (2, 2, 0, 8)):
        empty = torch.zeros(shape, requires_grad=True)
        output = windowed_attention(QKV(empty, empty, empty), AttentionCall(WINDOW))
        assert output.shape == shape and torch.autograd.grad(output.sum(), empty)[0].shape == shape


def test_windows_are_differentiated_once() -> None:
    leaf = torch.randn(1, 1, 20, 8, requires_grad=True)
    output = windowed_attention(QKV(leaf, leaf, leaf), AttentionCall(WINDOW))
    with pytest.raises(RuntimeError, match="use backend='dense'"):
        torch.autograd.grad(output.sum(), leaf, create_graph=True)


def test_key_ranges_are_those_of_the_context() -> None:
    for context in (*CONTEXTS, Context.causal(), Context(None, 3, 4), Context(5, None, 3), Context.full()):
        for block in (32, 64, 128):
            found = key_range_table(context, 200, block, torch.device("cpu"))
            size = len(found.low)
            mask = context_mask(context, size)
            for i in (0, 1, 63, 64, 199, 700, size - 1):
                assert (int(found.low[i]), int(found.high[i])) == context.visible(i, size)
            for n in range(size // block):
                seen = mask[:, n * block : (n + 1) * block]
                some, every = seen.any(1).nonzero().flatten(), seen.all(1).nonzero().flatten()
                assert (int(found.some_first[n]), int(found.some_stop[n])) == (int(some[0]), int(some[-1]) + 1)
                assert len(some) == found.some_stop[n] - found.some_first[n] <= found.queries
                assert len(every) == max(0, found.every_stop[n] - found.every_first[n])
                assert len(every) == 0 or every[0] == found.every_first[n]
                # All that a block of queries sees lies within `keys` frames from `reach` before it on.
                rows = mask[n * block : (n + 1) * block].any(0).nonzero().flatten()
                assert rows[0] >= n * block - found.reach and rows[-1] < n * block - found.reach + found.keys


def expanded(number: Any, listed: Any, blocks: Any) -> Any:
    """Bool [B, blocks, blocks] of a pair of lists, each of whose entries must be there once."""
    counts = torch.zeros(len(number), blocks, blocks, dtype=torch.int64)
    for row in range(len(number)):
        for i in range(blocks):
            for j in listed[row, 0, i, : number[row, 0, i]].tolist():
                counts[row, i, j] += 1
    assert counts.max() <= 1
    return counts.bool()


def test_flex_lists_every_block_that_is_needed_and_calls_whole_what_is() -> None:
    draw = random.Random(0)
    for _ in range(40):
        left, right = draw.choice([0, 3, 64, 300, 10**6]), draw.choice([0, 3, 64, 300])
        context = Context(left, right, draw.choice([1, 3, 16, 64, 150]))
        frames = draw.choice([1, 129, 300, 640])
        lengths = torch.tensor([draw.randint(0, frames), frames])
        found = flex.block_mask(context, frames, lengths)
        blocks = -(-frames // 128)
        valid = torch.arange(blocks * 128) < lengths[:, None]
        mask = (context_mask(context, blocks * 128) & valid[:, None]).view(2, blocks, 128, blocks, 128)
        queries = valid.view(2, blocks, 128, 1, 1)
        partial = expanded(found.kv_num_blocks, found.kv_indices, blocks)
        whole = expanded(found.full_kv_num_blocks, found.full_kv_indices, blocks)
        assert not (partial & whole).any()
        assert torch.equal(partial | whole, (mask & queries).any(4).any(2))
        assert not (whole & ~(mask | ~queries).all(4).all(2)).any()
        assert torch.equal(expanded(found.q_num_blocks, found.q_indices, blocks), partial.mT)
        assert torch.equal(expanded(found.full_q_num_blocks, found.full_q_indices, blocks), whole.mT)


def test_flex_lists_are_linear_in_the_number_of_frames() -> None:
    mask = flex.block_mask(Context.truncated(64, 64), 2**20, torch.tensor([2**20]))
    assert mask.kv_indices.shape == mask.full_kv_indices.shape == (1, 1, 2**13, 3)  # type: ignore[union-attr]
    assert mask.q_indices.shape[:3] == (1, 1, 2**13) and mask.q_indices.shape[3] <= 4  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore")  # torch warns that it is not compiled
@pytest.mark.parametrize("with_bias", [False, True, "hiding all that is not later"])
def test_flex_equals_dense(monkeypatch: pytest.MonkeyPatch, with_bias: bool) -> Any:
    from torch.nn.attention import flex_attention as torch_flex

    # torch refuses gradients on a CPU, where the compiled function has none; this one has.
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *tensors: None)

    def function(qkv: Any, call: Any) -> Any:
        return flex.attend_by(torch_flex.flex_attention, qkv, call)

    context = Context.chunked(3, 64, 5) if with_bias else Context.truncated(64, 3)
    bias = torch.randn(2, len(context.offsets())) if with_bias else None
    if isinstance(with_bias, str):
        bias[:, :67] = -torch.inf
    packed = torch.randn(2, 200, 3, 2, 16)
    assert_equal_to_dense(function, packed, context, torch.tensor([200, 61]), bias)
    assert_equal_to_dense(function, packed, context, None, bias)


TRITON = """
import os
import random
import sys

import torch
from triton.runtime import interpreter

# Triton 3.6 turns an array of one number into an int, which numpy 2.4 refuses.
patch = interpreter._patch_lang_tensor


def patched(tensor, scope):
    patch(tensor, scope)
    scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())


interpreter._patch_lang_tensor = patched
sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
from test_cuda_backends import assert_equal_to_dense
from speechattn.attention.call import AttentionCall
from speechattn.attention.cuda.triton import triton_attention, triton_unsupported_reason
from speechattn.attention.qkv import QKV
from speechattn.context import Context

torch.set_num_threads(1)
for case in map(int, sys.argv[2:]):
    draw = random.Random(case)
    torch.manual_seed(case)
    sides = [draw.choice([None, 0, 3, 20, 64, 70]) for _ in range(2)]
    context = Context(*sides, draw.choice([1, 1, 3, 16, 70]))
    frames, dim, dtype = draw.choice([1, 33, 64, 100]), draw.choice([16, 32, 24, 8]), torch.float32
    if case % 6 == 5:
        frames, dtype = 100, torch.float16
    if case == 7:
        dim = 128
    packed = torch.randn(2, frames, 3, 2, dim).to(dtype)
    lengths = torch.tensor([draw.randint(0, frames), frames]) if case % 3 else None
    bias = torch.randn(2, len(context.offsets(*[frames] * (case % 4 == 1)))) if case % 2 else None
    scores = "relu" if case % 5 == 4 else "softmax"
    assert_equal_to_dense(triton_attention, packed, context, lengths, bias, scores)

for size in (5, 25):  # exact scores, many of them equal
    packed, bias = torch.randint(-3, 4, (1, 40, 3, 1, 16)).float(), torch.randint(-3, 4, (1, 13)) * 2.0**size
    packed[:, :, 0] *= 2.0**size
    assert_equal_to_dense(triton_attention, packed, Context(4, 8), None, bias)
for scores in ("softmax", "relu"):  # the frame itself and all before it are hidden
    bias = torch.randn(1, 13).index_fill(1, torch.arange(5), -torch.inf)
    assert_equal_to_dense(triton_attention, torch.randn(1, 40, 3, 1, 16), Context(4, 8), None, bias, scores)

x = torch.randn(1, 1, 40, 16, requires_grad=True)
call = AttentionCall(Context(3, 2))
assert triton_unsupported_reason(QKV(x, x, x), call) is None
assert "bfloat16" in triton_unsupported_reason(QKV(*[x.bfloat16()] * 3), call)
output = triton_attention(QKV(x, x, x), call)
assert output.transpose(1, 2).is_contiguous()
torch.autograd.grad(output, x, torch.tensor(0.3).expand(1, 1, 40, 16), retain_graph=True)
empty = torch.zeros(2, 2, 0, 16, requires_grad=True)
torch.autograd.grad(triton_attention(QKV(empty, empty, empty), call).sum(), empty)
try:
    torch.autograd.grad(output.sum(), x, create_graph=True)
except RuntimeError as error:
    print(error)
"""


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param((1, 3, 4, 7, 8, 9, 11, 14), id="each kind"),  # of lengths, bias, widths, relu and half precision
        pytest.param(range(24), id="many", marks=pytest.mark.slow),
    ],
)
def test_triton_equals_dense(cases: Any) -> None:
    pytest.importorskip("triton", "3.3")  # the interpreter of 3.2 does not run with the torch that brings it
    command = [sys.executable, "-c", TRITON, os.path.dirname(__file__), *map(str, cases)]
    ran = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1"})
    assert ran.returncode == 0, ran.stderr
    assert "use backend='dense'" in ran.stdout


def reasons(
    dim: int = 16,
    width: int = 16,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    context: Context = WINDOW,
    activation: str = "softmax",
    bias: Any = None,
) -> Any:
    q = torch.empty(1, 2, 300, dim, dtype=dtype, device=device)
    qkv = QKV(q, q, torch.empty(1, 2, 300, width, dtype=dtype, device=device))
    call = AttentionCall(context, activation=activation, bias=bias)
    return tuple(unsupported_reason(backend, qkv, call) for backend in ("windows", "flex", "triton"))


def test_what_cannot_be_taken_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    by_windows, by_flex, by_triton = reasons()
    assert by_windows is None
    assert by_flex == "flex_attention needs a CUDA device, not compiled it allocates T x T; got cpu"
    assert by_triton in ("it runs on a CUDA device, got cpu", "triton is not installed")
    assert reasons(activation="relu")[0] == "torch's fused kernels weight by softmax, got 'relu'"
    assert reasons(context=Context.causal())[0] == "both sides need a limit, got left all, right 0"
    monkeypatch.setattr(sdpa_windows, "MAX_WINDOW", 13)
    assert reasons()[0] == "a frame may see 13 frames together with its chunk, got 14"
    if by_triton != "triton is not installed":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        assert reasons()[2] is None and reasons(activation="relu")[2] is None
        assert "got float64" in reasons(dtype=torch.float64)[2]
        assert "up to 128 features, got 129" in reasons(width=129)[2]
        monkeypatch.setattr(triton, "MAX_SUMMED_WINDOW", 13)
        bias = torch.zeros(2, 14, requires_grad=True)
        assert "summed over windows up to 13 frames, got 14" in reasons(bias=bias)[2]
        assert reasons(bias=bias.detach())[2] is None


@pytest.mark.filterwarnings("ignore")  # torch.jit is deprecated
@pytest.mark.parametrize("backend", ["windows", "flex", "triton"])
def test_torch_jit_trace_is_refused_with_the_reason(backend: str) -> None:
    q = torch.randn(1, 1, 40, 16)
    with pytest.raises(ValueError, match=r"cannot take this call: torch\.jit\.trace cannot record it\. Use 'auto'"):
        torch.jit.trace(lambda x: attention(x, x, x, WINDOW, backend=backend), q)  # type: ignore[no-untyped-call]


BACKENDS = [
    pytest.param(windowed_attention, windows_unsupported_reason, id="windows"),
    pytest.param(flex_attention, flex_unsupported_reason, id="flex"),
    pytest.param(triton_attention, triton_unsupported_reason, id="triton"),
]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.filterwarnings("ignore")  # torch's compiler has advice
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("function", "reason"), BACKENDS)
def test_on_a_gpu_each_equals_dense(function: Any, reason: Any, dtype: torch.dtype, with_bias: bool) -> None:
    for context in (Context.truncated(64, 64), Context.truncated(128, 0), Context.chunked(64, 128, 32), WINDOW):
        packed = torch.randn(3, 1000, 3, 4, 64, device="cuda").to(dtype)
        lengths = torch.tensor([1000, 0, 333], device="cuda")
        bias = torch.randn(4, len(context.offsets()), device="cuda") if with_bias else None
        assert reason(unpack(packed), AttentionCall(context, bias=bias)) is None
        assert_equal_to_dense(function, packed, context, lengths, bias)
        assert_equal_to_dense(function, packed[:1], context, None, bias)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("function", "reason"), BACKENDS)
def test_on_a_gpu_memory_is_linear_up_to_a_million_frames(function: Any, reason: Any) -> None:
    peaks = []
    for frames in (2**18, 2**20):
        packed = torch.randn(1, frames, 3, 4, 64, device="cuda", dtype=torch.bfloat16)
        before = torch.cuda.memory_allocated()
        for _ in range(2):  # the first compiles
            torch.cuda.reset_peak_memory_stats()
            results(function, packed, Context.truncated(64, 64))
        peaks.append(torch.cuda.max_memory_allocated() - before)
        del packed
    tensor = 2**20 * 4 * 64 * 2  # bytes of the queries alone
    assert peaks[1] <= 4.2 * peaks[0] + 2**28
    assert peaks[1] <= 12 * tensor
