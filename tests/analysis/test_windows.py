"""Smaller windows: the logits of the encoder called with that context."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from rounding import assert_same

from speechattn.analysis.heads import analyse_heads
from speechattn.analysis.layers import attention_layers, layer_contexts
from speechattn.analysis.windows import part_of
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel

TRAINED = Context.truncated(8, 4)
SMALLER = [part_of(TRAINED, Fraction(part)) for part in ("1/2", "1/4", "0")]


def build(context: Any = TRAINED, **options: Any) -> SpeechModel:
    config = EncoderConfig(10, d_model=8, num_heads=2, num_layers=2, context=context, **options)
    model = SpeechModel(ModelConfig(("SIL", "AA", "T", "N"), config, num_mels=10)).eval()
    for parameter in model.parameters():
        parameter.data *= 2
    return model


@pytest.mark.parametrize("context", [*SMALLER, Context.chunked(4, left=2), Context.full()], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"position_encoding": "alibi"}, {"block": "conformer"}, {"position_encoding": "sinusoidal"}],
    ids=str,
)
@torch.no_grad()
def test_a_context_for_each_layer_equals_the_encoder_called_with_it(context: Context, options: Any) -> None:
    model, frames = build(**options), torch.randn(1, 50, 10)
    expected, _ = model.encoder(frames, context=context)
    layers = attention_layers(model.encoder)
    with layer_contexts(layers, [context] * len(layers)):
        found, _ = model.encoder(frames)
    assert_same(found, expected)
    assert_same(model.encoder(frames)[0], model.encoder(frames, context=TRAINED)[0])  # and it is over


@torch.no_grad()
def test_different_contexts_reach_their_layers() -> None:
    contexts = (Context.truncated(3, 0), Context.truncated(8, 4))
    model, other, frames = (
        build(contexts, position_encoding="none"),
        build(position_encoding="none"),
        torch.randn(1, 50, 10),
    )
    other.load_state_dict(model.state_dict())
    with layer_contexts(attention_layers(other.encoder), contexts):
        found, _ = other.encoder(frames)
    assert_same(found, model.encoder(frames)[0])


@torch.no_grad()
def test_the_numbers_of_a_window_are_those_of_its_logits() -> None:
    model, frames = build(), torch.randn(60, 10)
    windows = [("trained", (TRAINED,) * 2), *((str(c), (c, c)) for c in SMALLER)]
    labels = torch.randint(-1, 4, (60,))
    found = analyse_heads(model, [frames], 60, reference=labels, windows=windows).windows
    trained = model.head(model.encoder(frames[None])[0])[0].double()
    known = labels >= 0
    assert (found[0].agreement, found[0].kl_bits) == (1.0, 0.0) and found[0].reference_frames == int(known.sum())
    for window, context in zip(found[1:], SMALLER, strict=True):
        logits = model.head(model.encoder(frames[None], context=context)[0])[0].double()
        assert window.agreement == pytest.approx(float((logits.argmax(1) == trained.argmax(1)).double().mean()))
        assert window.accuracy == pytest.approx(float((logits.argmax(1) == labels)[known].double().mean()))
        kl = (trained.softmax(1) * (trained.log_softmax(1) - logits.log_softmax(1))).sum(1).mean() / math.log(2)
        assert window.kl_bits == pytest.approx(float(kl), abs=1e-4)


def test_latency_and_receptive_field_are_those_of_a_model_with_that_window() -> None:
    model = build()
    found = analyse_heads(
        model, [torch.randn(60, 10)], 60, windows=[("trained", (TRAINED,) * 2), ("half", (SMALLER[0],) * 2)]
    ).windows
    frontend_ms = model.config.framing.latency_ms()
    assert [window.latency_ms for window in found] == [80 + frontend_ms, 40 + frontend_ms]
    assert [window.receptive_field_ms for window in found] == [250.0, 130.0]
    full = analyse_heads(model, [torch.randn(60, 10)], 60, windows=[("all", (Context.full(),) * 2)]).windows[0]
    assert full.latency_ms is None and full.receptive_field_ms is None


def test_a_part_of_a_context() -> None:
    assert part_of(Context.full(), Fraction(1)) == Context.full()
    assert part_of(Context.full(), Fraction(1, 2)) == Context.truncated(64, 64)
    assert part_of(Context.chunked(16, left=64, right=8), Fraction(1, 4)) == Context.chunked(4, left=16, right=2)
    assert part_of(Context.chunked(16, left=64, right=8), Fraction(0)) == Context.truncated(0, 0)
