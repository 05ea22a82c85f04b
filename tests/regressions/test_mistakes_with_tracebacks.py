"""Mistakes of a user that ended in a traceback, or were reported only after the work had been done.

Each was found by typing it: a run's JSON file damaged by hand, `--restart` of a folder that has no name, a preset the
command does not know, a JSON file saved with a byte-order mark, NaN as a number of seconds, a diverged model, and
`--device cuda` without one, which first read the whole corpus and then blocked the folder for the corrected command.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from speechattn.cli.main import main
from speechattn.cli.train import parse_train
from speechattn.errors import ConfigError, UserError
from speechattn.lengths import check_lengths
from speechattn.system.atomic_files import write_json
from speechattn.system.serialization import from_dict
from speechattn.training.config import TrainConfig
from speechattn.training.metrics import ClassScores
from speechattn.training.run import run


def config(output: Path, **settings: Any) -> TrainConfig:
    """A run whose data is never reached."""
    return TrainConfig(data=str(output / "no-data"), alignments="none", out=str(output), **settings)


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    line = capsys.readouterr().err.strip()
    assert line and "\n" not in line
    return line


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_a_damaged_file_of_a_run_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json is damaged .* --restart"):
        run(config(tmp_path))


@pytest.mark.parametrize("output", ["/", ".", ".."])
def test_restart_needs_a_folder_with_a_name(output: str) -> None:
    with pytest.raises(UserError, match="cannot move"):
        run(TrainConfig(data="no-data", alignments="none", out=output), restart=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a device that is not there")
def test_a_missing_device_is_told_before_the_data_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no CUDA device"):
        run(config(tmp_path, device="cuda"))
    assert not (tmp_path / "config.json").exists()


def test_an_unknown_preset_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--preset", "demo"]) == 2
    assert "recipes/frame_classifier/train.py" in one_line(capsys)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"epochs": 3}), encoding="utf-8-sig")
    assert parse_train(["--config", str(path)], {})[0].epochs == 3


@pytest.mark.parametrize("name", ["weight_decay", "checkpoint_seconds", "learning_rate"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_must_be_numbers(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=name):
        TrainConfig(**settings)


def test_a_diverged_model_is_reported_to_the_user() -> None:
    with pytest.raises(UserError, match="diverged"):
        ClassScores(2).update(torch.full((1, 3, 2), torch.nan), torch.zeros(1, 3, dtype=torch.int64))


def test_odd_types_are_refused_with_the_promised_error() -> None:
    with pytest.raises(ConfigError, match="no setting 1"):
        from_dict(TrainConfig, {1: 2})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="integer tensor"):
        check_lengths(torch.ones(2, dtype=torch.complex64), 2, 5)


def test_a_path_that_is_not_utf8_is_written_as_json_and_read_back(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xc3\xbc")
    write_json(tmp_path / "a.json", {"output": name})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"output": name}
