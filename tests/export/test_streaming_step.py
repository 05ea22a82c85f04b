"""The step of fixed sizes gives what eager streaming gives: the same frames with the same push, and the same numbers.

Tolerance 1e-10 in float64: the sums are the same, over windows of other shapes.
"""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_same

from speechattn.config import POSITION_ENCODINGS, EncoderConfig
from speechattn.context import Context
from speechattn.encoder.baselines import build_encoder
from speechattn.encoder.encoder import Encoder
from speechattn.errors import UserError
from speechattn.export.streaming_step import StreamingStep
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel

BLOCKS = ("transformer", "conformer", "cnn")
FRAMINGS = [Framing(1000, 25, 10), Framing(1000, 25, 10, "snip"), Framing(1000, 20, 20), Framing(1000, 31, 7, "snip")]
contexts = st.builds(Context, st.integers(0, 12), st.integers(0, 6), st.sampled_from((1, 1, 2, 3, 4)))


@st.composite
def encoders(draw: Any, input_dim: Any = 3, stacks: Any = (1, 2, 4)) -> Any:
    """The config of an encoder of any kind that has a step of fixed size, and a length of push that fits it."""
    layers = draw(st.lists(contexts, min_size=1, max_size=3))
    left, right = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    config = EncoderConfig(
        input_dim,
        d_model=8,
        num_heads=2,
        num_layers=len(layers),
        d_ff=12,
        context=tuple(layers),
        block=draw(st.sampled_from(BLOCKS)),
        position_encoding=draw(st.sampled_from(POSITION_ENCODINGS)),
        activation=draw(st.sampled_from(("softmax", "relu"))),
        stack=draw(st.sampled_from(stacks)),
        conv_kernel=left + 1 + right,
        conv_lookahead=right,
        splice=draw(st.builds(Context, st.integers(0, 2), st.integers(0, 2))),
        max_frames=90,
    )
    unit = math.lcm(*(context.chunk for context in config.contexts))
    return config, unit * draw(st.sampled_from((1, 1, 2, 5)))


def pushed(step: Any, input: Any) -> Any:
    """Return what each push gives; after the end of the input comes NaN, which must be ignored."""
    counter, caches = step.initial_state()
    outputs, begin, size = [], 0, step.num_inputs
    while True:
        piece = input[:, begin : begin + size]
        push = input.new_full((1, size, *input.shape[2:]), torch.nan)
        push[:, : piece.shape[1]] = piece
        shapes = [cache.shape for cache in caches]
        output, rows, counter, caches = step(push, torch.tensor(piece.shape[1]), counter, caches)
        begin += size
        assert output.shape[:2] == (1, step.num_outputs) and [cache.shape for cache in caches] == shapes
        assert counter.tolist() == [begin, min(begin, input.shape[1])]
        first, stop = rows.tolist()
        assert 0 <= first <= stop <= step.num_outputs
        assert not output[:, :first].any() and not output[:, stop:].any()
        outputs.append(output[:, first:stop])
        if piece.shape[1] < size and stop < step.num_outputs:
            return outputs


def assert_equal_to_eager(model: Any, step: Any, input: Any) -> None:
    found, state = pushed(step, input), model.initial_state()
    whole = input.shape[1] // step.num_inputs
    for index in range(whole):  # no frame comes later than eager gives it
        piece = input[:, index * step.num_inputs :][:, : step.num_inputs]
        wanted, state = model.step(piece, state)
        assert found[index].shape == wanted.shape
        assert not wanted.numel() or (found[index] - wanted).abs().max() < 1e-10
    wanted, state = model.step(input[:, whole * step.num_inputs :], state)
    wanted, found = torch.cat((wanted, model.flush(state)), 1), torch.cat(found[whole:], 1)
    assert found.shape == wanted.shape
    assert not wanted.numel() or (found - wanted).abs().max() < 1e-10


@settings(max_examples=60, deadline=None)
@given(built=encoders(), num_frames=st.sampled_from((0, 1, 3, 17, 40, 90)), seed=st.integers(0, 2**31))
def test_every_push_equals_eager(built: Any, num_frames: int, seed: int) -> None:
    torch.manual_seed(seed)
    config, push = built
    encoder = Encoder(config).double().eval()
    input = torch.randn(1, num_frames, 3, dtype=torch.float64)
    assert_equal_to_eager(encoder, StreamingStep(encoder, push), input)


@settings(max_examples=30, deadline=None)
@given(data=st.data(), framing=st.sampled_from(FRAMINGS), flavor=st.sampled_from(("kaldi", "librosa")))
def test_samples_to_logits_equal_eager(data: Any, framing: Any, flavor: Any) -> None:
    deltas = data.draw(st.none() | st.integers(0, 2))
    features = ("logmel", 6) if deltas is None else ("mfcc", 4 * (1 + deltas))
    head, stacks = data.draw(st.sampled_from((("frames", (1,)), ("ctc", (1, 2)))))
    encoder, push = data.draw(encoders(features[1], stacks))
    config = ModelConfig(("a", "b", "c"), encoder, 6, flavor, framing, features[0], 4, deltas or 0, head)
    torch.manual_seed(data.draw(st.integers(0, 2**31)))
    model = SpeechModel(config).double().eval()
    model.normalize.mean.fill_(-5)
    size = data.draw(st.sampled_from((0, 1, framing.hop - 1, framing.window, 12 * framing.hop + 3, 45 * framing.hop)))
    waveform = torch.randn(1, size, dtype=torch.float64)
    assert_equal_to_eager(model, StreamingStep(model, push), waveform)


def test_a_right_context_longer_than_the_stream() -> None:
    encoder = (
        Encoder(EncoderConfig(3, d_model=8, num_heads=2, num_layers=2, d_ff=12, context=Context.truncated(4, 100)))
        .double()
        .eval()
    )
    step = StreamingStep(encoder, 7)
    assert step.delay == 200
    assert_equal_to_eager(encoder, step, torch.randn(1, 30, 3, dtype=torch.float64))


def test_input_after_the_end_is_ignored() -> None:
    encoder = Encoder(
        EncoderConfig(3, d_model=8, num_heads=2, num_layers=1, d_ff=12, context=Context.truncated(4, 2))
    ).eval()
    step, push = StreamingStep(encoder, 4), torch.randn(1, 4, 3)
    _, _, *state = step(push, torch.tensor(3), *step.initial_state())
    silent = step(push, torch.tensor(0), *state)
    again = step(push, torch.tensor(4), *state)
    assert silent[1].tolist() == [0, 1] and silent[2].tolist() == [8, 3]
    assert_same(silent[0], again[0])
    assert all(torch.equal(a, b) for a, b in zip(silent[1:3], again[1:3], strict=True))


def test_learned_positions_end_with_nan_and_not_with_a_guess() -> None:
    encoder = Encoder(
        EncoderConfig(
            3,
            d_model=8,
            num_heads=2,
            num_layers=1,
            d_ff=12,
            context=Context(3, 0),
            position_encoding="learned",
            max_frames=20,
        )
    ).eval()
    longer = torch.cat(pushed(StreamingStep(encoder, 4), torch.randn(1, 24, 3)), 1)
    assert longer[:, :20].isfinite().all() and longer[:, 20:].isnan().all()
    whole = torch.cat(pushed(StreamingStep(encoder, 8), torch.randn(1, 20, 3)), 1)
    assert whole.shape[1] == 20 and whole.isfinite().all()


def test_the_model_is_copied_and_left_as_it_was() -> None:
    encoder = Encoder(EncoderConfig(3, d_model=8, num_heads=2, num_layers=1, d_ff=12, context=Context(3, 1)))
    before = {name: type(module) for name, module in encoder.named_modules()}
    step = StreamingStep(encoder, 4)
    assert encoder.training and not step.encoder.training
    assert {name: type(module) for name, module in encoder.named_modules()} == before
    with torch.no_grad():
        encoder.norm.weight.zero_()
    assert torch.cat(pushed(step, torch.randn(1, 9, 3)), 1).all()


@pytest.mark.parametrize(
    ("setting", "push", "message"),
    [
        ({"context": Context.chunked(4, 8)}, 6, "multiple of 4 frames, whole chunks and stacks, got 6: use 8"),
        ({"context": (Context(3, 0, 4), Context(3, 0, 6)), "stack": 2}, 10, "multiple of 24 .* use 24"),
        ({}, 0, "multiple of 1 frames.* got 0: use 1"),
        ({}, 2.5, r"got 2\.5"),
        ({"context": (Context(3, 1), Context.causal())}, 4, "layer 2 sees all of the past .* fixed sizes"),
        ({"context": Context(3, None)}, 4, "layer 1 sees all of the future .* cannot stream"),
        ({"block": "mlp"}, 4, "MLPEncoder does not stream"),
    ],
)
def test_a_config_without_a_step_of_fixed_size_is_refused(setting: Any, push: Any, message: Any) -> None:
    encoder = build_encoder(
        EncoderConfig(3, d_model=8, num_heads=2, num_layers=2, d_ff=12, **{"context": Context(3, 1), **setting})
    )
    with pytest.raises(UserError, match=message) as caught:
        StreamingStep(encoder, push)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_centred_frames_are_refused() -> None:
    encoder = EncoderConfig(6, d_model=8, num_heads=2, num_layers=1, d_ff=12, context=Context(3, 1))
    model = SpeechModel(ModelConfig(("a", "b"), encoder, 6, framing=Framing(1000, 25, 10, "center")))
    with pytest.raises(ValueError, match="cannot stream"):
        StreamingStep(model, 4)
