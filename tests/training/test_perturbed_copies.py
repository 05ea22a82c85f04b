"""Training utterances again at other speeds and in noise: what a copy is, and whole runs with MFCC, speed and noise."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from rounding import assert_same

from speechattn.augment.noise import NoiseFolder
from speechattn.cli import train as commands
from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segments import Segment, Utterance
from speechattn.errors import ConfigError, UserError
from speechattn.framing import Framing
from speechattn.frontend.mfcc import MFCC
from speechattn.models.speech_model import load
from speechattn.system.optional_imports import require_torchaudio
from speechattn.system.stop_signal import StopSignal
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import fingerprint
from speechattn.training.perturbed_copies import Copies, segments_at_speed
from speechattn.training.prepare import prepare
from speechattn.training.run import run

RATE = 16_000


@pytest.fixture(autouse=True)
def _torchaudio() -> None:
    try:
        require_torchaudio("This test")
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    folder = tmp_path / "noise"
    folder.mkdir()
    for name, seconds in (("rain", 2.0), ("hum", 0.3)):
        hiss = np.random.default_rng(0).normal(scale=0.1, size=round(seconds * RATE))
        soundfile.write(folder / f"{name}.wav", hiss, RATE)
    return folder


def spoken(id: str, seconds: float = 1.0) -> tuple[LabelledUtterance, torch.Tensor]:
    """Silence, then a tone, then silence, labelled so."""
    waveform = torch.zeros(round(seconds * RATE))
    start, stop = round(0.4 * len(waveform)), round(0.7 * len(waveform))
    waveform[start:stop] = torch.sin(torch.arange(stop - start) * 0.5)
    times = [0.0, 0.4 * seconds, 0.7 * seconds, seconds]
    segments = [Segment(a, b, label) for a, b, label in zip(times, times[1:], ("SIL", "AA", "SIL"), strict=False)]
    return LabelledUtterance(Utterance(id, "speaker", Path(f"{id}.flac")), len(waveform), segments), waveform


def test_a_copy_for_each_speed_with_its_labels_where_the_sound_is() -> None:
    copies = list(Copies(speeds=(0.9, 1.0, 1.1))([spoken("a")]))
    assert [utterance.id for utterance, _ in copies] == ["sp0.9-a", "a", "sp1.1-a"]
    for speed, (utterance, waveform) in zip((0.9, 1.0, 1.1), copies, strict=True):
        assert utterance.num_samples == len(waveform) == -(-RATE * 10 // round(10 * speed))
        assert utterance.speaker == "speaker" and utterance.utterance.path == Path("a.flac")
        labels = frame_labels(utterance.segments, len(waveform), Framing(align="snip"), ("SIL", "AA"))
        loud = waveform.unfold(0, 400, 160).square().mean(1) > 0.25  # more than half of the window is tone
        assert (loud == (labels == 1)).float().mean() > 0.97
    original, waveform = spoken("a")
    assert copies[1][0] == original and torch.equal(copies[1][1], waveform)


@pytest.mark.parametrize("speed", [0.5, 0.9, 1.0, 1.1, 2.0])
def test_what_was_admitted_stays_admitted_at_any_speed(speed: float) -> None:
    """An alignment that ends up to 0.5 s after its audio is clipped; at 0.9 times the speed it was refused."""
    utterance, waveform = spoken("a")
    long = replace(utterance, segments=[Segment(0.0, 0.5, "SIL"), Segment(0.5, 1.49, "AA"), Segment(1.49, 1.5, "SIL")])
    for sample_rate in (RATE, 8000):
        ((copy, sound),) = Copies((speed,), sample_rate=sample_rate)([(long, waveform[:sample_rate])])
        framing = Framing(sample_rate, window=sample_rate // 40, hop=sample_rate // 100)
        labels = frame_labels(copy.segments, len(sound), framing, ("SIL", "AA"))
        assert len(sound) == pytest.approx(sample_rate / speed, abs=1)
        half = pytest.approx(0.5, abs=0.04)  # two of 50 frames: where the first ones have their centres
        assert (labels == 1).float().mean() == half and not bool((labels < 0).any())


def test_segments_divide_by_the_speed_and_keep_touching() -> None:
    moved = segments_at_speed([Segment(0.0, 0.3, "AA"), Segment(0.3, 1.1, "B")], 1.1)
    assert moved[0].stop_s == moved[1].start_s and moved[1].stop_s == pytest.approx(1.0)


def test_noise_is_a_second_copy_at_a_ratio_in_the_range(noise: Path) -> None:
    copies = list(Copies((1.0, 1.1), NoiseFolder(noise), (3.0, 9.0), seed=1)([spoken("a"), spoken("b", 0.5)]))
    ids = [utterance.id for utterance, _ in copies]
    assert len(set(ids)) == 8 and ids[0] == "a" and ids[1].startswith("a+") and ids[1].endswith(" dB")
    for (clean, before), (noisy, after) in zip(copies[::2], copies[1::2], strict=True):
        assert noisy.segments == clean.segments and noisy.num_samples == len(after) == len(before)
        ratio = 10 * torch.log10(before.square().sum() / (after - before).square().sum())
        assert 3 <= ratio.item() <= 9 and ratio.item() == pytest.approx(float(noisy.id.split()[-2]), abs=0.01)


def test_copies_depend_on_seed_and_id_and_on_nothing_before_them(noise: Path) -> None:
    folder = NoiseFolder(noise)
    together = dict((u.id, w) for u, w in Copies(noise=folder)([spoken("a"), spoken("b")]))
    alone = dict((u.id, w) for u, w in Copies(noise=folder)([spoken("b")]))
    assert_same([together[id] for id in alone], list(alone.values()))
    assert [u.id for u, _ in Copies(noise=folder, seed=1)([spoken("b")])][1] not in together


def test_validation_is_given_back_as_it_was(noise: Path) -> None:
    copies = Copies((0.9, 1.1), NoiseFolder(noise), untouched={"b"})
    ids = [utterance.id for utterance, _ in copies([spoken("a"), spoken("b")])]
    assert len(ids) == 5 and ids[-1] == "b" and "a" not in ids


def test_settings_are_checked_when_the_config_is_built() -> None:
    refused: list[tuple[dict[str, Any], str]] = [
        ({"speed_perturb": ()}, "different speeds, 1.0 for none"),
        ({"speed_perturb": (0.9, 0.9)}, "different speeds"),
        ({"speed_perturb": (9.0,)}, "from 0.5 to 2"),
        ({"speed_perturb": (1.001,)}, "two decimals, got 1.001"),
        ({"noise_snr_db": (20.0, 5.0)}, "noise_snr_db"),
        ({"noise_snr_db": (5.0,)}, "noise_snr_db"),
        ({"features": "mfc"}, "Did you mean 'mfcc'"),
        ({"features": "mfcc", "num_ceps": 50}, "num_ceps must be 1 to num_mels = 40"),
        ({"features": "mfcc", "deltas": -1}, "deltas"),
    ]
    for settings, message in refused:
        with pytest.raises(ConfigError, match=message):
            TrainConfig(**settings)
    assert TrainConfig(features="mfcc", deltas=1).encoder_config("linear").input_dim == 26
    options = ["--features", "mfcc", "--speed-perturb", "0.9", "1.0", "1.1", "--noise", "DIR", "--noise-snr-db", "0"]
    config, _ = commands.parse_train([*options, "15"], {})
    assert (config.features, config.speed_perturb, config.noise) == ("mfcc", (0.9, 1.0, 1.1), "DIR")
    assert config.noise_snr_db == (0.0, 15.0)


@pytest.fixture
def config(librispeech_tiny: Path, noise: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        data=str(librispeech_tiny / "LibriSpeech"),
        subset="test-clean",
        alignments=str(librispeech_tiny / "alignments"),
        test_subsets=("dev-clean",),
        valid_fraction=0.3,
        out=str(tmp_path / "run"),
        baselines=(),
        features="mfcc",
        num_mels=23,
        left=4,
        right=3,
        d_model=16,
        num_heads=2,
        num_layers=1,
        d_ff=32,
        epochs=1,
        warmup_steps=2,
        speed_perturb=(0.9, 1.0, 1.1),
        noise=str(noise),
    )


def test_a_run_with_mfcc_speeds_and_noise(config: TrainConfig, noise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = run(config)
    monkeypatch.setattr("speechattn.training.run.report_run", lambda *_: page)  # once is enough
    model = load(page.parent / "model")
    assert isinstance(model.frontend, MFCC) and model.config.num_features == 39 == len(model.normalize.mean)
    assert model.config == config.model_config("truncated", model.config.classes)
    logits, lengths = model(torch.randn(1, RATE) * 0.1)
    assert logits.shape == (1, 100, 41) and lengths.tolist() == [100]
    assert "delta 2" in model.describe() and "delta 2" in page.read_text()
    written = (page.parent / "model" / "model.safetensors").stat().st_mtime_ns
    assert run(config) == page and (page.parent / "model" / "model.safetensors").stat().st_mtime_ns == written
    with pytest.raises(UserError, match="speed_perturb was"):
        run(replace(config, speed_perturb=(1.0,)))
    soundfile.write(noise / "rain.wav", np.zeros(RATE), RATE)
    with pytest.raises(UserError, match="other data"):
        run(config)


def test_the_data_of_a_run_are_the_copies_of_its_training_side(config: TrainConfig) -> None:
    with StopSignal() as stop:
        data, again = prepare(config, stop), prepare(config, stop)
        plain = prepare(replace(config, speed_perturb=(1.0,), noise=None), stop)
        other = prepare(replace(config, noise_snr_db=(0.0, 1.0)), stop)
    assert len(data.train) == 6 * len(plain.train)
    for side in ("valid", "train"):
        assert fingerprint(getattr(data, side)) == fingerprint(getattr(again, side))
    assert fingerprint(data.valid) == fingerprint(plain.valid)
    assert len({fingerprint(side) for side in (data.train, plain.train, other.train)}) == 3
    assert_same([example.frames for example in data.train], [example.frames for example in again.train])
    frames = {
        speed: sum(len(e.labels) for e in data.train if e.utterance.id.startswith(speed))
        for speed in ("sp0.9", "sp1.1")
    }
    assert frames["sp0.9"] / frames["sp1.1"] == pytest.approx(1.1 / 0.9, rel=0.01)
