"""What a run takes for its data: wherever they lie, whichever of them are damaged, and what it compares itself with."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechattn import EncoderConfig, ModelConfig, SpeechModel
from speechattn.cli import main as cli
from speechattn.data.labelled_corpus import load_corpus
from speechattn.errors import ConfigError, DataError, UserError
from speechattn.frontend.logmel import LogMel
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import make_examples
from speechattn.training.evaluate import evaluate_directory
from speechattn.training.report_notes import notes
from speechattn.training.report_page import result_rows
from speechattn.training.report_sections.inputs import ReportInputs
from speechattn.training.run import run
from speechattn.training.run_folder import comparable
from speechattn.training.tasks.frames import FrameTask

IDS = [f"{10 + i % 10}-1-{i:04}" for i in range(50)]
CUT = "19-1-0049"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty recordings of ten speakers, three of another for a test: 0.3 s each, of which 0.2 s are AH."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "alignments").mkdir()
    for subset, ids in (("train", IDS), ("test", ["30-1-0000", "30-1-0001", "30-1-0002"])):
        lines = []
        for number, id in enumerate(ids):
            chapter = folder / "LibriSpeech" / subset / id.split("-")[0] / "1"
            chapter.mkdir(parents=True, exist_ok=True)
            sound = np.random.default_rng([number, len(ids)]).uniform(-0.1, 0.1, 4800)
            soundfile.write(chapter / f"{id}.wav", sound, 16_000)
            lines += [f"{id} 1 0 0.1 sil", f"{id} 1 0.1 0.2 AH1"]
        (folder / "alignments" / f"{subset}.phones.ctm").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "data"))


@pytest.fixture
def config(root: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        data=str(root),
        subset="train",
        alignments=str(root / "alignments"),
        test_subsets=("test",),
        out=str(tmp_path / "run"),
        encoder="linear",
        baselines=(),
        d_model=4,
        num_heads=2,
        num_mels=10,
        epochs=1,
        augment=False,
        valid_fraction=0.3,
    )


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """The arguments of the report of a run, which is not drawn."""
    given: dict[str, Any] = {}

    def keep(directory: Path, inputs: ReportInputs, left_out: Sequence[str]) -> Path:
        given.update(results=result_rows(inputs), notes=notes(inputs, {}, left_out))
        return directory / "report.html"

    monkeypatch.setattr("speechattn.training.run.report_run", keep)
    return given


def wav(root: Path, id: str, subset: str = "train") -> Path:
    return root / "LibriSpeech" / subset / id.split("-")[0] / "1" / f"{id}.wav"


def options(config: TrainConfig) -> list[str]:
    """The command line of a config, as far as it differs from the default."""
    words = []
    for key, value in config.to_dict().items():
        if value not in (TrainConfig().to_dict()[key], []):
            flag = key.replace("_", "-")
            words += ["--no-augment"] if value is False else [f"--{flag}", *map(str, np.atleast_1d(value))]
    return words


# Damage


def test_one_bad_file_of_fifty_names_the_option_that_goes_on_without_it(
    config: TrainConfig, root: Path, reported: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The message spoke of max_bad, which train did not have: one file of fifty ended every try."""
    wav(root, CUT).write_bytes(wav(root, CUT).read_bytes()[:3000])
    with (root / "alignments" / "train.phones.ctm").open("a") as file:
        file.write("10-1-0000 1 0.3 x AH\n")
    arguments = ["train", "--baselines", "linear", *options(config)]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "2 of 50 utterances (4.0%) cannot be used: 10-1-0000 (" in error and f"{CUT} (truncated)" in error
    assert "with --max-bad 0.04 " in error
    assert cli.main([*arguments, "--max-bad", "0.04"]) == 0
    lines = (Path(config.out) / "skipped.jsonl").read_text().splitlines()
    losses = {loss["id"]: loss for loss in map(json.loads, lines)}
    assert losses.keys() == {CUT, "10-1-0000"}
    assert {loss["subset"] for loss in losses.values()} == {"train"}
    assert losses[CUT]["reason"] == "truncated" and losses[CUT]["found"].startswith(f"{wav(root, CUT)}: truncated")
    assert losses["10-1-0000"]["reason"] == "damaged alignment" and "phones.ctm:101:" in losses["10-1-0000"]["found"]
    (note,) = (note for note in reported["notes"] if "left out" in note)
    assert "left out, truncated: 1 (19-1-0049)" in note and "skipped.jsonl" in note


def test_damage_in_a_test_subset_stops_unless_a_share_is_given(
    config: TrainConfig, root: Path, reported: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wav(root, "30-1-0001", "test").write_text("404")
    with pytest.raises(DataError, match=r"1 of 3 .*: 30-1-0001 \(text\)\. max_bad allows 0\.0%.* --max-bad 0\.334 "):
        run(config)
    run(replace(config, max_bad=0.334))
    arguments = ["evaluate", "--model", str(tmp_path / "run" / "model"), "--data", str(root), "--subset", "test/"]
    arguments += ["--alignments", str(root / "alignments"), "--json-out", str(tmp_path / "scores.json")]
    assert cli.main(arguments) == 2 and "--max-bad 0.334 " in capsys.readouterr().err
    assert cli.main([*arguments, "--max-bad", "0.334"]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["skipped"] == {"text": ["30-1-0001"]} and scores["utterances"] == 2
    with pytest.raises(ConfigError, match=r"max_bad must be a share from 0 to 1, got 2"):
        replace(config, max_bad=2)


def test_labels_that_cannot_be_frames_name_their_utterance(root: Path) -> None:
    corpus = load_corpus(root, "train", root / "alignments")
    corpus.utterances[7] = replace(corpus.utterances[7], segments=[*corpus.utterances[7].segments[::-1]] * 2)
    with pytest.raises(DataError, match=f"^train: utterance {corpus.utterances[7].id}: segments overlap"):
        make_examples(corpus, LogMel(10), FrameTask(("SIL", "AH")))


# Other data, or the same elsewhere


def test_the_same_data_elsewhere_continue_a_run(
    config: TrainConfig, root: Path, reported: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that was moved, a relative path and a slash at its end were other settings."""
    run(replace(config, baselines=("mlp", "linear")))
    trained = (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns
    moved = root.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    elsewhere: dict[str, Any] = {
        "data": "moved/LibriSpeech/",
        "alignments": os.path.relpath(moved / "alignments") + "/",
        "out": "./run/",
        "subset": "./train/",
        "test_subsets": ("test/",),
        "baselines": ("linear", "mlp"),
        "max_bad": 0.5,
        "checkpoint_seconds": 5,
    }
    run(replace(config, **elsewhere))
    assert (tmp_path / "run" / "model" / "model.safetensors").stat().st_mtime_ns == trained
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written["data"] == "moved/LibriSpeech/" and written["subset"] == "train"


def _other_sound(root: Path) -> None:
    soundfile.write(wav(root, CUT), np.zeros(4800), 16_000)


def _other_test_sound(root: Path) -> None:
    soundfile.write(wav(root, "30-1-0001", "test"), np.zeros(4800), 16_000)


def _other_labels(root: Path) -> None:
    path = root / "alignments" / "train.phones.ctm"
    path.write_text(path.read_text().replace("AH1", "B", 1))


def _one_less(root: Path) -> None:
    wav(root, CUT).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_sound, "sound files of (train|valid) differ"),
        (_other_test_sound, "sound files of test subset test differ"),
        (_other_labels, "the labels of (train|valid) differ"),
        (_one_less, r"(train|valid) had (\d+) utterances and has (\d+)"),
    ],
)
def test_other_data_are_refused_and_the_difference_is_named(
    config: TrainConfig,
    root: Path,
    change: Callable[[Path], None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("speechattn.training.run._train_one", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    for _ in range(2):  # interrupted as soon as its data were known, and again: the same data
        with pytest.raises(KeyboardInterrupt):
            run(config)
    change(root)
    with pytest.raises(UserError, match=f"holds a run with other data: .*{message}"):
        run(config)


def test_a_run_with_noise_is_another_run_but_the_folder_of_noise_may_move() -> None:
    assert comparable("noise", "here") == comparable("noise", "there/") != comparable("noise", None)
    assert comparable("learning_rate", 1) == comparable("learning_rate", 1.0) != comparable("learning_rate", 0.1)
    assert comparable("speed_perturb", [1.0, 0.9]) != comparable("speed_perturb", [0.9, 1.0]), (
        "the order of the batches"
    )


# The baseline


def test_the_baseline_is_the_class_that_most_training_frames_have(
    config: TrainConfig, root: Path, reported: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The baseline was called "always SIL" in a corpus with little silence."""
    run(config)
    (result,) = json.loads((tmp_path / "run" / "results.json").read_text())
    counts = np.array(result["confusion"]).sum(1)
    assert result["baseline"] == {
        "label": "AH",
        "accuracy": counts.max() / counts.sum(),
        "accuracy_no_sil": 1.0,
        "tests": {"test": pytest.approx(2 / 3, abs=0.04)},
    }
    assert reported["results"][-1] == {
        "encoder": "always AH",
        "accuracy": counts.max() / counts.sum(),
        "accuracy_no_sil": 1.0,
        "tests/test": result["baseline"]["tests"]["test"],
    }
    scores = evaluate_directory(str(tmp_path / "run" / "model"), str(root), "test", str(root / "alignments"), None)
    assert scores["baseline"] == {
        "label": "AH",
        "accuracy": result["baseline"]["tests"]["test"],
        "accuracy_no_sil": 1.0,
    }
    assert f"always AH {scores['baseline']['accuracy']:.4f}" in capsys.readouterr().out


# A model without frames


def test_a_recipe_says_to_which_recipe_the_model_of_another_belongs(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = EncoderConfig(input_dim=10, d_model=4, num_heads=2, num_layers=1)
    SpeechModel(ModelConfig(("<blank>", "a", "b"), encoder, num_mels=10, head="ctc")).save(tmp_path / "ctc")
    arguments = ["--model", str(tmp_path / "ctc"), "--data", str(root), "--subset", "test"]
    assert cli.main(["evaluate", *arguments, "--alignments", str(root / "alignments")], task="frames") == 2
    error = capsys.readouterr().err
    assert "is a model of recipes/ctc" in error and "this is recipes/frame_classifier" in error
    assert "recipes/ctc/evaluate.py" in error
