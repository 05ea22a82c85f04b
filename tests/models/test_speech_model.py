"""SpeechModel end to end, and the directory it is saved in."""

import copy
import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from rounding import assert_same

import speechattn as sa
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.errors import ConfigError, UserError
from speechattn.export.streaming_step import StreamingStep
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.pretrained import FOLDER
from speechattn.models.speech_model import SpeechModel, load

CLASSES = ("SIL", "AA", "B")


@pytest.fixture
def model() -> Any:
    encoder = EncoderConfig(20, d_model=16, num_heads=2, num_layers=2, d_ff=32, context=Context.truncated(4, 2))
    return SpeechModel(ModelConfig(CLASSES, encoder, num_mels=20)).eval()


def test_audio_becomes_one_row_of_logits_per_10_ms(model: Any, librispeech_tiny: Path) -> None:
    path = next((librispeech_tiny / "LibriSpeech" / "dev-clean").rglob("*.flac"))
    waveform, rate = sa.load_audio(path)
    logits, lengths = model(waveform[None])
    assert rate == 16000
    assert logits.shape == (1, len(waveform) // 160, 3) and lengths.tolist() == [len(waveform) // 160]
    assert logits.isfinite().all()


def test_forward_is_frontend_then_classify(model: Any) -> None:
    waveform, lengths = torch.randn(2, 5000), torch.tensor([5000, 900])
    logits, frame_lengths = model(waveform, lengths)
    assert frame_lengths.tolist() == [31, 5]
    assert_same(logits, model.classify(*model.frontend(waveform, lengths))[0])
    assert torch.all(logits[1, 5:] == 0)


def test_less_than_one_hop_is_no_frames_and_no_exception(model: Any) -> None:
    logits, lengths = model(torch.zeros(1, 159))
    assert logits.shape == (1, 0, 3) and lengths.tolist() == [0]


def test_save_and_load_give_the_same_numbers_and_config(model: Any, tmp_path: Path) -> None:
    model.normalize.mean.normal_()
    model.save(tmp_path / "m")
    again = load(tmp_path / "m")
    waveform = torch.randn(1, 4000)
    assert_same(again(waveform)[0], model(waveform)[0])
    assert again.config == model.config and not again.training
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == ["config.json", "model.safetensors"]


def test_a_saved_model_can_be_read_by_whom_the_umask_says(model: Any, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        model.save(tmp_path)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o640}


def test_damaged_models_are_refused_in_one_line(model: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is missing"):
        load(tmp_path)
    model.save(tmp_path)
    config = tmp_path / "config.json"
    data = json.loads(config.read_text())
    config.write_text(json.dumps({**data, "format_version": 99}))
    with pytest.raises(UserError, match="format version 99"):
        load(tmp_path)
    config.write_text("{")
    with pytest.raises(UserError, match="is not a model's config"):
        load(tmp_path)
    data["model"]["encoder"]["d_model"] = 32
    config.write_text(json.dumps(data))
    with pytest.raises(UserError, match="does not hold this model's weights"):
        load(tmp_path)
    model.save(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="does not hold this model's weights"):
        load(tmp_path)


def test_a_model_of_format_1_says_how_to_convert_it(model: Any, tmp_path: Path) -> None:
    model.save(tmp_path)
    config = tmp_path / "config.json"
    data = json.loads(config.read_text())
    assert data["format_version"] == 2
    encoder = data["model"]["encoder"]
    for old, new in (("execution", "backend"), ("scores", "activation"), ("positions", "position_encoding")):
        encoder[old] = encoder.pop(new)
    config.write_text(json.dumps({**data, "format_version": 1}))
    with pytest.raises(UserError, match="format version 1") as caught:
        load(tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for old, new in re.findall(r'"(\w+)" to "(\w+)"', message):  # followed to the letter
        encoder[new] = encoder.pop(old)
    config.write_text(json.dumps({**data, "format_version": int(re.search(r'"format_version" to (\d)', message)[1])}))  # type: ignore[index]
    waveform = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    assert_same(load(tmp_path)(waveform)[0], model(waveform)[0])


class Louder(SpeechModel):
    """A subclass with other logits than those of its config."""

    def classify(self, frames: Any, lengths: Any = None) -> Any:
        logits, lengths = super().classify(frames, lengths)
        return 2 * logits, lengths


def test_a_subclass_is_loaded_only_as_itself(model: Any, tmp_path: Path) -> None:
    louder = Louder(model.config).eval()
    louder.save(tmp_path)
    with pytest.raises(UserError, match=r"was saved from .*Louder, a subclass of SpeechModel.*model_class=Louder"):
        load(tmp_path)
    again = load(tmp_path, model_class=Louder)
    waveform = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    assert type(again) is Louder
    assert_same(again(waveform)[0], louder(waveform)[0])


def test_the_pretrained_config_is_complete_and_in_the_present_format() -> None:
    data = json.loads((FOLDER / "small-en-phones" / "config.json").read_text())
    assert data == {"format_version": 2, "model": sa.load_pretrained("small-en-phones").config.to_dict()}


@pytest.mark.parametrize(
    ("framing", "hop_ms"),
    [(Framing(sample_rate=8000), 10), (Framing(hop=320), 20), (Framing(22_050, hop=220), 220_000 / 22_050)],
)
@pytest.mark.parametrize("block", ["transformer", "conformer", "cnn"])
def test_an_encoder_in_a_model_says_the_same_milliseconds_as_the_model(
    framing: Any, hop_ms: Any, block: Any, tmp_path: Path
) -> None:
    model = SpeechModel(
        ModelConfig(
            CLASSES,
            EncoderConfig(8, d_model=8, num_heads=1, num_layers=2, d_ff=8, context=Context(4, 2), block=block),
            8,
            framing=framing,
        )
    )
    assert model.encoder.describe() == model.describe()
    assert f"frames of {hop_ms:g} ms" in repr(model.encoder)
    model.save(tmp_path / "m")
    assert copy.deepcopy(load(tmp_path / "m")).encoder.describe() == model.describe()
    assert sa.build_encoder(model.config.encoder).describe() == model.encoder.describe(hop_ms=10)


def test_a_second_is_100_frames_and_one_stride_of_labels_at_8_khz() -> None:
    config = ModelConfig(
        CLASSES,
        EncoderConfig(8, d_model=8, num_heads=1, num_layers=1, d_ff=8, context=Context(4, 2)),
        8,
        framing=Framing(sample_rate=8000),
    )
    model = SpeechModel(config).eval()
    waveform = torch.randn(1, 8000) * 0.1
    assert model(waveform)[1].tolist() == [100]
    stream = sa.Stream(model)
    labels = stream.push(waveform[0]) + stream.flush()
    assert len(labels) == 100 and labels.stop_s[-1] == pytest.approx(1.0, abs=0.02)
    wide = sa.Stream(SpeechModel(ModelConfig(CLASSES, config.encoder, 8)).eval())
    assert stream.algorithmic_latency_ms == wide.algorithmic_latency_ms, (
        "the same look-ahead in milliseconds at either rate"
    )


def test_a_saved_framing_keeps_its_samples_whatever_the_defaults(tmp_path: Path) -> None:
    """A config with all fields, as every one that was saved, means what it meant."""
    saved = {"sample_rate": 8000, "window": 400, "hop": 160, "align": "causal"}
    config = ModelConfig.from_dict(
        {"classes": ["SIL", "AA"], "encoder": {"input_dim": 8}, "num_mels": 8, "framing": saved}
    )
    assert config.to_dict()["framing"] == saved
    assert config.framing.hop_ms == 20
    assert sa.load_pretrained("small-en-phones").config.framing == Framing(16_000, 400, 160)
    assert ModelConfig.from_dict(config.to_dict()) == config


@pytest.fixture(params=["mean", "attention"])
def utterance_model(request: pytest.FixtureRequest) -> SpeechModel:
    encoder = EncoderConfig(20, d_model=16, num_heads=2, num_layers=1, d_ff=32, context=Context.truncated(4, 2))
    queries = 3 if request.param == "attention" else 1
    config = ModelConfig(
        CLASSES, encoder, num_mels=20, head="utterance", pooling=request.param, pooling_queries=queries
    )
    model = SpeechModel(config).eval()
    for parameter in model.head.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    return model


def test_an_utterance_model_gives_one_row_of_logits_a_recording(utterance_model: SpeechModel, tmp_path: Path) -> None:
    waveform = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    logits, lengths = utterance_model(waveform, torch.tensor([8000, 4000]))
    assert logits.shape == (2, 3) and lengths.tolist() == [50, 25]
    assert_same(logits[1], utterance_model(waveform[1:, :4000])[0][0])
    utterance_model.save(tmp_path)
    again = load(tmp_path)
    assert again.config == utterance_model.config
    assert_same(again(waveform)[0], utterance_model(waveform)[0])


def test_an_utterance_model_says_that_it_does_not_stream(utterance_model: SpeechModel) -> None:
    for use in (utterance_model.initial_state, lambda: sa.Stream(utterance_model)):
        with pytest.raises(ValueError, match=r"an utterance has one label: .* a whole recording"):
            use()
    with pytest.raises(UserError, match=r"does not stream: export its encoder, model\.encoder"):
        StreamingStep(utterance_model, push_frames=4)


def test_an_utterance_model_may_stack_frames_and_other_heads_have_no_pooling() -> None:
    encoder = EncoderConfig(20, d_model=16, num_heads=2, num_layers=1, d_ff=32, stack=4)
    model = SpeechModel(ModelConfig(CLASSES, encoder, num_mels=20, head="utterance", pooling="attention"))
    logits, lengths = model(torch.randn(1, 8000))
    assert logits.shape == (1, 3) and lengths.tolist() == [12]
    with pytest.raises(ConfigError, match=r"pooling has no effect with head='ctc'"):
        ModelConfig(CLASSES, encoder, num_mels=20, head="ctc", pooling="attention")
    with pytest.raises(ConfigError, match="pooling_queries has no effect with pooling='mean'"):
        ModelConfig(CLASSES, encoder, num_mels=20, head="utterance", pooling_queries=4)
