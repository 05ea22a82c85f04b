"""A run that goes on: more epochs, the weights of another run, a frozen encoder, data that were moved."""

import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import pytest
import torch
from small_runs import TASK, config_of, example, new_model
from small_runs import run as run_loop
from torch import Tensor

from speechattn.errors import ConfigError, UserError
from speechattn.frontend.normalize import Normalize
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.stop_signal import Interrupted
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import Example, Piece, TrainingBatches
from speechattn.training.optimizers import learning_rate, make_optimizers, stage_of
from speechattn.training.prepare import Data
from speechattn.training.run import run
from speechattn.training.stages import earlier_stages

EXAMPLES = [example(i, 60 + 37 * i) for i in range(8)]


def same(one: SpeechModel, other: SpeechModel) -> bool:
    weights = other.state_dict()
    return all(torch.equal(tensor, weights[name]) for name, tensor in one.state_dict().items())


def test_each_stage_has_a_warmup_and_a_cosine_of_its_own() -> None:
    config = config_of(learning_rate=1.0, warmup_steps=4)
    rates = []
    for step in range(30):
        start, end = stage_of(step, [10, 30])
        rates.append(learning_rate(step - start, end - start, config))
    assert rates[:10] == [learning_rate(step, 10, config) for step in range(10)]
    assert rates[10:] == [learning_rate(step, 20, config) for step in range(20)]
    assert rates[9] < 0.1 and rates[14] == 1.0 and rates[-1] < 0.02


def test_a_stopped_extension_continues_with_the_same_weights(tmp_path: Path) -> None:
    short, config = config_of(checkpoint_seconds=0.0), config_of(checkpoint_seconds=0.0, epochs=5)
    expected, progress = run_loop(EXAMPLES, config, tmp_path / "whole", stages=(3,))
    finished, before = run_loop(EXAMPLES, short, tmp_path / "cut")
    for step in (1, 2):  # the first step of the extension is done, then two more
        with pytest.raises(Interrupted):
            run_loop(EXAMPLES, config, tmp_path / "cut", stop_after=step, stages=(3,))
    extended, _ = run_loop(EXAMPLES, config, tmp_path / "cut", stages=(3,))
    assert same(extended, expected) and not same(extended, finished)
    assert progress.step > before.step + 3
    one_schedule, _ = run_loop(EXAMPLES, config, tmp_path / "one")
    assert not same(extended, one_schedule)  # not the run that had all epochs from the start


class FramesInMemory(Data):
    """Data whose training examples are a list."""

    def normalize(self) -> Normalize:
        return Normalize.fit(example.frames for example in self.train)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> TrainConfig:
    """The settings of a whole run on frames in memory, whose report is not drawn."""
    sound = tmp_path / "none.flac"
    sound.write_bytes(b"sound")

    def placed(examples: Sequence[Example]) -> list[Example]:
        return [
            replace(e, utterance=replace(e.utterance, utterance=replace(e.utterance.utterance, path=sound)))
            for e in examples
        ]

    data = FramesInMemory(TASK, cast(Any, placed(EXAMPLES[:6])), cast(Any, placed(EXAMPLES[6:])), {}, [])
    monkeypatch.setattr("speechattn.training.run.prepare", lambda config, stop: data)
    monkeypatch.setattr("speechattn.training.run.report_run", lambda out, *_: out / "report.html")
    return config_of(out=str(tmp_path / "run"), baselines=("linear",), epochs=1, warmup_steps=1)


def results(config: TrainConfig) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((Path(config.out) / "results.json").read_text())
    return found


def test_a_finished_run_is_given_more_epochs_and_not_fewer(prepared: TrainConfig) -> None:
    run(prepared)
    (first, _), out = results(prepared), Path(prepared.out)
    longer = replace(prepared, epochs=3)
    run(longer)
    assert json.loads((out / "stages.json").read_text()) == {"ends": [1]}
    for before, after in zip((first, first), results(longer), strict=True):
        assert (after["epochs"], after["steps"]) == (3, 3 * before["steps"])
    weights = (out / "model" / "model.safetensors").read_bytes()
    run(longer)
    assert (out / "model" / "model.safetensors").read_bytes() == weights
    with pytest.raises(UserError, match="holds a run of 3 epochs, and --epochs is 2: a run can be given more epochs"):
        run(replace(prepared, epochs=2))
    run(replace(prepared, epochs=4))
    assert earlier_stages(out, 4) == (1, 3) and results(longer)[0]["epochs"] == 4


def test_a_run_killed_before_its_new_epochs_are_recorded_has_the_old_ones(prepared: TrainConfig) -> None:
    run(prepared)
    out = Path(prepared.out)
    with (
        patch("speechattn.training.run.record_stages", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        run(replace(prepared, epochs=2))
    (out / "stages.json").write_text('{"ends": [1]}')  # the other order: stages without the epochs
    assert earlier_stages(out, 1) == () and earlier_stages(out, 2) == (1,)


def test_more_epochs_without_a_checkpoint_are_refused(prepared: TrainConfig) -> None:
    run(prepared)
    shutil.rmtree(Path(prepared.out) / "checkpoints")
    with pytest.raises(UserError, match=r"more epochs need the last checkpoint. Start a new run with --init .*model"):
        run(replace(prepared, epochs=2))


def test_init_starts_from_the_weights_of_a_run(prepared: TrainConfig, capsys: pytest.CaptureFixture[str]) -> None:
    run(prepared)
    first = load(Path(prepared.out) / "model")
    tuned = replace(prepared, out=f"{prepared.out}-tuned", init=prepared.out, freeze_encoder=True, dropout=0.2)
    run(tuned)
    second = load(Path(tuned.out) / "model")
    assert same(first.encoder, second.encoder) and same(first.normalize, second.normalize)  # type: ignore[arg-type]
    assert not same(first.head, second.head)  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    head = sum(p.numel() for p in first.head.parameters())
    assert f"the encoder is frozen: {head:,} of " in printed
    assert "initial weights: normalisation, encoder and head\n" in printed
    baseline = Path("baselines") / "linear" / "model" / "model.safetensors"
    assert (Path(tuned.out) / baseline).read_bytes() == (Path(prepared.out) / baseline).read_bytes()
    run(replace(tuned, init=f"{prepared.out}/model"))  # the same weights
    run(replace(prepared, epochs=2))
    with pytest.raises(UserError, match="started from other weights than those in --init"):
        run(tuned)
    with pytest.raises(UserError, match="init was "):
        run(replace(tuned, init=None, freeze_encoder=False))


def test_a_head_of_other_classes_is_not_taken_from_init(
    prepared: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    model = SpeechModel(prepared.model_config("truncated", ("SIL", "SPEECH")))
    model.save(f"{prepared.out}-two")
    run(replace(prepared, init=f"{prepared.out}-two", freeze_encoder=True, baselines=()))
    assert "The head is new, because that of the saved model (frames) has 2 other classes" in capsys.readouterr().out
    tuned = load(Path(prepared.out) / "model")
    assert same(tuned.encoder, model.encoder) and tuned.config.classes == TASK.classes  # type: ignore[arg-type]


def test_init_from_a_model_of_other_settings_says_which(prepared: TrainConfig) -> None:
    new_model(replace(prepared, d_model=32, left=7)).save(f"{prepared.out}-wide")
    with pytest.raises(UserError, match=r"context.left is 7 there and 3 here, encoder.d_model is 32 there and 16"):
        run(replace(prepared, init=f"{prepared.out}-wide"))
    with pytest.raises(UserError, match=r"missing"):
        run(replace(prepared, init=f"{prepared.out}-missing", out=f"{prepared.out}-2"))
    with pytest.raises(ConfigError, match="freeze_encoder needs init"):
        replace(prepared, freeze_encoder=True)


def test_a_frozen_encoder_has_no_optimizer_and_no_dropout(tmp_path: Path) -> None:
    config = config_of(dropout=0.9, epochs=1)
    model = new_model(config)
    model.encoder.requires_grad_(False)
    optimizers = make_optimizers(model, config)
    assert [len(group["params"]) for o in optimizers.values() for group in o.param_groups] == [2]
    before = new_model(config)
    trained, progress = run_loop(EXAMPLES, config, tmp_path, model=model)
    assert same(trained.encoder, before.encoder) and not same(trained.head, before.head)  # type: ignore[arg-type]
    without = replace(config, dropout=0.0)
    again, _ = run_loop(EXAMPLES, without, tmp_path / "2", model=frozen(without))
    assert same(again, trained) and math.isfinite(progress.seconds)


def frozen(config: TrainConfig) -> SpeechModel:
    model = new_model(config)
    model.encoder.requires_grad_(False)
    return model


class KilledBatches(TrainingBatches):
    """Batches of a process that ends at its third step."""

    loads = 0

    def load(self, batch: Sequence[Piece]) -> tuple[Tensor, Tensor, Tensor]:
        self.loads += 1
        if self.loads == 3:
            raise KeyboardInterrupt
        return super().load(batch)


def test_a_run_continues_from_its_checkpoint_after_its_data_were_moved(
    librispeech_tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "disk", tmp_path / "other disk"
    shutil.copytree(librispeech_tiny, first)
    config = config_of(
        data=str(first / "LibriSpeech"),
        subset="test-clean",
        alignments=str(first / "alignments"),
        out=str(tmp_path / "run"),
        valid_fraction=0.3,
        baselines=(),
        epochs=2,
        checkpoint_seconds=0.0,
        num_mels=20,
        batch_frames=500,
    )
    monkeypatch.setattr("speechattn.training.run.report_run", lambda out, *_: out / "report.html")
    run(replace(config, out=str(tmp_path / "whole")))
    with monkeypatch.context() as patches, pytest.raises(KeyboardInterrupt):
        patches.setattr("speechattn.training.run.TrainingBatches", KilledBatches)
        run(config)
    first.rename(second)
    moved = replace(config, data=str(second / "LibriSpeech"), alignments=str(second / "alignments"))
    run(moved)
    assert same(load(tmp_path / "run" / "model"), load(tmp_path / "whole" / "model"))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"] == moved.data
