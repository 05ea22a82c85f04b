"""Training steps under autocast to bfloat16."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from small_runs import TASK, config_of, example, new_model, run

from speechattn.errors import ConfigError
from speechattn.models.speech_model import SpeechModel
from speechattn.training.config import EncoderKind, TrainConfig
from speechattn.training.dataset import Example
from speechattn.training.distributed import Ranks
from speechattn.training.trainer import Trainer


@pytest.mark.parametrize("kind", get_args(EncoderKind))
def test_a_step_in_bf16_has_a_float32_loss_near_that_of_float32(kind: EncoderKind, tmp_path: Path) -> None:
    losses = {}
    frames, labels = example(1, 90).frames[None], example(1, 90).labels[None]
    for precision in ("float32", "bf16"):
        model = new_model(config_of(), kind)
        config = config_of(dropout=0.0, precision=precision)
        trainer = Trainer(model, TASK, config, [9], tmp_path / precision, Ranks())
        losses[precision] = trainer.step(frames, torch.tensor([90]), labels)[0]
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    assert losses["bf16"] != losses["float32"]
    assert losses["bf16"] == pytest.approx(losses["float32"], abs=0.04)  # bfloat16 has 8 bits


def test_a_run_in_bf16_learns(tmp_path: Path) -> None:
    examples = [example(i, 60 + 37 * i) for i in range(8)]
    config = config_of(precision="bf16", epochs=8)
    before = loss_of(new_model(config), examples[0])
    model, progress = run(examples, config, tmp_path)
    assert progress.bad_steps == 0 and loss_of(model, examples[0]) < 0.8 * before


@torch.no_grad()
def loss_of(model: SpeechModel, labelled: Example) -> float:
    return float(TASK.loss(*model.classify(labelled.frames[None]), labelled.labels[None]))


@pytest.mark.parametrize(("settings", "named"), [({"precision": "fp16"}, "bf16"), ({"accumulate": 0}, "1 or more")])
def test_settings_of_a_step_are_checked(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        TrainConfig(**settings)  # type: ignore[arg-type]
