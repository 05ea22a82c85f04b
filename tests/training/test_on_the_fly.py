"""Speed and noise drawn in every epoch: a pure function of seed, epoch and utterance, whoever computes it."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from speechattn.errors import ConfigError, DataError, UserError
from speechattn.system.stop_signal import StopSignal
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import TrainingBatches
from speechattn.training.on_the_fly import DrawnExamples
from speechattn.training.prefetch import Prefetcher, lost_worker_as_one_line
from speechattn.training.prepare import Data, prepare

RATE = 16_000


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    pytest.importorskip("torchaudio")
    lines = []
    for number in range(12):
        chapter = tmp_path / "data" / "train" / f"{10 + number % 4}" / "1"
        chapter.mkdir(parents=True, exist_ok=True)
        id = f"{10 + number % 4}-1-{number:04}"
        sound = np.random.default_rng(number).normal(scale=0.1, size=RATE + 800 * number)
        soundfile.write(chapter / f"{id}.wav", sound, RATE)
        lines += [f"{id} 1 0 0.4 SIL", f"{id} 1 0.4 {0.6 + number / 20} AH"]
    (tmp_path / "data" / "train.phones.ctm").write_text("\n".join(lines) + "\n")
    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "noise" / "hum.wav", np.sin(np.arange(RATE)) * 0.1, RATE)
    for path in tmp_path.rglob("*"):
        os.utime(path, (time.time() - 3600,) * 2)
    return TrainConfig(
        data=str(tmp_path / "data"),
        alignments=str(tmp_path / "data"),
        cache=str(tmp_path / "cache"),
        noise=str(tmp_path / "noise"),
        speed_perturb=(0.9, 1.0, 1.1),
        on_the_fly=True,
        workers=0,
        num_mels=10,
        valid_fraction=0.3,
        batch_frames=200,
        crop_frames=60,
        epochs=2,
    )


def prepared(config: TrainConfig) -> Data:
    with StopSignal() as stop:
        return prepare(config, stop)


def test_epochs_differ_and_each_is_the_same_again(config: TrainConfig) -> None:
    data = prepared(config)
    train = data.train
    assert isinstance(train, DrawnExamples)
    first = [train.drawn(i, 0) for i in range(len(train))]
    again = prepared(config).train
    assert isinstance(again, DrawnExamples)
    for i in reversed(range(len(train))):
        frames, labels = again.drawn(i, 0)
        assert torch.equal(frames, first[i][0]) and torch.equal(labels, first[i][1])
    for epoch in (0, 1):
        assert [len(train.drawn(i, epoch)[0]) for i in range(len(train))] == list(train.lengths(epoch))
    assert list(train.lengths(0)) != list(train.lengths(1))
    assert any(torch.equal(train.drawn(i, 0)[1], train[i].labels) for i in range(len(train))), "some keep their speed"
    other = prepared(replace(config, seed=1, valid_fraction=0.31)).train
    assert isinstance(other, DrawnExamples) and other.source(0).id in {item.id for item in train.utterances}
    assert len(data.valid) + len(train) == 12 and "noise" in data.fingerprints()


def test_batches_are_those_of_an_epoch(config: TrainConfig) -> None:
    batches = TrainingBatches(prepared(config).train, config)
    for epoch in (0, 1):
        for batch in batches.epoch(epoch):
            frames, lengths, labels = batches.load(batch)
            assert frames.shape[:2] == labels.shape and lengths.tolist() == [piece.num_frames for piece in batch]
            assert {piece.epoch for piece in batch} == {epoch}


@pytest.mark.slow
def test_workers_give_the_same_batches_from_any_place_on(config: TrainConfig, tmp_path: Path) -> None:
    train = prepared(config).train
    here, ahead = TrainingBatches(train, config), TrainingBatches(train, replace(config, workers=2))
    places = [(epoch, k) for epoch in (0, 1) for k in range(len(here.epoch(epoch)))]
    for epoch, k in [*places[2:], *places[:1]]:  # from the third on, and then from the start
        got, wanted = ahead.load(ahead.epoch(epoch)[k]), here.load(here.epoch(epoch)[k])
        assert all(torch.equal(a, b) for a, b in zip(got, wanted, strict=True))
    for path in (tmp_path / "data").rglob("*.wav"):
        path.write_text("404")
    with pytest.raises(DataError, match=r"\.wav holds text, not audio"):
        for epoch, k in places:
            TrainingBatches(train, replace(config, workers=1)).load(here.epoch(epoch)[k])


@pytest.mark.slow
def test_a_run_with_workers_ends(config: TrainConfig, tmp_path: Path) -> None:
    settings = replace(config, workers=1, epochs=1, encoder="linear", baselines=(), out=str(tmp_path / "run"))
    (tmp_path / "config.json").write_text(json.dumps(replace(settings, subset="train").to_dict()))
    command = [sys.executable, "-m", "speechattn", "train", "--config", str(tmp_path / "config.json")]
    ended = subprocess.run(command, timeout=300, capture_output=True, text=True, check=True)
    assert "report.html" in ended.stdout


def test_there_must_be_something_to_draw() -> None:
    with pytest.raises(ConfigError, match=r"on_the_fly has nothing to draw: give --speed-perturb"):
        TrainConfig(on_the_fly=True)


def test_another_error_is_not_taken_for_a_lost_worker() -> None:
    with pytest.raises(RuntimeError, match="other") as found, lost_worker_as_one_line():
        raise RuntimeError("other")
    assert not isinstance(found.value, UserError)


@pytest.mark.slow
def test_a_worker_that_dies_is_one_line_for_the_user(config: TrainConfig) -> None:
    batches = TrainingBatches(prepared(config).train, replace(config, workers=1, epochs=50))
    with pytest.raises(UserError, match=r"^a process that makes batches has ended .* --workers"):  # noqa: SIM117
        with lost_worker_as_one_line():
            for epoch in range(50):
                for batch in batches.epoch(epoch):
                    batches.load(batch)
                    for worker in multiprocessing.active_children():
                        worker.kill()


@pytest.mark.parametrize("error", [ConnectionResetError(104, "Connection reset by peer"), EOFError()])
def test_a_worker_that_dies_while_it_sends_is_one_line_for_the_user(config: TrainConfig, error: Exception) -> None:
    def cut() -> Iterator[Any]:
        raise error
        yield

    batches = TrainingBatches(prepared(config).train, replace(config, workers=0))
    ahead = Prefetcher(batches, num_workers=1)
    ahead._iterator, ahead._next = cut(), (0, 0)
    with pytest.raises(UserError, match="a process that makes batches has ended"), lost_worker_as_one_line():
        ahead.load(batches.epoch(0)[0])
