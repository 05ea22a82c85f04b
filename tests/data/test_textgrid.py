"""Every form of a TextGrid gives the same tiers, and a damaged one is refused with its line."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechattn.data.labels.segments import Segment
from speechattn.data.labels.textgrid import Tier, find_tier, read_textgrid, write_textgrid
from speechattn.errors import DataError

LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 2.3
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "Mary - words"
        xmin = 0
        xmax = 2.3
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.7
            text = ""
        intervals [2]:
            xmin = 0.7
            xmax = 1.5
            text = "say ""it"" ! [2] 3"
        intervals [3]:
            xmin = 1.5
            xmax = 2.3
            text = "über
allem"
    item [2]:
        class = "TextTier"
        name = "bell"
        xmin = 0
        xmax = 2.3
        points: size = 1
        points [1]:
            number = 1.25
            mark = "ding"
    item [3]:
        class = "IntervalTier"
        name = "Mary - phones"
        xmin = 0
        xmax = 2.3
        intervals: size = 1
        intervals [1]:
            xmin = 0.1
            xmax = 2.2
            text = "AH0"
"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
2.3
<exists>
3
"IntervalTier"
"Mary - words"
0
2.3
3
0
0.7
""
0.7
1.5
"say ""it"" ! [2] 3"
1.5
2.3
"über
allem"
"TextTier"
"bell"
0
2.3
1
1.25
"ding"
"IntervalTier"
"Mary - phones"
0
2.3
1
0.1
2.2
"AH0"
"""
OLD_SHORT = SHORT.replace('"ooTextFile"', '"ooTextFile short"').replace('Object class = "TextGrid"', '"TextGrid"')
BY_HAND = """"ooTextFile" "TextGrid" ! no names at all
0 2.3 <exists> 3 tiers
"IntervalTier" "Mary - words" 0 +2.3 3e0 ! three "intervals" <absent>
0 0.70 "" 0.70 15e-1 "say ""it"" ! [2] 3" 1.5 2.3 "über
allem"
"TextTier" "bell" 0 2.3 1 1.25 "ding" "IntervalTier" "Mary - phones" 0 2.3 1 0.1 2.2 "AH0"
"""
TIERS = [
    Tier(
        "Mary - words",
        [Segment(0.0, 0.7, ""), Segment(0.7, 1.5, 'say "it" ! [2] 3'), Segment(1.5, 2.3, "über\nallem")],
        2.3,
    ),
    Tier("Mary - phones", [Segment(0.1, 2.2, "AH0")], 2.3),
]


def written(tmp_path: Path, content: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "a b.TextGrid"
    path.write_bytes(content.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("content", [LONG, SHORT, OLD_SHORT, BY_HAND], ids=["long", "short", "old short", "by hand"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_all_forms_give_the_same_tiers(tmp_path: Path, content: str, encoding: str, newline: str) -> None:
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    got = read_textgrid(written(tmp_path, mark + content.replace("\n", newline), encoding))
    wanted = [
        Tier(name, [replace(segment, label=segment.label.replace("\n", newline)) for segment in segments], stop)
        for name, segments, stop in TIERS
    ]
    assert got == wanted


def test_a_textgrid_without_tiers_gives_none(tmp_path: Path) -> None:
    assert read_textgrid(written(tmp_path, '"ooTextFile" "TextGrid" 0 1 <absent>')) == []


# Tiers by name


@pytest.mark.parametrize("name", ["phones", "PHONES", "Phone", "84 - phones", "Mary Ann - Phones", " phones "])
def test_tiers_are_found_by_name(name: str) -> None:
    tier = Tier(name, [], 1.0)
    assert find_tier([Tier("words", [], 1.0), tier, Tier("my phones", [], 1.0)], "phones", "x") is tier
    assert find_tier([tier], "words", "x") is None


def test_tiers_of_two_speakers_are_refused(tmp_path: Path) -> None:
    tiers = [Tier("a - words", [], 1.0), Tier("b - words", [], 1.0)]
    with pytest.raises(DataError, match=r"x has 2 tiers of words: 'a - words', 'b - words'\."):
        find_tier(tiers, "words", "x")


# Broken files


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ('xmax = 0.7\n            text = ""', 'xmax = 0.7\n            text = "', 18, "no closing quote|expected"),
        ("xmin = 0.7", "xmin = ?", 22, "expected the end of interval 2 of tier 'Mary - words', got \"say"),
        ("xmax = 1.5", "xmax = 0.5", 22, "interval 2 of tier 'Mary - words': Segment must not stop before it starts"),
        ("xmin = 0.1", "xmin = -0.1", 46, "interval 1 of tier 'Mary - phones': Segment must start at 0 s"),
        ("xmin = 1.5", "xmin = 1.4", 26, "'über..allem' from 1.4 s overlaps 'say"),
        ("size = 3\n        int", "size = 4\n        int", 29, 'expected the start of interval 4 .* got "TextTier"'),
        ("size = 3\n        int", "size = 2\n        int", 24, "expected the class of a tier, got 1.5"),
        ("size = 3\nitem", "size = 2\nitem", 38, "more follows"),
        ("size = 3\nitem", "size = 4\nitem", 46, "the file ends here; expected the class of a tier"),
        ("size = 3\nitem", "size = 1.5\nitem", 7, "the number of tiers must be a whole number, got 1.5"),
        ('"TextTier"', '"SpectrumTier"', 29, 'expected "IntervalTier" or "TextTier", got "SpectrumTier"'),
        ('class = "TextGrid"', 'class = "PitchTier"', 2, "another of Praat's objects"),
        ('type = "ooTextFile"', 'type = "ooText"', 1, 'begins with "ooTextFile"'),
        ('type = "ooTextFile"', 'type = "Praat chronological TextGrid text file"', 1, "save it as a text file"),
        ("tiers? <exists>", "tiers?", 7, "expected the flag <exists>, got 3"),
    ],
)
def test_a_broken_file_is_refused_at_its_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert LONG.count(old) >= 1
    with pytest.raises(DataError, match=rf"(?s)a b\.TextGrid:{line}: .*(?:{message})"):
        read_textgrid(written(tmp_path, LONG.replace(old, new, 1)))


@pytest.mark.parametrize("cut", range(30, len(SHORT) - 1, 23))
def test_half_a_textgrid_is_refused(tmp_path: Path, cut: int) -> None:
    with pytest.raises(DataError, match=r"a b\.TextGrid:\d+: "):
        read_textgrid(written(tmp_path, SHORT[:cut]))


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = written(tmp_path, "")
    with pytest.raises(DataError, match=":1: the file ends here"):
        read_textgrid(path)
    path.write_bytes(b"ooBinaryFile\x08TextGrid")
    with pytest.raises(DataError, match="is a binary TextGrid: in Praat, save it as a text file"):
        read_textgrid(path)
    path.write_bytes(SHORT.encode("latin-1"))
    with pytest.raises(DataError, match=r"is not utf-8 text \(byte \d+\): save it as UTF-8"):
        read_textgrid(path)
    path.write_bytes(LONG.encode("utf-16")[:-1])
    with pytest.raises(DataError, match="is not utf-16 text"):
        read_textgrid(path)
    with pytest.raises(DataError, match="/dev/null is a pipe or a device, not a text file"):
        read_textgrid("/dev/null")
    with pytest.raises(DataError, match="none cannot be read: No such file"):
        read_textgrid(tmp_path / "none")


# Round trip


def as_text(tiers: list[Tier], long: bool) -> str:
    """What Praat writes for these tiers, in its long or its short form."""

    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += ["xmin = 0", "xmax = 9", "tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, segments, stop) in enumerate(tiers, start=1):
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {stop!r}", f"        intervals: size = {len(segments)}"]
        for index, segment in enumerate(segments, start=1):
            lines += [f"        intervals [{index}]:", f"            xmin = {segment.start_s!r}"]
            lines += [f"            xmax = {segment.stop_s!r}", f"            text = {quoted(segment.label)}"]
    if not long:
        lines = [line.split(" = ", 1)[-1].replace("tiers? ", "") for line in lines if not line.endswith("]:")]
    return " \n".join(lines) + " \n"  # spaces at the ends of lines, as Praat leaves them


@st.composite
def tiers(draw: st.DrawFn) -> Tier:
    edges = sorted(draw(st.lists(st.floats(0, 1e4), min_size=1, max_size=6, unique=True)))
    texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8).map(str.strip)
    labels = [draw(texts) for _ in edges[1:]]
    segments = [Segment(start, stop, label) for start, stop, label in zip(edges, edges[1:], labels, strict=False)]
    return Tier(draw(texts), segments, edges[-1])


@settings(max_examples=100, deadline=None)
@given(st.lists(tiers(), max_size=3), st.booleans(), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
def test_what_praat_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[Tier], long: bool, encoding: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip.TextGrid"
    path.write_bytes(as_text(drawn, long).encode(encoding))
    assert read_textgrid(path) == drawn


@st.composite
def tiers_with_gaps(draw: st.DrawFn) -> Tier:
    edges = sorted(draw(st.lists(st.floats(0, 1e4), min_size=2, max_size=9, unique=True)))
    segments = [
        Segment(start, stop, draw(st.sampled_from(["AH", "don't", 'say "it"', "über", "!", "1"])))
        for start, stop in pairwise(edges)
        if draw(st.booleans())
    ]
    return Tier(draw(st.sampled_from(["words", "phones", 'a "b"'])), segments, edges[-1] + draw(st.floats(0, 5)))


@settings(max_examples=100, deadline=None)
@given(st.lists(tiers_with_gaps(), min_size=1, max_size=3))
def test_what_is_written_covers_all_of_the_time_and_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[Tier]
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.TextGrid"
    write_textgrid(path, drawn)
    end = max(tier.stop_s for tier in drawn)
    for tier, read in zip(drawn, read_textgrid(path), strict=True):
        assert (read.name, read.stop_s) == (tier.name, end)
        assert [segment for segment in read.segments if segment.label] == tier.segments
        edges = [0.0, *(segment.stop_s for segment in read.segments)]
        assert [segment.start_s for segment in read.segments] == edges[:-1] and edges[-1] == end


def test_the_written_form_is_the_one_of_praat(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    write_textgrid(path, [Tier("words", [Segment(0.25, 0.5, 'say "it"')], 0.5)])
    assert path.read_text(encoding="utf-8").splitlines() == [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        "xmax = 0.5",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        '        name = "words"',
        "        xmin = 0",
        "        xmax = 0.5",
        "        intervals: size = 2",
        "        intervals [1]:",
        "            xmin = 0",
        "            xmax = 0.25",
        '            text = ""',
        "        intervals [2]:",
        "            xmin = 0.25",
        "            xmax = 0.5",
        '            text = "say ""it"""',
    ]


def test_overlapping_segments_and_no_tiers_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tier 'words': 'b' begins at 0\.5 s, before 0\.75 s"):
        write_textgrid(tmp_path / "a", [Tier("words", [Segment(0, 0.75, "a"), Segment(0.5, 1, "b")], 1.0)])
    with pytest.raises(ValueError, match="at least one tier"):
        write_textgrid(tmp_path / "a", [])
    assert list(tmp_path.iterdir()) == []
