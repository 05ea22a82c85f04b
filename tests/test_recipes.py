"""The recipes' scripts: presets that can be built, help without torch, and one line for a mistake."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[1] / "recipes" / "frame_classifier"


def script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RECIPE / name), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=RECIPE,
    )


@pytest.mark.parametrize("name", ["train.py", "evaluate.py"])
def test_help_lists_the_settings(name: str) -> None:
    result = script(name, "--help")
    assert result.returncode == 0 and "--subset" in result.stdout


def test_mistakes_are_one_line() -> None:
    for arguments, message in [
        (["--lexicon", "words.dict"], "has no effect: only alignments that the run makes"),
        (["--num-heads", "7"], "do not split into 7 heads"),
        (["--data", "elsewhere", "--alignments", "a", "--out", os.devnull], "--out /dev/null cannot be made"),
    ]:
        result = script("train.py", *arguments)
        assert result.returncode == 2, result
        assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    result = script("evaluate.py", "--model", "absent", "--data", "d", "--subset", "s", "--alignments", "a")
    assert result.returncode == 2 and "absent is not a saved model" in result.stderr


def test_presets_are_shown_and_can_be_built() -> None:
    result = script("train.py", "--preset", "librispeech", "--help")
    assert "runs/librispeech" in result.stdout
    assert (
        "must be one of best, demo, encoders, librispeech, streaming, got 'big'"
        in script("train.py", "--preset", "big").stderr
    )
