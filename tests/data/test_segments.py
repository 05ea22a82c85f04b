"""Segments refuse impossible times; text files are read as people have them."""

import dataclasses
from pathlib import Path

import pytest

from speechattn.data.labels.segments import Segment, Utterance, read_lines
from speechattn.errors import DataError


def test_a_segment_may_be_empty_and_cannot_change() -> None:
    segment = Segment(1.0, 1.0, "AA")
    assert segment.duration == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        segment.start_s = 0.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [
        (-0.01, 1.0, "0 s or later"),
        (1.0, 0.5, "not stop before it starts"),
        (float("nan"), 1.0, "finite"),
        (0.0, float("inf"), "finite"),
    ],
)
def test_impossible_times(start: float, stop: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segment(start, stop, "AA")


def test_an_utterance_needs_no_transcript() -> None:
    utterance = Utterance("19-198-0001", "19", Path("a.flac"))
    assert (utterance.transcript, utterance.subset, utterance.chapter) == (None, "", "")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_with_and_without_mark_and_carriage_return(tmp_path: Path, end: str, mark: str) -> None:
    path = tmp_path / "a b.txt"
    path.write_bytes(f"{mark}ein{end}{end}zwölf\u2028still the same line".encode())
    assert read_lines(path) == ["ein", "", "zwölf\u2028still the same line"]


def test_unreadable_text(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("zwölf".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8 text \(byte 2\)"):
        read_lines(tmp_path / "latin.txt")
    with pytest.raises(DataError, match="No such file"):
        read_lines(tmp_path / "none.txt")
    with pytest.raises(DataError, match="directory"):
        read_lines(tmp_path)
    with pytest.raises(DataError, match="/dev/null is a pipe or a device, not a text file"):
        read_lines(Path("/dev/null"))
