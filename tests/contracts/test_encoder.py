"""P2 and P3 for every encoder: padding and neighbours change nothing, and autograd reach == declared reach."""

import pytest
import torch

from speechattn.baselines import build_encoder
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.lengths import valid_mask

NUM_FRAMES = 45
ENCODERS = {
    f"{positions}, {context}": EncoderConfig(4, 8, 2, 3, 16, context, positions=positions, dropout=0.0)
    for positions in ("none", "sinusoidal", "rotary", "relative")
    for context in (Context.truncated(3, 1), Context.chunked(4, 3, 2), Context.causal(), Context.truncated(0, 2))
}
ENCODERS["relu"] = EncoderConfig(4, 8, 2, 2, 16, Context.truncated(3, 1), scores="relu", dropout=0.0)
ENCODERS["full"] = EncoderConfig(4, 8, 2, 2, 16, Context.full(), dropout=0.0)
ENCODERS["per layer"] = EncoderConfig(4, 8, 2, 2, 16, (Context(1, 4), Context.chunked(5, 2)), dropout=0.0)
ENCODERS["splice"] = EncoderConfig(4, 8, 2, 2, 16, Context.truncated(2, 3), splice=Context.truncated(4, 1), dropout=0.0)
ENCODERS["mlp"] = EncoderConfig(4, 8, num_layers=2, splice=Context.truncated(4, 2), block="mlp", dropout=0.0)
ENCODERS["linear"] = EncoderConfig(4, 8, block="linear")

every_encoder = pytest.mark.parametrize("config", ENCODERS.values(), ids=ENCODERS)


def build(config):
    # Dead ReLUs would hide frames that are reached, so hidden units are pushed into the open.
    model = build_encoder(config).double().eval()
    for name, parameter in model.named_parameters():
        if config.block == "mlp" and name.endswith("bias"):
            torch.nn.init.constant_(parameter, 5.0)
        if config.scores == "relu" and "query_key_value.bias" in name:
            torch.nn.init.constant_(parameter, 3.0)
    return model


@every_encoder
def test_autograd_reach_is_the_declared_reach(config):
    model = build(config)
    x = torch.randn(1, NUM_FRAMES, 4, dtype=torch.float64, requires_grad=True)
    output, _ = model(x)
    probe = torch.randn(8, dtype=torch.float64)  # the plain sum of a normalised frame is constant
    for i in range(NUM_FRAMES):
        (grad,) = torch.autograd.grad(output[0, i] @ probe, x, retain_graph=True)
        touched = grad[0].abs().sum(1).nonzero().flatten()
        assert (int(touched[0]), int(touched[-1]) + 1) == model.reach(i, NUM_FRAMES)


@every_encoder
@pytest.mark.parametrize("rubbish", [1e30, float("nan"), float("inf")])
def test_padding_changes_nothing(config, rubbish):
    model = build(config)
    lengths = torch.tensor([NUM_FRAMES, 0, 1, 17])
    clean = torch.randn(4, NUM_FRAMES, 4, dtype=torch.float64)
    padded = ~valid_mask(lengths, NUM_FRAMES)
    results = []
    for x in (clean, clean.masked_fill(padded[..., None], rubbish)):
        model.zero_grad()
        output, _ = model(x, lengths)
        output.sum().backward()
        results.append([output.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for before, after in zip(*results, strict=True):
        assert torch.equal(before, after)
    assert torch.all(results[1][0][padded] == 0)


@every_encoder
def test_alone_equals_batched_and_more_padding_changes_nothing(config):
    model = build(config)
    lengths = torch.tensor([NUM_FRAMES, 3, 17])
    x = torch.randn(3, NUM_FRAMES, 4, dtype=torch.float64)
    together, _ = model(x, lengths)
    longer, _ = model(torch.nn.functional.pad(x, (0, 0, 0, 29)), lengths)
    # 1e-10 in float64: a matrix product over another number of rows rounds differently in the last bits.
    assert (longer[:, :NUM_FRAMES] - together).abs().max() < 1e-10
    for row, length in enumerate(lengths.tolist()):
        alone, _ = model(x[row : row + 1, :length])
        assert (together[row, :length] - alone[0]).abs().max() < 1e-10


@pytest.mark.parametrize("config", [ENCODERS["relative, left 3, right 1"], ENCODERS["mlp"]], ids=["attention", "mlp"])
def test_perturbations_outside_the_reach_change_nothing(config):
    model = build(config)
    x = torch.randn(1, NUM_FRAMES, 4, dtype=torch.float64)
    expected, _ = model(x)
    for i in (0, 20, NUM_FRAMES - 1):
        start, stop = model.reach(i, NUM_FRAMES)
        other = torch.full_like(x, 1e6)
        other[:, start:stop] = x[:, start:stop]
        # Frames share matrix products, so their order of summation may differ; the perturbation may not show.
        assert (model(other)[0][0, i] - expected[0, i]).abs().max() < 1e-10
