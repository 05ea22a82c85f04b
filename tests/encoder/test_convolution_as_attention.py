"""A convolution is local attention: exactly, for any kernel, at the edges, in padded batches, and the way back.

1e-10 in float64 proves the construction; 1e-5 in float32 is rounding, of two sums in another order.
"""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import pad

from speechattn.attention.functional import attention_weights
from speechattn.context import Context
from speechattn.encoder.convolution_as_attention import attention_from_convolution, convolution_from_attention
from speechattn.encoder.self_attention import SelfAttention
from speechattn.errors import UserError
from speechattn.system.optional_imports import require_torchaudio

KERNELS = [
    {"kernel_size": 1},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 7, "padding": "same"},
    {"kernel_size": 4, "padding": 2},
    {"kernel_size": 5, "padding": 4},
    {"kernel_size": 6, "padding": 0},
    {"kernel_size": 3, "padding": 4, "dilation": 4},
    {"kernel_size": 5, "padding": 2, "bias": False},
    {"kernel_size": 3, "padding": 1, "padding_mode": "replicate"},
    {"kernel_size": 8, "padding": 6, "padding_mode": "replicate"},
]


def convolution(
    in_channels: Any = 3, out_channels: Any = 3, dtype: torch.dtype = torch.float64, **kernel: Any
) -> nn.Conv1d:
    return nn.Conv1d(in_channels, out_channels, dtype=dtype, **kernel)


@torch.no_grad()
def alone(conv: nn.Conv1d, frames: torch.Tensor, left: int) -> torch.Tensor:
    """The convolution of frames [T, C] written as a sum over taps: frame t + offset, or what stands past the ends."""
    taps = torch.arange(conv.kernel_size[0]) * conv.dilation[0] - left
    output = torch.zeros(len(frames), conv.out_channels, dtype=frames.dtype)
    for tap, offset in enumerate(taps.tolist()):
        kernel = torch.block_diag(*conv.weight[:, :, tap].chunk(conv.groups))  # type: ignore[no-untyped-call]
        for t in range(len(frames)):
            at = t + offset
            if conv.padding_mode == "replicate":
                at = min(max(at, 0), len(frames) - 1)
            if 0 <= at < len(frames):
                output[t] += kernel @ frames[at]
    return output if conv.bias is None else output + conv.bias


def left_of(conv: nn.Conv1d) -> int:
    return (conv.kernel_size[0] - 1) // 2 if conv.padding == "same" else conv.padding[0]  # type: ignore[return-value]


@pytest.mark.parametrize("num_frames", [0, 1, 2, 30])
@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_every_frame_of_a_convolution_is_an_output_of_attention(kernel: Any, num_frames: int) -> None:
    conv = convolution(**kernel)
    frames = torch.randn(2, num_frames, 3, dtype=torch.float64)
    output = attention_from_convolution(conv)(frames)
    assert output.shape == frames.shape
    for row in range(2):
        assert torch.allclose(output[row], alone(conv, frames[row], left_of(conv)), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_it_equals_the_convolution_of_torch(kernel: Any, dtype: torch.dtype, tolerance: Any) -> None:
    conv = convolution(40, 24, dtype, **kernel)
    frames = torch.randn(3, 60, 40, dtype=dtype)
    expected = conv(frames.mT).mT[:, :60]
    difference = (attention_from_convolution(conv)(frames)[:, : expected.shape[1]] - expected).abs().max()
    assert difference <= tolerance


@pytest.mark.parametrize("left", [0, 1, 3, 4])
def test_any_split_of_the_kernel_into_past_and_future(left: Any) -> None:
    conv = convolution(kernel_size=5)
    frames = torch.randn(1, 20, 3, dtype=torch.float64)
    same = attention_from_convolution(conv, left=left)
    assert same.attention.context == Context.truncated(left, 4 - left)
    expected = conv(pad(frames, (0, 0, left, 4 - left)).mT).mT
    assert (same(frames) - expected).abs().max() <= 1e-10


@pytest.mark.parametrize(("channels", "groups"), [((1, 1), 1), ((2, 9), 1), ((9, 2), 1), ((1, 40), 1), ((6, 6), 6)])
def test_any_channels_and_groups(channels: Any, groups: Any) -> None:
    conv = convolution(*channels, kernel_size=3, padding=1, groups=groups)
    frames = torch.randn(2, 15, channels[0], dtype=torch.float64)
    assert (attention_from_convolution(conv)(frames) - conv(frames.mT).mT).abs().max() <= 1e-10


def test_it_computes_the_deltas_of_torchaudio() -> None:
    try:
        compute_deltas = require_torchaudio("this comparison").functional.compute_deltas
    except UserError as error:
        pytest.skip(str(error))
    frames = torch.randn(2, 30, 13, dtype=torch.float64)
    slopes = convolution(13, 13, kernel_size=5, padding=2, groups=13, padding_mode="replicate", bias=False)
    with torch.no_grad():
        slopes.weight.copy_(torch.tensor([-0.2, -0.1, 0.0, 0.1, 0.2], dtype=torch.float64).expand(13, 1, 5))
    expected = compute_deltas(frames.mT, win_length=5).mT
    assert (attention_from_convolution(slopes)(frames) - expected).abs().max() <= 1e-10


def test_softmax_is_not_required() -> None:
    conv = convolution(kernel_size=5, padding=2)
    frames = torch.randn(2, 15, 3, dtype=torch.float64)
    same = attention_from_convolution(conv, activation="relu")
    assert same.attention.activation == "relu"
    assert (same(frames) - conv(frames.mT).mT).abs().max() <= 1e-10


@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
@pytest.mark.parametrize("backend", ["dense", "banded"])
def test_rows_of_a_padded_batch_are_convolved_alone_whatever_the_padding_holds(padding_mode: Any, backend: str) -> None:
    conv = convolution(kernel_size=5, padding=3, padding_mode=padding_mode)
    same = attention_from_convolution(conv)
    layer = same.attention.forward
    same.attention.forward = lambda input, lengths: layer(input, lengths, backend=backend)  # type: ignore[assignment, method-assign, misc]
    lengths = torch.tensor([20, 7, 1, 0])
    frames = torch.randn(4, 20, 3, dtype=torch.float64)
    for row, length in enumerate(lengths):
        frames[row, length:] = [1e30, torch.nan, torch.inf][row % 3]
    output = same(frames, lengths)
    for row, length in enumerate(lengths):
        expected = alone(conv, frames[row, :length], 3)
        assert torch.allclose(output[row, :length], expected, rtol=0, atol=1e-10)
        assert (output[row, length:] == 0).all()


def test_each_head_looks_at_its_tap_and_exactly_nowhere_else() -> None:
    same = attention_from_convolution(convolution(kernel_size=3, padding=4, dilation=3))
    frames = same.widen(torch.randn(1, 12, 3, dtype=torch.float64))
    q, k, _ = same.attention.project(frames)
    context = same.attention.context
    bias = same.attention.bias(context, frames.shape[1])
    weights = attention_weights(q, k, context, relative_bias=bias)
    inside = weights[0, :, same.edges[0] : -same.edges[1]]
    assert inside.shape == (3, 12, 7)
    assert torch.equal(inside, torch.eye(7, dtype=torch.float64)[[0, 3, 6], None].expand(3, 12, 7))


def test_softmax_alone_cannot_see_the_edge_and_replicates_it() -> None:
    """A constant input: attention answers with a constant, a convolution with zeros past the ends does not."""
    zeros, replicate = (convolution(kernel_size=3, padding=1, padding_mode=mode) for mode in ("zeros", "replicate"))
    replicate.load_state_dict(zeros.state_dict())
    frames = torch.ones(1, 9, 3, dtype=torch.float64)
    output = attention_from_convolution(replicate)(frames)
    assert (output - output[:, 4:5]).abs().max() <= 1e-10
    assert (zeros(frames.mT).mT - output)[:, [0, 8]].abs().max() > 0.01


def test_the_error_falls_exponentially_with_the_sharpness() -> None:
    conv = convolution(kernel_size=5, padding=2)
    frames = torch.randn(1, 50, 3, dtype=torch.float64)
    with torch.no_grad():
        soft = [attention_from_convolution(conv, sharpness=nats)(frames) for nats in (5.0, 10.0, 20.0)]
        errors = [float((output - conv(frames.mT).mT).abs().max()) for output in soft]
    assert errors[1] / errors[0] == pytest.approx(torch.e**-5, rel=0.1)
    assert errors[2] / errors[1] == pytest.approx(torch.e**-10, rel=0.1)


def test_a_soft_copy_can_be_trained() -> None:
    same = attention_from_convolution(convolution(kernel_size=3, padding=1), sharpness=3.0)
    same(torch.randn(1, 20, 3, dtype=torch.float64)).square().sum().backward()
    assert (same.attention.relative_bias.table.grad != 0).any()  # type: ignore[union-attr]
    assert (same.attention.output.weight.grad != 0).any()  # type: ignore[union-attr]


@pytest.mark.parametrize("activation", ["softmax", "relu"])
def test_the_way_back_gives_the_same_kernel(activation: str) -> None:
    conv = convolution(3, 4, kernel_size=5, padding=1)
    same = attention_from_convolution(conv, activation=activation)
    frames = torch.randn(3, 30, 3, dtype=torch.float64)
    lengths = torch.tensor([30, 8, 0])
    back = convolution_from_attention(same.attention, same.widen(frames, lengths), lengths + sum(same.edges))
    assert (back.weight[:4, :3] - conv.weight).abs().max() <= 1e-10
    assert (back.bias[:4] - conv.bias).abs().max() <= 1e-10  # type: ignore[index, operator]
    assert (back.weight[4:] == 0).all() and (back.weight[:, 3:] == 0).all()


def test_a_layer_that_does_not_listen_is_its_convolution() -> None:
    layer = SelfAttention(8, 4, Context.truncated(3, 2), position_encoding="relative").double()
    nn.init.normal_(layer.relative_bias.table)  # type: ignore[union-attr]
    with torch.no_grad():
        layer.query_key_value.weight[:16] = 0
    frames = torch.randn(2, 40, 8, dtype=torch.float64)
    conv = convolution_from_attention(layer, frames)
    expected = layer(frames)[:, 3:-2]
    assert (conv(frames.mT).mT - expected).abs().max() <= 1e-10


def test_what_has_no_such_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="stride must be 1, got 2"):
        attention_from_convolution(convolution(kernel_size=3, stride=2))
    with pytest.raises(ValueError, match="got 'circular'"):
        attention_from_convolution(convolution(kernel_size=3, padding_mode="circular"))
    with pytest.raises(ValueError, match='needs activation="softmax"'):
        attention_from_convolution(convolution(kernel_size=3, padding_mode="replicate"), activation="relu")
    with pytest.raises(ValueError, match="0 to 2 frames back"):
        attention_from_convolution(convolution(kernel_size=3, padding=3))
    with pytest.raises(ValueError, match="got -1"):
        attention_from_convolution(convolution(kernel_size=3), left=-1)
    frames = torch.zeros(1, 3, 4)
    with pytest.raises(ValueError, match="no chunks"):
        convolution_from_attention(SelfAttention(4, 1, Context.chunked(2, 4)), frames)
    with pytest.raises(ValueError, match="whole window of 4 frames"):
        convolution_from_attention(SelfAttention(4, 1, Context.truncated(2, 1)), frames)
