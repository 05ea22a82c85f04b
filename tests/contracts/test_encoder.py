"""P2 and P3 for every encoder: banded == dense, autograd reach == declared, padding and neighbours change nothing.

Tolerance 1e-10 in float64: the same numbers summed in another order.
"""

import functools
import itertools
from typing import Any

import pytest
import torch
from rounding import assert_same

from speechattn.config import POSITION_ENCODINGS, EncoderConfig
from speechattn.context import Context
from speechattn.encoder import self_attention as layer
from speechattn.encoder.baselines import build_encoder
from speechattn.lengths import valid_mask

NUM_FRAMES = 33
TOLERANCE = 1e-10
CONTEXTS: dict[str, Any] = {
    "left 3, right 1": Context.truncated(3, 1),
    "chunk 3": Context.chunked(3, 4, 2),
    "causal": Context.causal(),
    "per layer": (Context(1, 4), Context.chunked(4, 2)),
}
ATTENTION = {
    f"{block}, {positions}, {scores}, stack {stack}, {name}": EncoderConfig(
        4,
        d_model=8,
        num_heads=2,
        num_layers=2,
        d_ff=16,
        context=context,
        block=block,
        position_encoding=positions,
        activation=scores,
        dropout=0.0,
        stack=stack,
        conv_kernel=4,
        conv_lookahead=1,
        max_frames=99,
    )
    for block, positions, scores, stack, (name, context) in itertools.product(
        ("transformer", "conformer"), POSITION_ENCODINGS, ("softmax", "relu"), (1, 2, 4), CONTEXTS.items()
    )
}
small = functools.partial(EncoderConfig, 4, d_model=8, num_heads=2, num_layers=2, d_ff=16, dropout=0.0)
OTHERS = {
    "full": small(context=Context.full()),
    "splice": small(context=Context.truncated(2, 3), splice=Context.truncated(4, 1)),
    "splice and stack": small(context=Context.truncated(2, 3), splice=Context.truncated(4, 1), stack=2),
    "causal convolution": small(context=Context(2, 0), block="conformer", conv_kernel=5, conv_lookahead=0),
    "symmetric convolution": small(context=Context(2, 0), block="conformer", conv_kernel=5, conv_lookahead="symmetric"),
    "cnn": small(block="cnn", conv_kernel=5, conv_lookahead=3),
    "cnn, stacked": small(block="cnn", conv_kernel=5, conv_lookahead="symmetric", stack=2),
    "bigru": small(block="bigru"),
    "bigru, stacked": small(block="bigru", stack=4),
    "mlp": small(splice=Context.truncated(4, 2), block="mlp"),
    "mlp, stacked": small(splice=Context.truncated(4, 2), block="mlp", stack=2),
    "linear": small(block="linear"),
}


def always(config: Any) -> Any:
    """Whether the default run has it: every value beside every other but for scores and stack, and the rest is slow."""
    usual = (config.activation, config.stack) in (("softmax", 1), ("relu", 2))
    return usual or (
        config.activation == "softmax" and config.stack == 4 and config.position_encoding in ("relative", "rotary")
    )


PARAMS = [
    pytest.param(config, id=name, marks=[] if always(config) else pytest.mark.slow)
    for name, config in ATTENTION.items()
]
attention_encoders = pytest.mark.parametrize("config", PARAMS)
every_encoder = pytest.mark.parametrize("config", [*PARAMS, *(pytest.param(c, id=name) for name, c in OTHERS.items())])


def build(config: Any) -> Any:
    """An encoder in which nothing that is reached hides behind a ReLU that gives 0."""
    model = build_encoder(config).double().eval()
    for name, parameter in model.named_parameters():
        if config.block == "mlp" and name.endswith("bias"):
            torch.nn.init.constant_(parameter, 5.0)
        if config.activation == "relu" and "relative_bias" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        if config.activation == "relu" and "query_key_value.bias" in name:
            # Rotary positions turn the first half's fastest pair away; the slowest one stays positive.
            torch.nn.init.constant_(parameter, 0.0 if config.position_encoding == "rotary" else 3.0)
            with torch.no_grad():
                parameter.view(3, 2, 4)[:, :, 1::2] = 3.0
    return model


def random_frames(*shape: Any) -> Any:
    return torch.randn(*shape, dtype=torch.float64)


@attention_encoders
def test_banded_equals_dense(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(config)
    lengths = torch.tensor([NUM_FRAMES, 0, 14])
    x = random_frames(3, NUM_FRAMES, 4).requires_grad_()
    probe = random_frames(3, NUM_FRAMES // config.stack, 8)
    results = []
    for backend in ("dense", "banded"):
        monkeypatch.setattr(layer, "attention", functools.partial(forced, backend))
        output, _ = model(x, lengths)
        results.append((output, *torch.autograd.grad((output * probe).sum(), [x, *model.parameters()])))
    for dense, banded in zip(*results, strict=True):
        assert (dense - banded).abs().max() < TOLERANCE


def forced(wanted: Any, *args: Any, attention: Any = layer.attention, **settings: Any) -> Any:  # type: ignore[attr-defined]
    return attention(*args, **{**settings, "backend": wanted})


@every_encoder
def test_autograd_reach_is_the_declared_reach(config: Any) -> None:
    model = build(config)
    num_outputs = NUM_FRAMES // config.stack
    # One row for each output frame: one backward pass tells what each of them depends on.
    x = random_frames(NUM_FRAMES, 4).expand(num_outputs, -1, -1).clone().requires_grad_()
    output, _ = model(x)
    frames = torch.arange(num_outputs)
    # The plain sum of a normalised frame is constant, so it is weighted.
    (grad,) = torch.autograd.grad((output[frames, frames] @ random_frames(8)).sum(), x)
    for i, touched in enumerate(grad.abs().sum(2) > 0):
        indices = touched.nonzero().flatten()
        assert (int(indices[0]), int(indices[-1]) + 1) == model.receptive_field(i, NUM_FRAMES)


@every_encoder
def test_padding_changes_nothing(config: Any) -> None:
    model = build(config)
    lengths = torch.tensor([NUM_FRAMES, 0, 1, 17])
    clean = random_frames(4, NUM_FRAMES, 4)
    padded = ~valid_mask(lengths, NUM_FRAMES)
    results = []
    for x in (clean, clean.masked_fill(padded[..., None], float("nan"))):
        model.zero_grad()
        output, _ = model(x, lengths)
        output.sum().backward()
        results.append([output.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    assert_same(*results)
    outside = ~valid_mask(lengths // config.stack, NUM_FRAMES // config.stack)
    assert torch.all(results[1][0][outside] == 0)


@every_encoder
def test_alone_equals_batched_and_more_padding_changes_nothing(config: Any) -> None:
    model = build(config)
    lengths = torch.tensor([NUM_FRAMES, 3, 17])
    x = random_frames(3, NUM_FRAMES, 4)
    together, _ = model(x, lengths)
    longer, _ = model(torch.nn.functional.pad(x, (0, 0, 0, 29)), lengths)
    assert (longer[:, : together.shape[1]] - together).abs().max() < TOLERANCE
    for row, length in enumerate(lengths.tolist()):
        alone, _ = model(x[row : row + 1, :length])
        if alone.numel():
            assert (together[row, : alone.shape[1]] - alone[0]).abs().max() < TOLERANCE


@pytest.mark.parametrize("number", [1e30, float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", ["splice and stack", "causal convolution", "cnn", "bigru", "mlp", "linear"])
def test_no_other_number_in_padding_does_either(kind: Any, number: Any) -> None:
    model = build(OTHERS[kind])
    x, lengths = random_frames(1, NUM_FRAMES, 4), torch.tensor([17])
    dirty = x.clone()
    dirty[:, 17:] = number
    assert_same(model(x, lengths)[0], model(dirty, lengths)[0])


@pytest.mark.parametrize(
    "config",
    [ATTENTION["conformer, relative, softmax, stack 1, left 3, right 1"], OTHERS["mlp"], OTHERS["cnn"]],
    ids=["conformer", "mlp", "cnn"],
)
def test_perturbations_outside_the_reach_change_nothing(config: Any) -> None:
    model = build(config)
    x = random_frames(1, NUM_FRAMES, 4)
    expected, _ = model(x)
    for i in (0, 20, NUM_FRAMES - 1):
        start, stop = model.receptive_field(i, NUM_FRAMES)
        other = torch.full_like(x, 1e6)
        other[:, start:stop] = x[:, start:stop]
        # Frames share matrix products, so their order of summation may differ; the perturbation may not show.
        assert (model(other)[0][0, i] - expected[0, i]).abs().max() < TOLERANCE
