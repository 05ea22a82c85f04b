"""Classifiers of utterances: the task, one run from sound files to report, evaluation elsewhere, cross-validation."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechattn.cli.main import main
from speechattn.config import EncoderConfig
from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.data.labels.segments import Utterance
from speechattn.errors import ConfigError, DataError, UserError
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.stop_signal import Interrupted, StopSignal
from speechattn.training.config import TrainConfig
from speechattn.training.cross_validation import CrossValidation, cross_validate, make_folds
from speechattn.training.evaluate import evaluate_directory
from speechattn.training.initial_weights import start_from
from speechattn.training.run import run
from speechattn.training.tasks.utterance import UtteranceTask

SPEAKERS = ("ann", "bob", "cid")
TONES = {"high": 1500, "low": 300}


def record(path: Path, hertz: float, seed: int, rate: int = 8000) -> None:
    """Write 0.4 s of a tone in noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    time_s = np.arange(round(0.4 * rate)) / rate
    soundfile.write(path, np.sin(2 * np.pi * hertz * time_s) / 4 + random.standard_normal(len(time_s)) / 50, rate)


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class folder: high and low tones of three speakers, who differ a little."""
    folder = tmp_path_factory.mktemp("tones")
    for name, hertz in TONES.items():
        for index, speaker in enumerate(SPEAKERS):
            for take in range(4):
                record(folder / name / speaker / f"{take}.wav", hertz * (1 + 0.1 * index), 10 * index + take)
    return folder


@pytest.fixture
def config(tones: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        task="utterance",
        labels="classes",
        data=str(tones),
        subset=".",
        sample_rate=8000,
        pooling="attention",
        out=str(tmp_path / "run"),
        valid_speakers=("cid",),
        baselines=("linear",),
        num_mels=20,
        left=4,
        right=3,
        d_model=16,
        num_heads=2,
        num_layers=1,
        d_ff=32,
        batch_frames=160,
        epochs=2,
        warmup_steps=5,
        workers=0,
        augment=False,
    )


def item(label: str, speaker: str = "ann") -> LabelledUtterance:
    return LabelledUtterance(Utterance(f"{label}-{speaker}", speaker, Path("x.wav"), label=label), 8000, [])


def test_classes_are_those_of_the_recordings_with_numbers_in_their_order() -> None:
    items = [item("10", "bob"), item("9"), item("x"), item("9", "bob")]
    task = UtteranceTask.of(items, "classes")
    assert task.classes == ("9", "10", "x") and task.head == "utterance"
    assert task.targets(items[0], Framing()).tolist() == [1]
    assert UtteranceTask.of(items, "speakers").classes == ("ann", "bob")
    assert UtteranceTask.of(items, "speakers").targets(items[0], Framing()).tolist() == [1]
    with pytest.raises(DataError, match="has the class 'y', which the training data do not have"):
        task.targets(item("y"), Framing())
    with pytest.raises(DataError, match=r"needs two classes or more, and the recordings have 1 \(9\)"):
        UtteranceTask.of(items[1:2], "classes")


def test_a_class_without_training_examples_is_named() -> None:
    task = UtteranceTask(("no", "yes"))
    task.check_training([item("no"), item("yes")])
    with pytest.raises(DataError, match=r"yes has no training example, only held-out ones.*--valid-speakers"):
        task.check_training([item("no")])


def test_scores_count_rows_and_ignore_those_without_a_label() -> None:
    task = UtteranceTask(("a", "b", "c"))
    logits = torch.tensor([[2.0, 0, 0], [0, 2, 0], [0, 2, 0], [0, 0, torch.nan]])
    labels, lengths = torch.tensor([[0], [1], [2], [-100]]), torch.tensor([5, 4, 3, 0])
    scores = task.scores()
    scores.update(logits, lengths, labels)
    summary = scores.summary()
    assert scores.count == summary["utterances"] == 3 and scores.accuracy == pytest.approx(2 / 3)
    assert summary["confusion"] == [[1, 0, 0], [0, 1, 0], [0, 1, 0]] and summary["chance"] == pytest.approx(1 / 3)
    assert summary["per_class"]["c"] == (0.0, 1)
    assert int(task.num_targets(labels)) == 3
    assert float(task.accuracy(logits[:3], lengths[:3], labels[:3])) == pytest.approx(2 / 3)
    expected = torch.nn.functional.cross_entropy(logits[:3], labels[:3, 0])
    assert torch.allclose(task.loss(logits[:3], lengths[:3], labels[:3]), expected)
    assert task.majority([torch.tensor([2]), torch.tensor([2]), torch.tensor([0])]) == 2


@pytest.mark.filterwarnings("ignore:.* is resampled")
def test_a_run_trains_scores_and_reports_and_its_model_is_evaluated_on_another_folder(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run(config)
    rows = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [row["encoder"] for row in rows] == ["truncated", "linear"]
    assert rows[0]["steps"] >= 5 and rows[0]["utterances"] == 8 and 0 <= rows[0]["accuracy"] <= 1
    assert rows[0]["baseline"]["accuracy"] == rows[0]["chance"] == 0.5
    assert (
        "Where attention pooling looks" in page.read_text() or (tmp_path / "run" / "pictures" / "pooling.png").exists()
    )
    model = load(tmp_path / "run" / "model")
    assert model.config.classes == ("high", "low") and model.config.framing.sample_rate == 8000
    assert model(torch.randn(1, 3200))[0].shape == (1, 2)

    other = tmp_path / "other"
    for place in ("high/dan/0.wav", "high/dan/1.wav", "noise/dan/0.wav", "tone/dan/0.wav"):
        record(other / place, 1500, seed=5, rate=16_000)
    capsys.readouterr()
    found = evaluate_directory(str(tmp_path / "run" / "model"), str(other), ".", None, None)
    printed = capsys.readouterr().out
    assert found["utterances"] == 2 and found["task"] == "utterance"
    assert found["skipped"] == {
        "'noise' is no class of the model": ["noise-dan-0"],
        "'tone' is no class of the model": ["tone-dan-0"],
    }
    assert "1 of the model's 2 classes do not occur: low" in printed
    for place in ("noise", "tone"):
        record(tmp_path / "foreign" / place / "dan" / "0.wav", 300, seed=1)
    with pytest.raises(DataError, match=r"no recording of foreign has a class .* has noise, tone, the model high, low"):
        evaluate_directory(str(tmp_path / "run" / "model"), str(tmp_path / "foreign"), ".", None, None)


def test_speakers_of_librispeech_are_classes_and_a_model_of_them_is_evaluated(
    config: TrainConfig, librispeech_tiny: Path, tmp_path: Path
) -> None:
    data = str(librispeech_tiny / "LibriSpeech")
    settings = replace(config, labels="speakers", data=data, subset="test-clean", valid_speakers=(), sample_rate=16_000)
    run(replace(settings, split="utterances", valid_fraction=0.4, crop_frames=100, baselines=(), epochs=1))
    model = str(tmp_path / "run" / "model")
    assert load(model).config.classes == ("1089", "1995")
    found = evaluate_directory(model, data, "test-clean", None, None)
    assert set(found["per_class"]) == {"1089", "1995"} and not found["skipped"]


def test_settings_without_a_meaning_are_refused(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no speaker dan to hold out"):
        run(replace(config, valid_speakers=("dan",)))
    with pytest.raises(ConfigError, match="sample_rate"):
        replace(config, sample_rate=11_025)
    for name in TONES:
        record(tmp_path / "alone" / name / "ann" / "0.wav", 300, 1)
    with pytest.raises(DataError, match=r"needs at least 2 speakers, got 1 \(ann\)"):
        run(replace(config, data=str(tmp_path / "alone"), valid_speakers=()))
    record(tmp_path / "alone" / "high" / "bob" / "0.wav", 300, 1)
    with pytest.raises(DataError, match="low has no training example"):
        run(replace(config, data=str(tmp_path / "alone"), valid_speakers=("ann",)))


def test_recordings_without_speakers_are_not_split_by_speaker(config: TrainConfig, tmp_path: Path) -> None:
    for name, hertz in TONES.items():
        for take in range(6):
            record(tmp_path / "plain" / name / f"{take}.wav", hertz, take)
    plain = replace(config, data=str(tmp_path / "plain"), valid_speakers=(), baselines=(), epochs=1)
    with pytest.raises(DataError, match=r"names no speakers.*--split utterances"):
        run(plain)
    run(replace(plain, split="utterances", valid_fraction=0.3))
    with pytest.raises(DataError, match=r"has 0 by the layout '{class}/{file}'"):
        make_folds(plain)


def test_each_speaker_is_held_out_once_and_a_second_start_trains_nothing(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = replace(config, valid_speakers=(), baselines=(), epochs=1)
    found = cross_validate(settings)
    assert found.folds == SPEAKERS and found.utterances == (8, 8, 8)
    assert np.sum(found.confusions["truncated"]) == 24
    right = np.trace(np.array(found.confusions["truncated"]))
    assert found.mean("truncated") == pytest.approx(right / 24) and found.majority() == 0.5
    monkeypatch.setattr("speechattn.training.run.run", lambda *_: pytest.fail("a fold was trained again"))
    assert cross_validate(settings).accuracies == found.accuracies
    table = (tmp_path / "run" / "cross_validation.md").read_text()
    assert "| truncated |" in table and "ann (8)" in table and "| chance | 0.5000 |" in table and "Commit" in table
    written = json.loads((tmp_path / "run" / "cross_validation.json").read_text())
    assert written["encoders"]["truncated"]["mean"] == found.mean("truncated") and written["chance"] == 0.5
    assert (tmp_path / "run" / "confusion.png").stat().st_size > 1000
    with pytest.raises(UserError, match="other settings: learning_rate"):
        cross_validate(replace(settings, learning_rate=1e-3))
    assert main(["cross-validate", "--task", "frames"]) == 2 and "for --task utterance" in capsys.readouterr().err


def test_a_signal_while_a_fold_writes_its_report_stops_before_the_next(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def run_and_be_stopped(fold: TrainConfig, restart: bool) -> None:
        started.append(fold.valid_speakers)
        with StopSignal():  # that of a run, which polls it no more
            os.kill(os.getpid(), signal.SIGTERM)
        (Path(fold.out)).mkdir(parents=True)
        (Path(fold.out) / "results.json").write_text("[]")

    monkeypatch.setattr("speechattn.training.run.run", run_and_be_stopped)
    with pytest.raises(Interrupted):
        cross_validate(replace(config, valid_speakers=()))
    assert started == [("ann",)]


def test_models_of_speakers_are_cross_validated_over_splits_of_utterances(config: TrainConfig) -> None:
    folds = make_folds(replace(config, labels="speakers", valid_speakers=(), split="utterances"), num_splits=3)
    assert [fold.name for fold in folds] == ["split 0", "split 1", "split 2"]
    assert [fold.config.split_seed for fold in folds] == [0, 1, 2]
    with pytest.raises(UserError, match="holds out each speaker in turn"):
        make_folds(config)


def test_a_table_of_folds_has_the_mean_of_folds_of_different_sizes() -> None:
    row = {"encoder": "mlp", "per_class": {"a": [1, 1], "b": [1, 1]}, "parameters": 9, "seconds": 1.0}
    one = {**row, "accuracy": 1.0, "utterances": 2, "confusion": [[1, 0], [0, 1]]}
    two = {**row, "accuracy": 0.5, "utterances": 4, "confusion": [[2, 0], [2, 0]]}
    found = CrossValidation.of(["x", "y"], [[one], [two]])
    assert found.mean("mlp") == 0.75 and found.std("mlp") == pytest.approx(0.125**0.5)
    assert found.rows()[0][3:5] == ["x (2)", "y (4)"] and found.seconds == {"mlp": 2.0}
    with pytest.raises(UserError, match="no result of the encoder mlp"):
        CrossValidation.of(["x", "y"], [[one], [{**two, "encoder": "cnn"}]])


def test_a_model_of_phones_gives_its_encoder_and_the_run_may_fit_its_own_normalisation() -> None:
    encoder = EncoderConfig(20, d_model=16, num_heads=2, num_layers=1, d_ff=32)
    phones = SpeechModel(ModelConfig(("SIL", "AA"), encoder, num_mels=20))
    phones.normalize.mean.fill_(7)
    for keep, mean in ((False, 7.0), (True, 0.0)):
        model = SpeechModel(ModelConfig(("no", "yes"), encoder, num_mels=20, head="utterance", pooling="attention"))
        said = start_from(model, phones, keep_normalize=keep)
        pairs = zip(model.encoder.parameters(), phones.encoder.parameters(), strict=True)
        assert all(torch.equal(mine, theirs) for mine, theirs in pairs)
        assert torch.all(model.normalize.mean == mean)
        assert "The head is new, because that of the saved model (frames) has 2 other classes" in said
        assert ("normalisation" in said) is not keep
    other = SpeechModel(ModelConfig(("no", "yes"), encoder, num_mels=20, head="utterance"))
    assert "(utterance) is of another kind" in start_from(other, model)
    with pytest.raises(ConfigError, match="refit_normalize needs init"):
        TrainConfig(refit_normalize=True)
