"""scripts/check_alignment.py prints the agreement of two folders, or says what is wrong with its options."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_alignment.py"


def run(monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["check_alignment.py", *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_an_alignment_agrees_with_itself(
    librispeech_tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    alignments = str(librispeech_tiny / "alignments")
    given = ("--data", str(librispeech_tiny), "--subset", "test-clean")
    run(monkeypatch, *given, "--reference", alignments, "--labels", alignments)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("test-clean: ")
    assert lines[1].split()[-1] == lines[2].split()[-1] == "1.0000" and lines[3].endswith("+0.0 ms")
    assert [line.split()[-4:] for line in lines[4:]] == [["1.0000", "matched", "1.0000", "all"]] * 4


def test_options_of_align_are_refused_when_align_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = str(tmp_path)
    with pytest.raises(SystemExit):
        run(monkeypatch, "--data", place, "--subset", "a", "--reference", place, "--labels", place, "--rounds", "1")
    assert "--rounds 1 is an option of align, which does not run when --labels is given" in capsys.readouterr().err
