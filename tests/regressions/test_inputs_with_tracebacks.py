"""Options and files that ended in a traceback, a hang, or a message of thousands of characters.

Each was found by a random command line: `--memory=--`, for which argparse returns an empty list, JSON nested 100,000
levels deep, a plan of less than one stacked frame, numbers of 300 digits, and values that the message repeats whole.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speechattn.cli.main import MAX_CHARACTERS, main
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.data.labels.textgrid import read_textgrid
from speechattn.errors import ConfigError, DataError, UserError
from speechattn.models.serialization import read_model
from speechattn.planning.estimate import estimate
from speechattn.planning.machine_speed import load_machine
from speechattn.planning.suggestions import suggest
from speechattn.profiling.results import read_profile
from speechattn.training.run_folder import read_object
from speechattn.training.run_log import read_metrics

DEEP = "[" * 100_000


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line that a command prints about a mistake."""
    assert main(arguments) == 2
    line = capsys.readouterr().err.strip()
    assert line and "\n" not in line and len(line) < MAX_CHARACTERS + 50
    return line


@pytest.mark.parametrize(
    "arguments", [("plan", "--memory=--"), ("plan", "--duration=--"), ("train", "--preset=--"), ("stream", "--rate=--")]
)
def test_two_dashes_are_no_value(capsys: pytest.CaptureFixture[str], arguments: tuple[str, str]) -> None:
    assert "expected a value, got '--'" in mistake(capsys, *arguments)


def test_json_that_is_nested_too_deeply_is_a_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text(DEEP)
    (tmp_path / "model.safetensors").touch()
    assert "nested too deeply" in mistake(capsys, "train", "--config", str(path))
    assert "nested too deeply" in mistake(capsys, "plan", "--duration", "1s", "--model", str(tmp_path))
    for read, argument in ((read_model, tmp_path), (read_profile, path), (read_object, path)):
        with pytest.raises(UserError, match="nested too deeply"):
            read(argument)
    assert load_machine(path) is None


def test_a_record_that_is_nested_too_deeply_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{{"step": 1}}\n{DEEP}\n{{"step": 2}}\n')
    with pytest.warns(UserWarning, match="1 of 3 lines"):
        assert read_metrics(path) == [{"step": 1}, {"step": 2}]


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_less_than_one_stacked_frame_has_a_plan(frames: int) -> None:
    config = EncoderConfig(80, stack=4, context=Context(None, 64))
    assert suggest(estimate(config, frames)) == []


@pytest.mark.parametrize("option", ["--threads", "--num-layers", "--d-model", "--left", "--stack"])
@pytest.mark.parametrize("digits", [300, 5000])
def test_a_number_of_many_digits_is_one_line(capsys: pytest.CaptureFixture[str], option: str, digits: int) -> None:
    assert f"argument {option}: must be a whole number" in mistake(capsys, "plan", option, "9" * digits)


def test_a_huge_encoder_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="at most"):
        EncoderConfig(80, num_layers=10**12)
    with pytest.raises(ConfigError, match="use num_heads=1"):
        EncoderConfig(80, d_model=10**12 + 39)  # a prime
    with pytest.raises(ConfigError, match="use num_heads=6"):
        EncoderConfig(80, d_model=18, num_heads=7)
    with pytest.raises(ConfigError, match="use num_heads=18"):
        EncoderConfig(80, d_model=18, num_heads=10**12)


@pytest.mark.parametrize("option", ["--num-mels", "--block", "--memory"])
def test_a_long_value_is_shortened(capsys: pytest.CaptureFixture[str], option: str) -> None:
    line = mistake(capsys, "plan", option, "x" * 70_000)
    assert option in line and " ... " in line


def test_a_bad_config_of_a_model_ends_with_one_full_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"format_version": 2, "model": None}))
    line = mistake(capsys, "plan", "--duration", "1s", "--model", str(tmp_path))
    assert line.endswith("None.") and not line.endswith("..")


def test_an_old_option_without_a_new_one_has_no_wrong_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean" not in mistake(capsys, "train", "--execution", "dense")


def test_an_error_in_a_text_of_a_textgrid_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text('"ooTextFile" "TextGrid" 0 1 <exists> 1 "IntervalTier" "phones" 0 1 1 0 1 "a')
    with pytest.raises(DataError) as error:
        read_textgrid(path)
    assert str(error.value).count(path.name) == 1


def test_a_format_version_that_is_text_is_shown_as_text(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format_version": "2"}')
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match="has format version '2'; this speechattn reads version 2"):
        read_model(tmp_path)
