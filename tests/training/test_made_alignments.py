"""A run on recordings with transcripts and no alignments makes its labels first, once, and says so."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from noise_corpus import write_corpus, write_utterance

from speechattn.alignment import subsets
from speechattn.alignment.rounds import align_corpus
from speechattn.errors import DataError, UserError
from speechattn.system.stop_signal import Interrupted, StopSignal
from speechattn.training.config import TrainConfig
from speechattn.training.prepare import Data, prepare
from speechattn.training.run import run
from speechattn.training.run_folder import check_data, check_settings


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """A small run on noise, whose aligner is trained for one step from a flat start."""

    def quickly(utterances: Any, words: Any, pronounce: Any, folder: Any, config: Any, stop: Any, model: Any) -> Any:
        config = replace(config, start="flat", rounds=0, steps=1, min_score=-100.0)
        return align_corpus(utterances, words, pronounce, folder, config, stop, model)

    monkeypatch.setattr(subsets, "align_corpus", quickly)
    write_corpus(tmp_path)
    return TrainConfig(
        data=str(tmp_path),
        subset="train",
        test_subsets=("test",),
        lexicon=str(tmp_path / "my.dict"),
        out=str(tmp_path / "run"),
        encoder="linear",
        baselines=(),
        valid_fraction=0.3,
        num_mels=8,
        epochs=1,
        warmup_steps=0,
    )


def prepared(config: TrainConfig) -> Data:
    with StopSignal() as stop:
        return prepare(config, stop)


def test_labels_are_made_before_training_and_used_again(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = run(config)
    printed = capsys.readouterr().out
    assert printed.index("No --alignments: phones are aligned") < printed.index("train: 5 utterances aligned")
    table = tmp_path / "run" / "alignments" / "train.phones.ctm"
    assert f"  {table}" in printed
    assert "Labels were made by speechattn from the transcripts alone" in page.read_text(encoding="utf-8")
    (result,) = json.loads((tmp_path / "run" / "results.json").read_text())
    assert result["tests"]["test"]["frames"] > 100
    written = table.stat().st_mtime_ns
    check_data(tmp_path / "run", prepared(config).fingerprints())
    printed = capsys.readouterr().out
    assert "train: aligned before" in printed and "No --alignments" not in printed
    assert table.stat().st_mtime_ns == written

    given = replace(config, alignments=str(table.parent), lexicon=None)  # the same labels in another way
    check_settings(tmp_path / "run", given)
    check_data(tmp_path / "run", prepared(given).fingerprints())
    table.write_text(table.read_text().replace(" HH\n", " B\n"))
    with pytest.raises(UserError, match=r"with other data: the labels of (train|valid) differ"):
        check_data(tmp_path / "run", prepared(given).fingerprints())


def test_words_of_a_run_are_aligned_too(config: TrainConfig) -> None:
    data = prepared(replace(config, labels="words", num_words=2))
    assert data.task.classes == ("SIL", "<OTHER>", "hello", "world")


def test_the_reasons_of_the_aligner_are_listed_and_what_was_not_asked_for_is_not(
    config: TrainConfig, tmp_path: Path
) -> None:
    write_utterance(tmp_path, "train", "1-1-0001", "hello мир")
    train, _ = prepared(replace(config, speakers=("1", "2", "3"))).corpora
    assert train.summary().splitlines()[1:] == ["  left out, no pronunciation of a word: 1 (1-1-0001)"]
    assert [loss["found"] for loss in train.losses()] == ["no pronunciation of мир"]


def test_a_stop_during_the_alignment_is_continued(config: TrainConfig) -> None:
    with StopSignal() as stop, pytest.raises(Interrupted):
        stop.received = signal.SIGTERM
        prepare(config, stop)
    assert len(prepared(config).tests["test"]) == 1


def test_data_without_transcripts_are_refused(config: TrainConfig, tmp_path: Path) -> None:
    for path in tmp_path.rglob("*.trans.txt"):
        path.unlink()
    with pytest.raises(DataError, match="holds no transcripts, and alignment needs them"):
        prepared(config)
