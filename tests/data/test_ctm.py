"""CTM files with comments, marks and confidences are read; an impossible line is refused by file and line."""

from itertools import pairwise
from pathlib import Path

import pytest

from speechattn.data.labels.ctm import read_ctm, write_ctm
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segments import IGNORE, Segment
from speechattn.errors import DataError
from speechattn.framing import Framing


def ctm(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "a.ctm"
    path.write_text(text, encoding="utf-8")
    return path


def test_ctm_is_sorted_grouped_and_keeps_words(tmp_path: Path) -> None:
    path = tmp_path / "with space.ctm"
    path.write_bytes(
        "\ufeff;; a comment\r\nb 1 0.5 0.25 there's\r\na 1 0.3 0.1 T 0.99\r\n\r\nb A 0.0 0.5 <sil>\r\n".encode()
    )
    assert read_ctm(path) == {
        "b": [Segment(0.0, 0.5, "<sil>"), Segment(0.5, 0.75, "there's")],
        "a": [Segment(0.3, 0.4, "T")],
    }


@pytest.mark.parametrize("end", ["\n\ufeff", "\u2028", "\u2029"], ids=["joined files", "U+2028", "U+2029"])
def test_no_line_is_lost_at_a_mark_or_separator_of_unicode(tmp_path: Path, end: str) -> None:
    got = read_ctm(ctm(tmp_path, f"a 1 0.0 0.5 SIL{end}a 1 0.5 0.5 AA\n"))
    assert got == {"a": [Segment(0.0, 0.5, "SIL"), Segment(0.5, 1.0, "AA")]}


def test_an_overlap_of_one_frame_is_cut(tmp_path: Path) -> None:
    got = read_ctm(ctm(tmp_path, "a 1 0.00 0.51 SIL\na 1 0.50 0.10 AA\na 1 0.60 0.00 B\na 1 0.60 0.10 K\n"))["a"]
    assert [(s.start_s, s.stop_s) for s in got] == [(0.0, 0.5), (0.5, 0.6), (0.6, 0.6), (0.6, pytest.approx(0.7))]
    assert frame_labels(got, 11_200, Framing()).tolist().count(IGNORE) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 1 0.40 0.20 AA", r"a.ctm:2: 'AA' from 0.4 s overlaps 'SIL', which lasts until 0.5 s"),
        ("a 1 -0.10 0.20 AA", r"a.ctm:2: start and duration must be 0 or more seconds, got -0.10"),
        ("a 1 0.50 -0.20 AA", "a.ctm:2: start and duration"),
        ("a 1 nan 0.20 AA", "a.ctm:2: start and duration"),
        ("a 1 0.50 inf AA", "a.ctm:2: start and duration"),
        ("a 1 half 0.20 AA", r"a.ctm:2: expected 'utterance channel start duration label', got 'a 1 half 0.20 AA'"),
        ("a 1 0.50 0.20", "a.ctm:2: expected"),
        ("hello", "a.ctm:2: expected"),
    ],
)
def test_bad_ctm_lines_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_ctm(ctm(tmp_path, f"a 1 0.00 0.50 SIL\n{line}\n"))


def test_what_is_written_is_read_back_to_the_millisecond(tmp_path: Path) -> None:
    path = tmp_path / "a.phones.ctm"
    edges = [frame * 0.0123 for frame in range(200)]
    wanted = {
        "ü-1": [Segment(start, stop, "AH") for start, stop in pairwise(edges)],
        "b": [Segment(0.5, 0.75, "don't")],
    }
    write_ctm(path, wanted.items())
    read = read_ctm(path)
    assert path.read_text(encoding="utf-8").splitlines()[-1] == "b 1 0.500 0.250 don't"
    assert read.keys() == wanted.keys()
    for id, segments in wanted.items():
        for segment, other in zip(segments, read[id], strict=True):
            assert other.label == segment.label
            assert other.start_s == pytest.approx(segment.start_s, abs=0.000501)
            assert other.stop_s == pytest.approx(segment.stop_s, abs=0.000501)


@pytest.mark.parametrize(("id", "label"), [("a b", "AH"), ("", "AH"), ("a", "two words"), ("a", "")])
def test_a_field_with_a_space_is_not_written(tmp_path: Path, id: str, label: str) -> None:
    with pytest.raises(ValueError, match="holds no space"):
        write_ctm(tmp_path / "a.ctm", [(id, [Segment(0, 1, label)])])
    assert list(tmp_path.iterdir()) == []
