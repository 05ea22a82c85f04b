"""`speechattn plan`: what it prints, and that it needs no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from speechattn.cli.main import main
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.planning.estimate import estimate, max_frames
from speechattn.planning.machine_speed import Machine, Rates

ROOT = Path(__file__).parents[2]
RATES = Rates(1e-11, 1e-11, 1e-9, 1e-9, 1e-9)
MACHINE = Machine("test", 1, RATES, RATES, 1e-3)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPEECHATTN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_memory_asks_for_the_longest_audio(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--memory", "8GB", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)["max_frames"]
    config = EncoderConfig(input_dim=80)
    assert found["inference"] == max_frames(config, 8 * 10**9)
    assert found["training"] == max_frames(config, 8 * 10**9, training=True) < found["training, checkpointed"]
    assert found["streaming"] is None
    assert main(["plan", "--memory", "8GB"]) == 0
    message = capsys.readouterr().out
    assert "any length" in message and f"{found['inference']:,}" in message


def test_a_duration_asks_for_its_memory_and_time(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    encoder = ["--d-model", "128", "--left", "all", "--right", "4", "--chunk", "2", "--block", "conformer"]
    assert (
        main(["plan", "--duration", "2h", *encoder, "--batch-size", "3", "--mode", "inference", "--format", "json"])
        == 0
    )
    (made,) = json.loads(capsys.readouterr().out)
    config = EncoderConfig(input_dim=80, d_model=128, context=Context(None, 4, 2), block="conformer")
    expected = estimate(config, 720_000, 3)
    assert (made["peak_bytes"], made["flops"], made["seconds"]) == (expected.peak_bytes, expected.flops, None)
    assert made["total_bytes"] == expected.total_bytes
    MACHINE.save(cache / "machine.json")
    assert main(["plan", "--duration", "4h"]) == 0
    message = capsys.readouterr().out
    assert message.count("times real time") == 3 and "gradient_checkpointing=True" in message


def test_a_saved_model_brings_its_encoder(capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(ROOT / "speechattn" / "models" / "small-en-phones")
    assert main(["plan", "--duration", "60min", "--model", folder, "--mode", "streaming"]) == 0
    assert "4 x 128 transformer" in capsys.readouterr().out


def test_an_unlimited_side_has_no_stream(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--duration", "60min", "--right", "all"]) == 0
    assert "streaming" not in capsys.readouterr().out
    assert main(["plan", "--memory", "8GB", "--right", "all", "--mode", "streaming"]) == 0
    assert "does not stream" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nothing to plan: give --memory 8GB"),
        (["--duration", "-1"], 'must be a duration as "4h"'),
        (["--duration", "nan"], 'must be a duration as "4h"'),
        (["--duration", "1e9h"], "must be a duration from 0.01s (a frame) to 365d, got '1e9h'"),
        (["--memory", "8"], '--memory 8 has no unit and is 8 bytes: write "8GB".'),
        (["--memory", "8MB"], "--memory 8MB is 8 MB, and Python and torch alone take 760 MB"),
        (["--memory", "many"], 'must be a size as "8GB"'),
        (["--duration", "60min", "--left", "-3"], "must be a whole number of frames, 0 or more, or all"),
        (["--duration", "60min", "--num-heads", "3"], "num_heads must divide d_model"),
        (["--duration", "60min", "--block", "bigru"], "cannot be estimated"),
        (["--duration", "60min", "--model", "nowhere"], "is not a saved model"),
        (
            ["--duration", "60min", "--model", "nowhere", "--d-model", "8"],
            "--model brings its own encoder: leave out --d-model",
        ),
        (["--duration", "60min", "--right", "all", "--mode", "streaming"], "does not stream in bounded memory"),
    ],
)
def test_mistakes_are_one_line(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_planning_needs_no_torch() -> None:
    program = """
import sys
sys.modules["torch"] = sys.modules["numpy"] = None
from speechattn.cli.main import main
sys.exit(main(["plan", "--memory", "8GB"]) or main(["plan", "--duration", "4h"]))
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert "longest audio" in ran.stdout
