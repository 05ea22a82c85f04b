"""The first format of alignments that a folder has is read, with the labels asked for; gaps follow the format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from speechattn.data.labels.alignments import load_alignments
from speechattn.data.labels.classes import OTHER, PHONES, SPEECH, word_classes
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segments import SILENCE, Alignment, Segment
from speechattn.data.librispeech import LibriSpeech
from speechattn.errors import DataError
from speechattn.framing import Framing

WORDS = (SILENCE, OTHER, "the")
TEXTGRID = """"ooTextFile" "TextGrid" 0 2 <exists> {size}
{tiers}
"""


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def grid(path: Path, **tiers: str) -> Path:
    """A TextGrid of two seconds with tiers of two labels, one second each."""
    lines = []
    for name, labels in tiers.items():
        first, second = labels.split("|")
        lines.append(f'"IntervalTier" "{name.replace("_", " - ")}" 0 2 2 0 1 "{first}" 1 2 "{second}"')
    return put(path, TEXTGRID.format(size=len(lines), tiers="\n".join(lines)))


def labels_of(alignment: Alignment) -> list[str]:
    return [segment.label for segment in alignment.segments]


# What is searched for


def test_phones_are_read_as_ctm_then_textgrid_then_rows_or_the_search_is_listed(tmp_path: Path) -> None:
    wanted = r"no alignments of 'x': looked for x.phones.ctm, \*.TextGrid or x.frame_labels.txt, found nothing\."
    with pytest.raises(DataError, match=wanted):
        load_alignments(tmp_path, "x", PHONES)
    with pytest.raises(DataError, match="none does not exist: expected a folder or a file with alignments of phones"):
        load_alignments(tmp_path / "none", "x", PHONES)
    put(tmp_path / "x.frame_labels.txt", "a 1 0\n")
    assert labels_of(load_alignments(tmp_path, "x")["a"]) == ["AA", "SIL"]
    put(tmp_path / "classes.txt", "0 sil\n1 b\n")
    assert labels_of(load_alignments(str(tmp_path), "x")["a"]) == ["B", "SIL"]
    grid(tmp_path / "a.TextGrid", words="the|", phones="sh|")
    assert load_alignments(tmp_path, "x") == {"a": Alignment([Segment(0, 1, "SH"), Segment(1, 2, "SIL")], 2.0)}
    path = put(tmp_path / "x.phones.ctm", "a 1 0 1 ih2\n")
    for source in (tmp_path, path):
        assert load_alignments(source, "x") == {"a": Alignment([Segment(0.0, 1.0, "IH")], 1.0)}
    put(tmp_path / "x.phones.ctm", "a 1 0 1 Iih\n")
    with pytest.raises(DataError, match=r"x.phones.ctm: utterance a: unknown phone 'Iih': .* 'IH'"):
        load_alignments(tmp_path, "x")


def test_words_as_ctm_then_word_times_then_textgrid(tmp_path: Path) -> None:
    put(tmp_path / "x.phones.ctm", "a 1 0 1 ih2\n")
    wanted = r"looked for x.words.ctm, \*.alignment.txt or \*.TextGrid, found x.phones.ctm\."
    with pytest.raises(DataError, match=wanted):
        load_alignments(tmp_path, "x", WORDS)
    grid(tmp_path / "a.TextGrid", words="The|cat", phones="sh|")
    assert labels_of(load_alignments(tmp_path, "x", WORDS)["a"]) == ["the", OTHER]
    put(tmp_path / "1-2.alignment.txt", 'a ",SILENCE,THE," "0.5,1,1.5,2"\n')
    assert labels_of(load_alignments(tmp_path, "x", WORDS)["a"]) == ["SIL", OTHER, "the", "SIL"]
    assert labels_of(load_alignments(tmp_path, "x", None)["a"]) == ["SIL", "silence", "the", "SIL"]
    put(tmp_path / "x.words.ctm", "a 1 0 1 DOG\n")
    assert labels_of(load_alignments(tmp_path, "x", None)["a"]) == ["dog"]


def test_speech_from_phones_or_from_words(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x.phones.ctm, .*, x.words.ctm or \*.alignment.txt, found nothing"):
        load_alignments(tmp_path, "x", SPEECH)
    forms = [
        (put, tmp_path / "1-2.alignment.txt", 'a ",SILENCE," "0.5,1,1.5"\n', ["SIL", "SPEECH", "SIL"]),
        (put, tmp_path / "x.words.ctm", "a 1 0 1 <sil>\na 1 1 1 silence\n", ["SIL", "SPEECH"]),
        (put, tmp_path / "x.frame_labels.txt", "a 40 0 1\n", ["SPEECH", "SIL", "SPEECH"]),
    ]
    for make, path, text, wanted in forms:
        make(path, text)
        assert labels_of(load_alignments(tmp_path, "x", SPEECH)["a"]) == wanted
    grid(tmp_path / "a.TextGrid", words="|silence")
    assert labels_of(load_alignments(tmp_path, "x", SPEECH)["a"]) == ["SIL", "SPEECH"]
    grid(tmp_path / "a.TextGrid", words="|", phones="ʃ|sil")
    assert labels_of(load_alignments(tmp_path, "x", SPEECH)["a"]) == ["SPEECH", "SIL"]
    put(tmp_path / "x.phones.ctm", "a 1 0 1 silence\na 1 1 1 anything\n")
    assert labels_of(load_alignments(tmp_path, "x", SPEECH)["a"]) == ["SIL", "SPEECH"]


@pytest.mark.parametrize("base", ["x/84/12", "LibriSpeech/x/84/12", "", "84"])
def test_folders_nested_like_the_corpus_or_flat(tmp_path: Path, base: str) -> None:
    for id in ("84-12-0000", "84-12-0001"):
        grid(tmp_path / base / f"{id}.TextGrid", **{"84_words": "the|", "84_phones": "AH0|sp"})
    put(tmp_path / base / "._84-12-0000.TextGrid", "what macOS leaves behind")
    put(tmp_path / base / "84-12.alignment.txt", 'other "A" "1"\n')
    if base.endswith("12"):  # another subset is left alone
        grid(tmp_path / base.replace("x", "y") / "9-9-0000.TextGrid", phones="?|?")
    got = load_alignments(tmp_path, "x")
    assert set(got) == {"84-12-0000", "84-12-0001"}
    assert labels_of(got["84-12-0001"]) == ["AH", "SIL"]
    assert set(load_alignments(tmp_path, "x", None)) == {"other"}


# Files that are given by name


def test_one_file_of_each_format_is_read(tmp_path: Path) -> None:
    path = grid(tmp_path / "84-12-0000.TextGrid", Words="the|", Phones="AH0|sp")
    assert labels_of(load_alignments(path, "x")["84-12-0000"]) == ["AH", "SIL"]
    assert labels_of(load_alignments(path, "x", WORDS)["84-12-0000"]) == ["the", "SIL"]
    assert labels_of(load_alignments(put(tmp_path / "any.ctm", "a 1 0 1 THE\n"), "x", WORDS)["a"]) == ["the"]
    assert labels_of(load_alignments(put(tmp_path / "rows", "a 1\n"), "x")["a"]) == ["AA"]


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("x.words.ctm", PHONES, "x.words.ctm holds words, and --labels phones needs phones"),
        ("x.phones.ctm", WORDS, "x.phones.ctm holds phones, and --labels words needs words"),
        ("1-2.alignment.txt", PHONES, "holds words"),
        ("x.frame_labels.txt", None, "holds phones"),
    ],
)
def test_a_file_of_the_wrong_kind_is_refused(
    tmp_path: Path, name: str, classes: Sequence[str] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        load_alignments(put(tmp_path / name, "a 1 0 1 AA\n"), "x", classes)


def test_a_textgrid_without_the_tier_names_those_it_has(tmp_path: Path) -> None:
    grid(tmp_path / "a.TextGrid", Mary="a|b", John="c|d")
    with pytest.raises(DataError, match=r"a.TextGrid has no interval tier called 'phones'; it has 'Mary', 'John'\."):
        load_alignments(tmp_path, "x")
    with pytest.raises(DataError, match="called 'phones' or 'words'; it has"):
        load_alignments(tmp_path, "x", SPEECH)


def test_an_utterance_in_two_files_is_refused(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        grid(tmp_path / folder / "a.TextGrid", phones="AH|AH")
    with pytest.raises(DataError, match=r"two/a\.TextGrid: utterance a: it was already found in another file below"):
        load_alignments(tmp_path, "x")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.ctm")
    with pytest.raises(DataError, match="is neither a file nor a folder"):
        load_alignments(tmp_path / "x.ctm", "x")


def test_words_of_a_folder_that_is_not_there_are_no_phones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist: expected a folder or a file with alignments of words"):
        load_alignments(tmp_path / "nowhere", "x", WORDS)
    with pytest.raises(DataError, match=r"x\.ZIP is packed: unpack it, and give the folder\."):
        load_alignments(put(tmp_path / "x.ZIP", "PK"), "x", WORDS)


# Damage to one utterance


def damaged_and_whole(path: Path, classes: Sequence[str] | None = PHONES) -> tuple[dict[str, str], set[str]]:
    with pytest.raises(DataError):
        load_alignments(path, "x", classes)
    damaged: dict[str, str] = {}
    return damaged, set(load_alignments(path, "x", classes, damaged))


def test_a_damaged_line_costs_its_utterance_alone_in_every_table(tmp_path: Path) -> None:
    tables = {
        "x.phones.ctm": [
            "a 1 0 1 AA",
            "b 1 0 1 AA",
            "b 1 1 one AA",
            "c 1 0 1 AA",
            "c 1 0.5 1 AA",
            "d 1 0 1 QQQ",
            "e 1",
        ],
        "x.frame_labels.txt": ["a 0 1", "b 0 99", "c 0", "c 1", "d 0 x", "e 1.5"],
        "1-2.alignment.txt": ['a "GO" "1"', 'b "GO" "1,2"', 'c "GO" "1"', 'c "GO" "1"', "d GO 1", 'e "GO" "nan"'],
    }
    for name, lines in tables.items():
        folder = put(tmp_path / name / name, "\n".join(lines) + "\n").parent
        damaged, whole = damaged_and_whole(folder, WORDS if name.endswith("t.txt") else PHONES)
        assert whole == {"a"} and set(damaged) == set("bcde"), name
        assert all(error.startswith(str(folder / name)) for error in damaged.values()), name


def test_bytes_that_are_no_text_cost_the_utterance_of_their_line(tmp_path: Path) -> None:
    tables = {"x.phones.ctm": b"%s 1 0 1 AA\n", "x.frame_labels.txt": b"%s 0 1\n", "1.alignment.txt": b'%s "GO" "1"\n'}
    for name, line in tables.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"".join(line % id for id in (b"a", b"b", b"b\xfc", b"zo\xc3\xab")) + b"c \xff\n")
        damaged, whole = damaged_and_whole(folder, WORDS if name.startswith("1") else PHONES)
        assert whole == {"a", "b", "zo\u00eb"} and set(damaged) == {"b\udcfc", "c"}, name
        assert all("this line is not UTF-8 text" in error for error in damaged.values())


def test_a_damaged_textgrid_costs_its_utterance_alone(tmp_path: Path) -> None:
    for name in ("a.TextGrid", "b.TEXTGRID", "one/c.textgrid", "two/c.TextGrid"):
        grid(tmp_path / name, phones="AH|B")
    put(tmp_path / "d.TextGrid", (tmp_path / "a.TextGrid").read_text().rpartition('1 2 "B"')[0])
    put(tmp_path / "e.TextGrid", "")
    (tmp_path / "f.TextGrid").write_bytes(b"\xff\xfe\x00")
    grid(tmp_path / "g.TextGrid", words="AH|B")
    damaged, whole = damaged_and_whole(tmp_path)
    assert whole == {"a", "b"} and set(damaged) == set("cdefg")
    assert "two/c.TextGrid: utterance c: it was already found in another file" in damaged["c"]
    assert "the file ends here" in damaged["d"] and "no interval tier called 'phones'" in damaged["g"]


def test_the_first_fault_is_raised_when_every_alignment_is_damaged(tmp_path: Path) -> None:
    path = put(tmp_path / "x.phones.ctm", "utterance,channel,start\na,1,0\n")
    with pytest.raises(DataError, match=r"x.phones.ctm:1: expected 'utterance channel start duration label'"):
        load_alignments(path, "x", PHONES, {})


def test_two_channels_of_a_call_are_named_and_do_not_overlap(tmp_path: Path) -> None:
    """The error was that the labels of both sides of a telephone call overlap."""
    path = put(tmp_path / "x.words.ctm", "a A 0 1 the\na B 0.5 1 cat\na A 1 1 the\nb 1 0 1 the\nb A 1 1 cat\n")
    damaged, whole = damaged_and_whole(path, WORDS)
    assert whole == {"b"}  # 1 and A are names of the same channel
    assert f"{path}:2: utterance a has labels of 2 channels (A, B), and its audio is averaged to one" in damaged["a"]
    assert "remix 1" in damaged["a"]


# Gaps


def test_a_gap_is_silence_only_in_a_word_ctm_without_silence(tmp_path: Path) -> None:
    path = put(tmp_path / "x.words.ctm", "a 1 0.5 0.5 the\nb 1 0 1 cat\n")
    got = load_alignments(path, "x", None)
    assert got["a"] == Alignment([Segment(0.5, 1.0, "the")], stop_s=None)
    assert [labels_of(Alignment(got[id].over(2.0), None)) for id in "ab"] == [["SIL", "the", "SIL"], ["cat", "SIL"]]
    assert got["a"].fits(9.0, 0.5) and got["a"].fits(0.6, 0.5) and not got["a"].fits(0.4, 0.5)
    put(path, "a 1 0.5 0.5 the\nb 1 0 1 <eps>\n")  # one line of silence: this aligner writes it down
    got = load_alignments(path, "x", None)
    assert got["a"] == Alignment([Segment(0.5, 1.0, "the")], stop_s=1.0) and got["a"].over(2.0) == got["a"].segments
    put(tmp_path / "x.phones.ctm", "a 1 0.5 0.5 AA\n")
    assert load_alignments(tmp_path, "x")["a"].over(2.0) == [Segment(0.5, 1.0, "AA")]
    (tmp_path / "x.phones.ctm").unlink()
    assert load_alignments(path, "x", SPEECH)["b"] == Alignment([Segment(0.0, 1.0, "SIL")], 1.0)


# Real alignments


def test_words_of_the_real_data_fit_its_transcripts_and_its_phones(librispeech_shared: Path) -> None:
    folder, subset = librispeech_shared / "alignments", "test-other"
    words = load_alignments(folder, subset, None)
    speech = load_alignments(folder, subset, SPEECH)
    classes = word_classes((alignment.segments for alignment in words.values()), 100)
    assert len(classes) == 102 and classes[:5] == (SILENCE, OTHER, "the", "and", "of")
    framing = Framing()
    for utterance in LibriSpeech(librispeech_shared, subset):
        alignment = words[utterance.id]
        spoken_words = [segment.label for segment in alignment.segments if segment.label != SILENCE]
        assert " ".join(spoken_words).upper() == utterance.transcript
        num_samples = framing.samples_at(alignment.segments[-1].stop_s)
        by_word = frame_labels(alignment.segments, num_samples, framing, classes)
        by_phone = frame_labels(speech[utterance.id].segments, num_samples, framing, SPEECH)
        assert ((by_word > 0) == (by_phone > 0)).all()


def test_the_same_words_in_the_other_two_formats(librispeech_tiny: Path, tmp_path: Path) -> None:
    """The CTM written anew as TextGrid and as librispeech-alignments gives the same labels for every frame."""
    words = load_alignments(librispeech_tiny / "alignments", "test-clean", None)
    rows = []
    for id, alignment in words.items():
        segments = alignment.segments
        label = {segment: "" if segment.label == SILENCE else segment.label.upper() for segment in segments}
        intervals = " ".join(f'{s.start_s:.3f} {s.stop_s:.3f} "{label[s]}"' for s in segments)
        tier = f'"IntervalTier" "words" 0 {alignment.stop_s} {len(segments)} {intervals}'
        put(tmp_path / "grids" / f"{id}.TextGrid", TEXTGRID.format(size=1, tiers=tier))
        times = ",".join(f"{segment.stop_s:.3f}" for segment in segments)
        rows.append(f'{id} "{",".join(label[segment] for segment in segments)}" "{times}"\n')
    put(tmp_path / "times" / "1089-134686.alignment.txt", "".join(rows))
    classes = word_classes((alignment.segments for alignment in words.values()), 20)
    for source in ("grids", "times"):
        other = load_alignments(tmp_path / source, "test-clean", classes)
        assert other.keys() == words.keys()
        for id, alignment in words.items():
            num_samples = round(16_000 * alignment.segments[-1].stop_s)
            wanted = frame_labels(alignment.segments, num_samples, Framing(), classes)
            assert frame_labels(other[id].segments, num_samples, Framing(), classes).tolist() == wanted.tolist()
