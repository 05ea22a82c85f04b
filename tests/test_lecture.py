"""The lecture is complete, and its pictures and tables are made by the commands that it names."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).parents[1]
LECTURE = ROOT / "docs" / "lecture.md"
PICTURES = ("frames", "twins", "heads", "positions", "cost", "masks", "receptive_field")
MAX_BYTES = 150_000


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module


def test_the_lecture_has_its_eleven_sections_in_order() -> None:
    titles = re.findall(r"^## (\d+)\. ", LECTURE.read_text(), flags=re.MULTILINE)
    assert titles == [str(number) for number in range(1, 12)]


def test_every_picture_of_the_lecture_is_shown_and_small() -> None:
    text = LECTURE.read_text()
    for name in PICTURES:
        path = LECTURE.parent / "pictures" / f"lecture_{name}.png"
        assert f"(pictures/{path.name})" in text
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size < MAX_BYTES, name


def noise(seconds: float) -> NDArray[np.float64]:
    """Return noise [N] at 16 kHz whose loudness changes: enough for a script that needs any sound."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    return 0.05 * (1.2 + np.sin(2 * np.pi * 3 * time)) * np.random.default_rng(0).normal(size=len(time))


def test_the_pictures_are_drawn_from_any_recording(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script: ModuleType = load("draw_lecture")
    folder = tmp_path / "part" / "1" / "2"
    folder.mkdir(parents=True)
    soundfile.write(folder / "a.wav", noise(1.5), 16_000)
    (tmp_path / "part.phones.ctm").write_text("a 1 0.0 0.5 SIL\na 1 0.5 0.5 AH\na 1 1.0 0.5 S\n")
    (tmp_path / "part.words.ctm").write_text("a 1 0.5 1.0 US\n")
    given = ["--alignments", str(tmp_path), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["draw_lecture.py", str(folder / "a.wav"), *given])
    script.main()
    assert len(capsys.readouterr().out.splitlines()) == len(PICTURES)
    for name in PICTURES:
        path = tmp_path / "out" / f"lecture_{name}.png"
        assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size < MAX_BYTES


@pytest.mark.parametrize(
    ("samples", "options", "message"),
    [(0.0, [], "fewer than two clear phones"), (0.1, ["--alignments", "."], "has no utterance a")],
)
def test_a_recording_that_cannot_be_drawn_is_refused_in_one_line(
    samples: float,
    options: list[str],
    message: str,
    load: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script: ModuleType = load("draw_lecture")
    folder = tmp_path / "part" / "1" / "2"
    folder.mkdir(parents=True)
    for kind in ("phones", "words"):
        (tmp_path / f"part.{kind}.ctm").write_text("other 1 0.0 0.5 SIL\n")
    soundfile.write(folder / "a.wav", np.full(16_000, samples), 16_000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["draw_lecture.py", str(folder / "a.wav"), *options, "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        script.main()
    assert message in capsys.readouterr().err and not list(tmp_path.glob("*.png"))


def test_the_tables_of_trained_encoders_are_printed(
    load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script: ModuleType = load("train_lecture")
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # later tests keep theirs
    lines = []
    for speaker in ("1", "2", "3"):
        folder = tmp_path / "LibriSpeech" / "part" / speaker / "9"
        folder.mkdir(parents=True)
        soundfile.write(folder / f"{speaker}-9-0000.flac", noise(0.6), 16_000)
        lines += [f"{speaker}-9-0000 1 0.0 0.3 SIL", f"{speaker}-9-0000 1 0.3 0.3 AH"]
    (tmp_path / "part.phones.ctm").write_text("\n".join(lines) + "\n")
    given = ["--data", str(tmp_path / "LibriSpeech"), "--alignments", str(tmp_path), "--subset", "part", "--steps", "4"]
    monkeypatch.setattr(sys, "argv", ["train_lecture.py", *given])
    script.main()
    printed = capsys.readouterr().out
    for name in (*script.NEIGHBOURS, *script.AMOUNTS):
        assert re.search(rf"^{re.escape(name)} +[01]\.\d\d\d", printed, flags=re.MULTILINE), name
    for row in re.findall(r"^.{38} +0\.\d\d\d.*$", LECTURE.read_text(), flags=re.MULTILINE):
        assert row.split("  ")[0] in {*script.NEIGHBOURS, *script.AMOUNTS, "nothing: always silence"}
