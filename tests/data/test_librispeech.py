"""The LibriSpeech reader pairs recordings with transcripts, reports what is missing, and opens no sound file."""

from pathlib import Path

import pytest

from speechattn.data.labels.segments import Utterance
from speechattn.data.librispeech import LibriSpeech, Speaker, read_speakers
from speechattn.errors import DataError

SPEAKERS = """; a comment
;ID  |SEX| SUBSET           |MINUTES| NAME
19   | F | train-clean-100  | 25.19 | Kara Shallenberg
60   | M | train-clean-100  | 20.18 | |CBW|Simon
61   | M | test-other       | 8.08  | Somebody Else
"""


def lay_out(
    root: Path, subset: str = "train-clean-100", speakers: tuple[str, ...] = ("19", "26"), count: int = 2
) -> Path:
    """LibriSpeech/ with `count` recordings (no sound in them) for each speaker."""
    for speaker in speakers:
        chapter = root / "LibriSpeech" / subset / speaker / "198"
        chapter.mkdir(parents=True)
        ids = [f"{speaker}-198-{i:04}" for i in range(count)]
        for id in ids:
            (chapter / f"{id}.flac").write_bytes(b"never opened")
        (chapter / f"{speaker}-198.trans.txt").write_text("".join(f"{id} HELLO WORLD {id[-1]}\n" for id in ids))
    return root / "LibriSpeech"


def test_a_lazy_sorted_sequence_of_utterances(tmp_path: Path) -> None:
    base = lay_out(tmp_path / "a b", speakers=("26", "103", "19"))
    for root in (tmp_path / "a b", base, str(base)):
        corpus = LibriSpeech(root, "train-clean-100")
        assert len(corpus) == 6
        assert [u.id for u in corpus] == [f"{s}-198-000{i}" for s in ("103", "19", "26") for i in (0, 1)]
    path = base / "train-clean-100" / "26" / "198" / "26-198-0001.flac"
    assert corpus[-1] == Utterance("26-198-0001", "26", path, "HELLO WORLD 1", "train-clean-100", "198")
    assert corpus[1:3] == [corpus[1], corpus[2]]
    assert corpus[0] in corpus
    with pytest.raises(IndexError):
        corpus[6]
    assert repr(corpus).endswith("6 utterances, 3 speakers")


def test_speakers_have_the_fields_of_the_table(tmp_path: Path) -> None:
    base = lay_out(tmp_path)
    assert LibriSpeech(tmp_path, "train-clean-100").speakers["19"] == Speaker("19", subset="train-clean-100")
    (base / "SPEAKERS.TXT").write_text(SPEAKERS)
    corpus = LibriSpeech(tmp_path, "train-clean-100")
    assert corpus.speakers == {
        "19": Speaker("19", "F", "train-clean-100", 25.19, "Kara Shallenberg"),
        "26": Speaker("26", None, "train-clean-100", None, ""),
    }
    assert corpus.missing == ["60"]
    assert read_speakers(base / "SPEAKERS.TXT")["60"].name == "|CBW|Simon"


@pytest.mark.parametrize("line", ["19 | F | train-clean-100", "19 | F | train-clean-100 | many | Kara"])
def test_a_malformed_table_names_the_line(tmp_path: Path, line: str) -> None:
    (lay_out(tmp_path) / "SPEAKERS.TXT").write_text(f";x\n{line}\n")
    with pytest.raises(DataError, match=r"SPEAKERS.TXT:2: expected 'id \| sex"):
        _ = LibriSpeech(tmp_path, "train-clean-100").speakers


def test_crlf_mark_blank_lines_and_hidden_files(tmp_path: Path) -> None:
    chapter = lay_out(tmp_path, speakers=("19",)) / "train-clean-100" / "19" / "198"
    text = "\ufeff19-198-0000  ZWÖLF UHR \r\n\r\n19-198-0001 A\r\n"
    (chapter / "19-198.trans.txt").write_bytes(text.encode())
    (chapter / "._19-198-0000.flac").write_bytes(b"left by another system")
    (chapter.parent / ".DS_Store").mkdir()
    (chapter.parents[1] / "README.TXT").write_text("no speaker")
    assert [u.transcript for u in LibriSpeech(tmp_path, "train-clean-100")] == ["ZWÖLF UHR", "A"]


def test_wav_files_in_the_same_layout_are_read(tmp_path: Path) -> None:
    chapter = lay_out(tmp_path, speakers=("19",)) / "train-clean-100" / "19" / "198"
    (chapter / "19-198-0000.flac").rename(chapter / "19-198-0000.wav")
    assert [u.path.suffix for u in LibriSpeech(tmp_path, "train-clean-100")] == [".wav", ".flac"]


def test_missing_folders_say_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder: expected the one that holds <subset>/<speaker>"):
        LibriSpeech(tmp_path / "nowhere", "dev-clean")
    with pytest.raises(DataError, match="no subset 'dev-clean': found no subset folder"):
        LibriSpeech(tmp_path, "dev-clean")
    lay_out(tmp_path)
    base = lay_out(tmp_path, "test-other")
    for subset, message in (("dev-clean", "has no subset 'dev-clean':"), ("", "give a subset with --subset,")):
        with pytest.raises(DataError, match=f"{message} found test-other, train-clean-100"):
            LibriSpeech(tmp_path, subset)
    with pytest.raises(DataError, match=r"Did you mean its parent folder, .*LibriSpeech\?"):
        LibriSpeech(base / "test-other", "test-other")
    (base / "dev-clean" / "19" / "198").mkdir(parents=True)
    with pytest.raises(DataError, match=r"dev-clean holds no recordings.*found dev-clean, test-other, train-clean-100"):
        LibriSpeech(tmp_path, "dev-clean")
    (base / "dev-clean" / "19" / "198" / "19-198.trans.txt").write_text("19-198-0000 A\n")
    with pytest.raises(DataError, match="holds no recordings"):
        LibriSpeech(tmp_path, "dev-clean")


def test_incomplete_utterances_are_named_with_the_reason(tmp_path: Path) -> None:
    base = lay_out(tmp_path, count=8)
    chapter = base / "train-clean-100" / "19" / "198"
    (chapter / "19-198-0000.flac").unlink()
    (chapter / "19-198-0005.wav").touch()
    lines = (chapter / "19-198.trans.txt").read_text().splitlines()
    lines[1:5] = ["19-198-0001", "19-198-0002   ", "19-198-0004\tHELLO WORLD 4", "19-198-0004 OTHER WORDS"]
    lines.append(lines[-1])  # the same words twice do no harm
    (chapter / "19-198.trans.txt").write_text("\n".join(lines))
    corpus = LibriSpeech(tmp_path, "train-clean-100")
    assert corpus.faults == {
        "19-198-0000": "no recording",
        "19-198-0001": "no words in the transcript",
        "19-198-0002": "no words in the transcript",
        "19-198-0003": "no transcript",
        "19-198-0004": "two transcripts",
        "19-198-0005": "two recordings",
    }
    got = {u.id: u.transcript for u in corpus}
    assert len(got) == 14 and {id for id in corpus.faults if id in got} == {f"19-198-000{i}" for i in (1, 2, 3, 4)}
    assert all(got[id] is None for id in corpus.faults if id in got)
    assert (got["19-198-0006"], got["19-198-0007"]) == ("HELLO WORLD 6", "HELLO WORLD 7")


def test_a_subset_needs_no_transcripts_but_a_chapter_without_its_own_is_named(tmp_path: Path) -> None:
    base = lay_out(tmp_path)
    (base / "train-clean-100" / "26" / "198" / "26-198.trans.txt").unlink()
    assert LibriSpeech(tmp_path, "train-clean-100").faults == dict.fromkeys(
        ("26-198-0000", "26-198-0001"), "no transcript"
    )
    latin = base / "train-clean-100" / "19" / "198" / "19-198.trans.txt"
    latin.write_bytes("19-198-0000 ZWÖLF\n".encode("latin-1"))
    faults = LibriSpeech(tmp_path, "train-clean-100").faults
    assert faults["26-198-0000"] == "no transcript" and "19-198.trans.txt is not UTF-8 text" in faults["19-198-0001"]
    latin.unlink()
    corpus = LibriSpeech(tmp_path, "train-clean-100")
    assert corpus.faults == {} and [u.transcript for u in corpus] == [None] * 4


def test_suffixes_in_capitals_and_a_slash_behind_the_subset(tmp_path: Path) -> None:
    chapter = lay_out(tmp_path, speakers=("19",)) / "train-clean-100" / "19" / "198"
    for name, capitals in (("19-198-0000.flac", "19-198-0000.FLAC"), ("19-198.trans.txt", "19-198.Trans.TXT")):
        (chapter / name).rename(chapter / capitals)
    corpus = LibriSpeech(tmp_path, "train-clean-100/")
    assert corpus.subset == "train-clean-100" and corpus.faults == {}
    assert [(u.id, u.transcript) for u in corpus] == [(f"19-198-000{i}", f"HELLO WORLD {i}") for i in (0, 1)]


def test_an_id_is_the_same_composed_and_decomposed(tmp_path: Path) -> None:
    chapter = lay_out(tmp_path, speakers=("19",), count=0) / "train-clean-100" / "19" / "198"
    (chapter / "zoe\u0308-1.flac").touch()  # as macOS writes it
    (chapter / "19-198.trans.txt").write_text("zo\u00eb-1 HELLO\n")
    (utterance,) = LibriSpeech(tmp_path, "train-clean-100")
    assert (utterance.id, utterance.transcript, utterance.path.is_file()) == ("zo\u00eb-1", "HELLO", True)


def test_the_real_corpus_is_read(librispeech_shared: Path, librispeech_tiny: Path) -> None:
    train = LibriSpeech(librispeech_shared, "train-clean-100")
    assert (len(train), len(train.speakers), train.missing) == (315, 200, [])
    assert train.speakers["19"].name == "Kara Shallenberg"
    assert all(u.path.is_file() and u.transcript and u.id.startswith(f"{u.speaker}-{u.chapter}-") for u in train)
    assert [u.id for u in train] == sorted(u.id for u in train)
    assert len(LibriSpeech(librispeech_shared / "LibriSpeech", "test-other")) == 50
    assert len(LibriSpeech(librispeech_tiny, "test-clean")) == 5


@pytest.mark.parametrize("name", ["26-198.trans.txt", "SPEAKERS.TXT"])
def test_a_device_is_not_read_as_text(tmp_path: Path, name: str) -> None:
    """A link to a device gave bytes until the memory was full."""
    base = lay_out(tmp_path, speakers=("26",), count=1)
    path = base / name if name == "SPEAKERS.TXT" else base / "train-clean-100" / "26" / "198" / name
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/null")  # read at once, where /dev/zero would never end
    if name == "SPEAKERS.TXT":
        with pytest.raises(DataError, match=r"SPEAKERS\.TXT is a pipe or a device, not a text file"):
            read_speakers(path)
    else:
        (fault,) = LibriSpeech(tmp_path, "train-clean-100").faults.values()
        assert fault == f"{path} is a pipe or a device, not a text file"
