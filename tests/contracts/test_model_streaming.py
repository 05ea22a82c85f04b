"""P1 and P4 from samples to logits: any split gives the logits of the whole, none of them late, in bounded memory.

Tolerances are of the largest error, not the mean: 1e-10 in float64, where only the shape of the products differs, and
1e-5 of the largest logit in float32.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_same

from speechattn.config import POSITION_ENCODINGS, EncoderConfig
from speechattn.context import Context
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel
from speechattn.stream_state import tensors

SMALL = Framing(1000, 25, 10)
FRAMINGS = [SMALL, Framing(1000, 25, 10, "snip"), Framing(1000, 20, 20), Framing(1000, 31, 7)]
BLOCKS = ("transformer", "conformer", "cnn")
PUSHES = [[0], [1], [1] * 12, [3], [9], [10], [11], [40], [160], [400]]
contexts = st.builds(Context, st.integers(0, 12) | st.none(), st.integers(0, 6) | st.just(200), st.integers(1, 7))


def classes(count: Any) -> Any:
    return tuple(f"class {c}" for c in range(count))


@st.composite
def configs(draw: Any) -> Any:
    """Models of every kind; a right context of 200 frames is longer than any stream here."""
    layers = draw(st.lists(contexts, min_size=1, max_size=3))
    features, deltas = draw(st.sampled_from([("logmel", 0), ("mfcc", 0), ("mfcc", 1), ("mfcc", 2)]))
    head, stack = draw(st.sampled_from([("frames", 1), ("ctc", 1), ("ctc", 2), ("ctc", 4)]))
    left, right = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    encoder = EncoderConfig(
        6 if features == "logmel" else 4 * (1 + deltas),
        d_model=8,
        num_heads=2,
        num_layers=len(layers),
        d_ff=12,
        context=tuple(layers),
        block=draw(st.sampled_from(BLOCKS)),
        position_encoding=draw(st.sampled_from(POSITION_ENCODINGS)),
        activation=draw(st.sampled_from(["softmax", "relu"])),
        stack=stack,
        conv_kernel=left + 1 + right,
        conv_lookahead=right,
        splice=draw(st.builds(Context, st.integers(0, 2), st.integers(0, 2))),
        max_frames=400,
    )
    framing, flavor = draw(st.sampled_from(FRAMINGS)), draw(st.sampled_from(["kaldi", "librosa"]))
    return ModelConfig(classes(5), encoder, 6, flavor, framing, features, 4, deltas, head)


def ready(config: Any, num_samples: Any) -> Any:
    """Logits that depend on no sample after the first `num_samples`, computed from the contexts, layer by layer."""
    frames = config.framing.num_frames(num_samples)
    for context in config.contexts:
        frames = context.ready(frames)
    return frames // config.encoder.stack


def most_bytes(config: Any, num_samples: Any, batch_size: Any, itemsize: Any) -> Any:
    """What a stream may keep: of each layer no more than its kept frames, of each kind of tensor that it has."""

    def kept(context: Any) -> Any:
        return config.framing.num_frames(num_samples) if context.kept_frames is None else context.kept_frames

    encoder, width = config.encoder, config.encoder.d_model
    numbers = config.framing.window + config.framing.hop
    numbers += 4 * config.num_features * (config.deltas if config.features == "mfcc" else 0)
    numbers += encoder.splice.kept_frames * encoder.input_dim + encoder.entry_dim
    for context in encoder.layer_contexts if encoder.block != "cnn" else ():
        numbers += 4 * kept(context) * width  # keys, values, queries, and frames that wait for their result
    if encoder.block != "transformer":
        numbers += encoder.num_layers * 2 * kept(encoder.convolution) * width
    return numbers * batch_size * itemsize


def streamed(model: Any, waveform: Any, sizes: Any) -> Any:
    """All logits of pushes of `sizes` samples, then the rest, then the flush; each time their number is checked."""
    state, pieces, taken, out = model.initial_state(len(waveform)), [], 0, 0
    for piece in waveform.split([*sizes, waveform.shape[1] - sum(sizes)], 1):
        logits, state = model.step(piece, state)
        pieces.append(logits)
        taken, out = taken + piece.shape[1], out + logits.shape[1]
        assert out == ready(model.config, taken)
        assert state.num_bytes <= most_bytes(model.config, taken, len(waveform), waveform.itemsize)
    return torch.cat([*pieces, model.flush(state)], 1)


@settings(max_examples=80, deadline=None)
@given(
    config=configs(),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    batch_size=st.integers(1, 3),
    num_samples=st.integers(0, 900),
    pushes=st.lists(st.sampled_from(PUSHES), max_size=8),
    seed=st.integers(0, 2**31),
)
def test_any_split_of_the_samples_gives_the_logits_of_the_whole(
    config: Any, dtype: Any, batch_size: Any, num_samples: Any, pushes: Any, seed: int
) -> None:
    torch.manual_seed(seed)
    model = SpeechModel(config).eval().to(dtype)
    waveform = torch.rand(batch_size, num_samples, dtype=dtype) - 0.5
    sizes: list[int] = []
    for size in (size for push in pushes for size in push):
        sizes.append(min(size, num_samples - sum(sizes)))
    with torch.no_grad():
        expected, _ = model(waveform)
    found = streamed(model, waveform, sizes)
    assert found.shape == expected.shape and found.dtype == dtype
    bound = 1e-10 if dtype == torch.float64 else 1e-5 * expected.abs().max() if expected.numel() else 0
    assert found.numel() == 0 or (found - expected).abs().max() <= bound


def model_of(**wanted: Any) -> Any:
    encoder: dict[str, Any] = {
        "d_model": 16,
        "num_heads": 2,
        "num_layers": 2,
        "d_ff": 32,
        "context": Context.chunked(4, 9, 2),
    }
    encoder.update(wanted)
    config = ModelConfig(classes(5), EncoderConfig(12, **encoder), 12, features="mfcc", num_ceps=4)
    return SpeechModel(config).eval()


def test_sample_by_sample() -> None:
    encoder = EncoderConfig(
        6,
        d_model=8,
        num_heads=2,
        num_layers=2,
        d_ff=12,
        context=Context.chunked(3, 4, 1),
        block="conformer",
        conv_kernel=5,
        conv_lookahead=1,
    )
    model = SpeechModel(ModelConfig(classes(5), encoder, 6, framing=SMALL)).eval().double()
    waveform = torch.rand(1, 300, dtype=torch.float64) - 0.5
    expected, _ = model(waveform)
    assert (streamed(model, waveform, [1] * 300) - expected).abs().max() < 1e-10


def test_one_giant_push_and_pushes_of_anything_after_it() -> None:
    model = model_of(context=Context.truncated(20, 7))
    waveform = torch.rand(2, 200_000) - 0.5
    with torch.no_grad():
        expected, _ = model(waveform)
    for sizes in ([], [199_999], [160_000, 0, 1, 159]):
        assert (streamed(model, waveform, sizes) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_ten_hours_in_the_same_samples_give_the_same_logits() -> None:
    """The clock alone is moved: nothing but the position may depend on it, and here no position is looked at."""
    model = model_of(position_encoding="relative", context=Context.chunked(4, 9, 2)).double()
    waveform = torch.rand(1, 16_000, dtype=torch.float64) - 0.5
    _, early = model.step(waveform, model.initial_state())
    frames = 3_600_000
    encoder = early.encoder
    blocks = tuple(
        block._replace(
            attention=block.attention._replace(seen=block.attention.seen + frames, done=block.attention.done + frames)
        )
        for block in encoder.blocks
    )
    late = replace(
        early,
        frontend=early.frontend._replace(num_samples=early.frontend.num_samples + frames * 160),
        encoder=replace(encoder, frames=encoder.frames + frames, blocks=blocks),
    )
    for piece in (torch.rand(1, 5_000, dtype=torch.float64) - 0.5).split(700, 1):  # type: ignore[no-untyped-call]
        first, early = model.step(piece, early)
        second, late = model.step(piece, late)
        assert first.shape == second.shape and torch.allclose(first, second, rtol=0, atol=1e-12)
    assert torch.allclose(model.flush(early), model.flush(late), rtol=0, atol=1e-12)


def test_the_state_is_constant_once_every_window_is_full_and_is_never_changed() -> None:
    model, generator = model_of(block="conformer", conv_kernel=5, conv_lookahead=2), torch.manual_seed(0)
    state, sizes = model.initial_state(2), []
    for _ in range(60):  # 640 samples are one chunk
        _, state = model.step(torch.rand(2, 640, generator=generator), state)
        sizes.append(state.num_bytes)
    assert len(set(sizes[20:])) == 1
    parts = list(tensors((state.frontend, state.encoder.entry, state.encoder.blocks)))
    assert state.num_bytes == sum(x.nbytes for x in parts)
    assert all(x.untyped_storage().nbytes() == x.nbytes for x in parts), "a view keeps everything alive behind it"
    before, piece = [x.clone() for x in parts], torch.rand(2, 5_000, generator=generator)
    first, second = model.step(piece, state)[0], model.step(piece, state)[0]
    assert_same((first, model.flush(state)), (second, model.flush(state)))
    assert all(torch.equal(x, y) for x, y in zip(before, parts, strict=True))


def test_a_stream_moves_to_another_dtype() -> None:
    model, waveform = model_of(), torch.rand(1, 16_000) - 0.5
    _, state = model.step(waveform, model.initial_state())
    rest = torch.rand(1, 8_000)
    expected, _ = model.step(rest, state)
    found, _ = model.double().step(rest.double(), state.to(torch.float64))
    assert found.dtype == torch.float64 and (found - expected).abs().max() < 1e-4


def test_a_state_moves_whole_to_another_device() -> None:
    """No GPU is needed to see whether a tensor is left behind."""
    for block in BLOCKS:
        model = model_of(block=block, conv_kernel=5)
        _, state = model.step(torch.rand(1, 16_000), model.initial_state())
        moved = state.to("meta")
        parts = list(tensors((moved.frontend, moved.encoder.entry, moved.encoder.blocks)))
        assert len(parts) > 4 and {x.device.type for x in parts} == {"meta"} and moved.num_bytes == state.num_bytes


def test_what_cannot_stream_names_the_alternative() -> None:
    for context in (Context.full(), Context(5, None)):
        with pytest.raises(ValueError, match=r"Use Context\.truncated\(left, right\) or Context\.chunked"):
            model_of(context=context).initial_state()
    centred = replace(model_of().config, framing=Framing(align="center"))
    with pytest.raises(ValueError, match='use align="causal"'):
        SpeechModel(centred).initial_state()
    for block in ("bigru", "mlp", "linear"):
        with pytest.raises(ValueError, match="does not stream; blocks that do are transformer, conformer, cnn"):
            model_of(block=block).initial_state()


def test_a_foreign_state_is_refused() -> None:
    one, other = model_of(), model_of(context=Context.chunked(4, 9, 1))
    waveform, state = torch.zeros(1, 400), one.initial_state()
    for method in (lambda model, state: model.step(waveform, state), lambda model, state: model.flush(state)):
        with pytest.raises(ValueError, match=f"another config .*{state.model}.*begin with model.initial_state"):
            method(other, state)  # type: ignore[no-untyped-call]
        older = replace(state, model=state.model.replace("1-", "0-"))
        with pytest.raises(ValueError, match=f"another config or version .{older.model}, this one is {state.model}"):
            method(one, older)  # type: ignore[no-untyped-call]
        with pytest.raises(TypeError, match="must come from initial_state or step of a model, got EncoderState"):
            method(one, state.encoder)  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match=r"waveform is torch.float32 \[2, n\]"):
        one.step(waveform.expand(2, -1), state)
    assert torch.equal(one.step(waveform.double(), state)[0], one.step(waveform, state)[0])  # cast to the model's
    with pytest.raises(ValueError, match=r"the stream is torch.float32"):
        one.double().step(waveform.double(), state)
