"""Segments as arrays give the labels, the rows and the errors that lists of objects gave."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechattn.data.array_files import read_header
from speechattn.data.labels.alignment_table import AlignmentTable
from speechattn.data.labels.alignments import load_alignments
from speechattn.data.labels.classes import PHONES, label_class
from speechattn.data.labels.ctm import read_ctm
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segment_arrays import SegmentSlice, SegmentTable
from speechattn.data.labels.segments import IGNORE, Alignment, Segment, sort_segments
from speechattn.errors import DataError
from speechattn.framing import ALIGNMENTS, Framing

FRAMINGS = [
    *(Framing(align=align) for align in ALIGNMENTS),
    *(Framing(sample_rate=11_025, window=7, hop=3, align=align) for align in ALIGNMENTS),
    *(Framing(window=8, hop=1, align=align) for align in ALIGNMENTS),
]


def labels_in_a_loop(segments: Sequence[Segment], num_samples: int, framing: Framing) -> list[int]:
    """What `frame_labels` computed before it had arrays: a walk over frames and segments at once."""
    index = {label: PHONES.index(label_class(label, PHONES)) for label in {s.label for s in segments}}
    ordered = sorted(segments, key=lambda segment: (segment.start_s, segment.stop_s))
    spans = [(framing.samples_at(s.start_s), framing.samples_at(s.stop_s), index[s.label]) for s in ordered]
    for (_, stop, _), (start, _, _) in pairwise(spans):
        if start < stop:
            raise DataError(f"segments overlap: one ends at sample {stop}, the next begins at {start}.")
    labels, current = [], 0
    for t in range(framing.num_frames(num_samples)):
        center = framing.center_sample(t, num_samples)
        while current < len(spans) and spans[current][1] <= center:
            current += 1
        inside = current < len(spans) and spans[current][0] <= center
        labels.append(spans[current][2] if inside else IGNORE)
    return labels


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(FRAMINGS))
def test_labels_of_arrays_equal_those_of_the_loop(data: st.DataObject, framing: Framing) -> None:
    num_samples = data.draw(st.integers(0, 60 * framing.hop))
    edges = sorted(data.draw(st.lists(st.integers(0, 2 * num_samples + 4), max_size=12)))
    segments = []
    for start, stop in pairwise(edges):
        if data.draw(st.booleans()):  # else a gap; times between samples, and segments of no length
            label = data.draw(st.sampled_from(["SIL", "AA", "ah1", "ZH"]))
            segments.append(Segment(start / 2 / framing.sample_rate, stop / 2 / framing.sample_rate, label))
    segments = data.draw(st.permutations(segments))
    if segments and data.draw(st.integers(0, 9)) == 0:
        segments.append(segments[0])
    try:
        wanted: list[int] | str = labels_in_a_loop(segments, num_samples, framing)
    except DataError as error:
        wanted = str(error)
    for given_segments in (segments, SegmentSlice.of(segments)):
        try:
            got: list[int] | str = frame_labels(given_segments, num_samples, framing).tolist()
        except DataError as error:
            got = str(error)
        assert got == wanted


LINES = st.sampled_from(
    [
        *(
            "a 1 0.0 0.5 SIL",
            "a 1 0.5 0.2 AA",
            "a A 0.7 0.1 B 0.99",
            "a 2 0.8 0.1 K",
            "a 1 0.695 0.1 T",
            "a 1 0.1 0.3 S",
        ),
        *(
            "b 1 0.2 0.0 AA",
            "b 1 0.2 0.1 zwölf",
            "b 1 0.25 0.2 B",
            "b 1 -0.1 0.2 B",
            "b 1 nan 0.2 B",
            "b 1 0.3 1e999 B",
        ),
        *(";; a 1 2 3", ";;", "", "hello", "c 1 x 0.1 AA", "c 1 0.0 -1e-30 AA", "c 1 1e308 1e308 AA", "c\t1 0.0 .5 AA"),
    ]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=14))
def test_ctm_is_read_as_line_by_line(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.ctm"
        path.write_text("\n".join(lines), encoding="utf-8")
        faults: list[tuple[str, str]] = []
        got = read_ctm(path, lambda id, error: faults.append((id, str(error))))
        wanted, expected = by_line(lines, path)
    assert {id: list(segments) for id, segments in got.items()} == wanted
    assert [id for id, _ in faults] == expected


def by_line(lines: Sequence[str], path: Path) -> tuple[dict[str, list[Segment]], list[str]]:
    """What `read_ctm` returned before it had arrays, and the utterances of the faults in their order."""
    rows: dict[str, list[tuple[str, Segment, int]]] = {}
    faults = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith(";;"):
            continue
        try:
            _, channel, start, duration, label = fields[:5]
            begin, length = float(start), float(duration)
            if not (math.isfinite(begin + length) and begin >= 0 and length >= 0):
                raise ValueError
        except ValueError:
            faults.append(fields[0])
            continue
        rows.setdefault(fields[0], []).append((channel, Segment(begin, begin + length, label), number))
    found = {}
    for id, each in rows.items():
        try:
            if len({{"A": "1"}.get(channel, channel) for channel, _, _ in each}) > 1:
                raise DataError("channels")
            found[id] = sort_segments([(segment, number) for _, segment, number in each], path)
        except DataError:
            faults.append(id)
    return found, faults


def test_a_table_is_written_and_read_again(tmp_path: Path) -> None:
    alignments = {
        "a": Alignment([Segment(0.0, 0.5, "SIL"), Segment(0.5, 1.0, "AA")], 2.0),
        "b\udcff": Alignment([Segment(0.25, 0.5, "go")], None),
        "c": Alignment([], 0.0),
    }
    table = AlignmentTable.of(alignments, {"d": "damaged"})
    table.save(tmp_path / "table")
    for got in (table, AlignmentTable.load(tmp_path / "table")):
        assert got is not None and dict(got) == alignments and got.damaged == {"d": "damaged"}
        assert "x" not in got and len(got) == 3
    whole = (tmp_path / "table").read_bytes()
    for damaged in (whole[:-1], whole[:7], b"", b"404 not found", whole + b"x"):
        (tmp_path / "table").write_bytes(damaged)
        assert AlignmentTable.load(tmp_path / "table") is None
        with pytest.raises(ValueError, match=r"bytes|header"):
            read_header(tmp_path / "table")
    assert AlignmentTable.load(tmp_path / "none") is None


def test_a_slice_is_a_sequence_of_segments() -> None:
    segments = [Segment(0.0, 0.5, "a"), Segment(0.5, 0.75, "b"), Segment(0.75, 1.0, "a")]
    table = SegmentTable.of(segments)
    part = SegmentSlice(table, 1, 3)
    assert part == segments[1:] and segments[1:] == part and part != segments and part[-1] == segments[2]
    assert part[0:1] == segments[1:2] and list(reversed(part)) == segments[:0:-1] and repr(part) == repr(segments[1:])
    assert part != "ab" and SegmentSlice.of(part) is part
    with pytest.raises(IndexError):
        part[2]
    assert [type(value) for value in (part[0].start_s, part[0].stop_s)] == [float, float]


def test_alignments_of_a_subset_take_no_object_a_segment(tmp_path: Path) -> None:
    (tmp_path / "x.phones.ctm").write_text("".join(f"u{i} 1 {t / 10} 0.1 AA\n" for i in range(50) for t in range(20)))
    found = load_alignments(tmp_path, "x")
    tables = {
        id(alignment.segments.table) for alignment in found.values() if isinstance(alignment.segments, SegmentSlice)
    }
    assert len(found) == 50 and len(tables) == 1
    stops = [alignment.segments[-1].stop_s for alignment in found.values()]
    assert np.allclose(stops, 2.0)
