"""The loop: batches that are a pure function, learning that happens, and kill -9 that changes nothing."""

import itertools
import json
import math
import multiprocessing
import random
import signal
import time
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from small_runs import TASK, config_of, example, new_model, run

from speechattn.config import EncoderConfig
from speechattn.data.labels.segments import IGNORE
from speechattn.data.synthetic.arpabet import CLASSES
from speechattn.errors import UserError
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel
from speechattn.system.stop_signal import Interrupted
from speechattn.training.checkpoint import load_checkpoint
from speechattn.training.config import EncoderKind, TrainConfig
from speechattn.training.dataset import Example, TrainingBatches, fingerprint
from speechattn.training.optimizers import learning_rate, make_optimizers
from speechattn.training.run_log import RunLog
from speechattn.training.trainer import Progress


@pytest.fixture
def examples() -> list[Example]:
    return [example(i, 60 + 37 * i) for i in range(8)]


def test_an_epoch_covers_every_frame_once_and_is_a_pure_function(examples: list[Example]) -> None:
    batches = TrainingBatches(examples, config_of())
    for epoch in (0, 5):
        pieces = [piece for batch in batches.epoch(epoch) for piece in batch]
        seen = sorted((piece.item, frame) for piece in pieces for frame in range(piece.start, piece.stop))
        assert seen == [(item, frame) for item, e in enumerate(examples) for frame in range(len(e.labels))]
        assert batches.epoch(epoch) == TrainingBatches(examples, config_of()).epoch(epoch)
    assert batches.epoch(0) != batches.epoch(1)


def test_batches_are_padded_with_labels_that_are_ignored(examples: list[Example]) -> None:
    batches = TrainingBatches(examples, config_of())
    for batch in batches.epoch(0):
        frames, lengths, labels = batches.load(batch)
        assert frames.shape[:2] == labels.shape and frames.shape[0] * frames.shape[1] <= 600
        for row, length in enumerate(lengths.tolist()):
            assert torch.all(labels[row, :length] >= 0) and torch.all(labels[row, length:] == IGNORE)


def test_stretching_changes_the_length_and_keeps_labels_with_their_frames(examples: list[Example]) -> None:
    batches = TrainingBatches(examples, config_of(stretch=0.2))
    pieces = [piece for batch in batches.epoch(0) for piece in batch]
    assert len({round(piece.speed, 3) for piece in pieces}) > 5
    for batch in batches.epoch(0):
        frames, lengths, labels = batches.load(batch)
        assert all(abs(n - piece.num_frames) <= 1 for n, piece in zip(lengths.tolist(), batch, strict=True))
        known = labels >= 0
        assert (frames.argmax(2)[known] == labels[known]).float().mean() > 0.8


def test_the_fingerprint_differs_for_another_label_and_another_file(examples: list[Example], tmp_path: Path) -> None:
    def on_disk(content: bytes) -> list[Example]:
        (tmp_path / "a.flac").write_bytes(content)
        utterance = replace(examples[3].utterance.utterance, path=tmp_path / "a.flac")
        return [replace(examples[3], utterance=replace(examples[3].utterance, utterance=utterance))]

    before = fingerprint(on_disk(b"sound"))
    assert fingerprint(on_disk(b"sound")) == before
    assert fingerprint(on_disk(b"another sound")) != before
    examples[3].labels[0] = (examples[3].labels[0] + 1) % 8
    assert fingerprint(on_disk(b"sound")) != before


def test_the_learning_rate_rises_and_falls_to_zero() -> None:
    config = config_of(learning_rate=1.0, warmup_steps=10)
    rates = [learning_rate(step, 100, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == 1.0 and rates[-1] < 1e-3
    assert rates[9] == 1.0 and all(a >= b for a, b in itertools.pairwise(rates[10:]))


@pytest.mark.parametrize("settings", [{}, {"augment": True}], ids=str)
def test_training_lowers_the_loss_and_logs(examples: list[Example], tmp_path: Path, settings: dict[str, Any]) -> None:
    config = config_of(epochs=12, learning_rate=1e-2, batch_frames=300, **settings)
    _, progress = run(examples, config, tmp_path)
    records = RunLog(tmp_path).records()
    valid = [record for record in records if record["kind"] == "valid"]
    assert valid[-1]["loss"] < valid[0]["loss"] * 0.8
    assert progress.bad_steps == 0 and valid[-1]["step"] == progress.step
    assert {"loss", "accuracy", "frames_per_s"} <= records[0].keys()


def records_of(
    examples: list[Example], config: TrainConfig, folder: Path, every: int, monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, Any]]:
    monkeypatch.setattr("speechattn.training.loop.RECORD_EVERY", every)
    run(examples, config, folder)
    return [record for record in RunLog(folder).records() if record["kind"] == "train"]


def test_a_record_of_training_is_the_mean_of_its_steps_whether_or_not_it_was_stopped(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record was the loss of one batch in ten, which depends on the batch more than on the run."""
    config = config_of(epochs=2, batch_frames=300, checkpoint_seconds=0.0)
    single = records_of(examples, config, tmp_path / "single", 1, monkeypatch)
    by_four = records_of(examples, config, tmp_path / "by four", 4, monkeypatch)
    with pytest.raises(Interrupted):
        run(examples, config, tmp_path / "cut", stop_after=6)
    cut = records_of(examples, config, tmp_path / "cut", 4, monkeypatch)
    total = len(single)
    assert total % 4 and [record["step"] for record in by_four] == [*range(4, total, 4), total]  # the rest counts too
    for first, record, again in zip(range(0, total, 4), by_four, cut, strict=True):
        steps = single[first : first + 4]
        for key in ("loss", "accuracy"):
            assert record[key] == pytest.approx(sum(step[key] for step in steps) / len(steps), rel=1e-6)
            assert again[key] == pytest.approx(record[key], rel=1e-6)


def test_a_step_with_a_loss_that_is_not_finite_is_left_out_of_the_mean() -> None:
    progress = Progress()
    for loss in (1.0, float("nan"), 3.0):
        progress.add(loss, 0.5)
    assert progress.take_means() == (2.0, 0.5)
    assert all(map(math.isnan, progress.take_means()))


def test_a_run_that_is_stopped_at_any_step_and_resumed_has_the_same_weights(
    examples: list[Example], tmp_path: Path
) -> None:
    config = config_of(augment=True, checkpoint_seconds=0.0)
    expected, whole = run(examples, config, tmp_path / "whole")
    steps = 0
    for stop_after in (1, 3, 4, 1):
        steps += stop_after
        with pytest.raises(Interrupted) as interruption:
            run(examples, config, tmp_path / "cut", stop_after)
        assert interruption.value.exit_code == 143
    model, progress = run(examples, config, tmp_path / "cut")
    assert progress.step == whole.step > steps
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_a_signal_in_the_validation_saves_the_steps_before_it(
    examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr("speechattn.training.loop.evaluate_examples", interrupted)
    with pytest.raises(Interrupted):
        run(examples, config_of(epochs=1), tmp_path)
    checkpoint = load_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None and checkpoint.step == len(TrainingBatches(examples, config_of()).epoch(0))


def test_ten_bad_losses_in_a_row_stop_the_run_and_one_is_counted(examples: list[Example], tmp_path: Path) -> None:
    config = config_of(epochs=30)
    examples[0].frames[:] = float("nan")
    with pytest.raises(UserError, match="not finite in 10 steps in a row"):
        run(examples[:1], config, tmp_path / "a")
    few = config_of(epochs=1, batch_frames=300)
    model, progress = run(examples, few, tmp_path / "b")
    assert 0 < progress.bad_steps < progress.step
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def train_and_save(folder: Path) -> None:
    """Train like a command: begin, or resume where the last one was killed."""
    torch.set_num_threads(1)
    config = config_of(epochs=10, augment=True, checkpoint_seconds=0.0)
    model, _ = run([example(i, 60 + 37 * i) for i in range(8)], config, folder)
    model.save(folder / "model")


def test_kill_9_at_random_moments_and_the_same_command_gives_equal_weights(tmp_path: Path) -> None:
    # Processes forked from one that has imported torch and computed nothing start in half a second.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "torch", "torch._dynamo", "speechattn.training.loop"])

    def start(folder: Path) -> BaseProcess:
        process = context.Process(target=train_and_save, args=(folder,), daemon=True)
        process.start()
        return process

    whole = start(tmp_path / "whole")
    kills = 0
    for steps in (1, 3, 9):  # a step each time, and a moment in which the next one may be half written
        process = start(tmp_path / "cut")
        checkpoints = tmp_path / "cut" / "checkpoints"
        before = sorted(path.name for path in checkpoints.glob("step-????????"))[-1:]
        while process.is_alive():
            newest = sorted(path.name for path in checkpoints.glob("step-????????"))[-1:]
            if newest != before and int(newest[0][5:]) >= (int(before[0][5:]) if before else 0) + steps:
                break
            time.sleep(0.001)
        time.sleep(random.uniform(0.0, 0.02))
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
    assert kills == 3
    last = start(tmp_path / "cut")
    for process in (whole, last):
        process.join()
        assert process.exitcode == 0
    expected, resumed = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    logs = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    for whole_record, cut_record in zip(*(map(json.loads, log) for log in logs), strict=True):
        assert {**whole_record, "frames_per_s": 0} == {**cut_record, "frames_per_s": 0}


def test_an_encoder_has_the_context_of_the_config() -> None:
    config = config_of()
    assert isinstance(config.encoder_config("mlp"), EncoderConfig)
    assert new_model(config).encoder.receptive_field(50) == (44, 55)


@pytest.mark.parametrize("kind", get_args(EncoderKind))
def test_every_parameter_has_one_optimizer_and_learns(examples: list[Example], kind: EncoderKind) -> None:
    config = config_of(gru_width=16, mlp_width=16, learning_rate=0.01)
    model = SpeechModel(ModelConfig(CLASSES, config.encoder_config(kind), num_mels=8))
    optimizers = make_optimizers(model, config)
    moved = [id(p) for o in optimizers.values() for group in o.param_groups for p in group["params"]]
    assert sorted(moved) == sorted(map(id, model.parameters()))
    shapes = [tuple(p.shape) for group in optimizers["muon"].param_groups for p in group["params"]]
    assert all(min(shape[:2]) > 1 for shape in shapes)  # a depthwise filter is no matrix
    frames, labels = examples[0].frames[None], examples[0].labels[None]
    losses = []
    for _ in range(25):
        loss = TASK.loss(*model.classify(frames), labels)
        model.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers.values():
            optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
