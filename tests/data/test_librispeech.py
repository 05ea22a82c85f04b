"""The walker pairs recordings with transcripts without opening a sound; download, resume, verify and extract work
on a local archive and a pretended server: no test here opens a socket."""

import hashlib
import io
import tarfile
import types
import urllib.request
from collections.abc import Callable
from http.client import HTTPMessage
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from speechattn.data import librispeech
from speechattn.data.librispeech import LibriSpeech, Speaker, download, extract, fetch, read_speakers
from speechattn.data.segments import Utterance
from speechattn.errors import DataError, UserError

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


def test_speakers_say_what_the_table_knows(tmp_path: Path) -> None:
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


def test_wav_in_the_same_layout(tmp_path: Path) -> None:
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
    for subset in ("dev-clean", ""):
        with pytest.raises(DataError, match=f"no subset '{subset}': found test-other, train-clean-100"):
            LibriSpeech(tmp_path, subset)
    with pytest.raises(DataError, match=r"Did you mean its parent folder, .*LibriSpeech\?"):
        LibriSpeech(base / "test-other", "test-other")
    (base / "dev-clean" / "19" / "198").mkdir(parents=True)
    with pytest.raises(DataError, match=r"dev-clean holds no recordings.*found dev-clean, test-other, train-clean-100"):
        LibriSpeech(tmp_path, "dev-clean")
    (base / "dev-clean" / "19" / "198" / "19-198.trans.txt").write_text("19-198-0000 A\n")
    with pytest.raises(DataError, match="holds no recordings"):
        LibriSpeech(tmp_path, "dev-clean")


def test_transcripts_and_recordings_pair_one_to_one(tmp_path: Path) -> None:
    base = lay_out(tmp_path, count=30)
    chapter = base / "train-clean-100" / "19" / "198"
    for i in range(12):
        (chapter / f"19-198-{i:04}.flac").unlink()
    transcripts = chapter / "19-198.trans.txt"
    lines = transcripts.read_text().splitlines()
    transcripts.write_text("\n".join([*lines[:29], lines[20]]))
    (base / "train-clean-100" / "26" / "199").mkdir()
    (base / "train-clean-100" / "26" / "199" / "26-198-0003.wav").touch()
    with pytest.raises(DataError) as caught:
        LibriSpeech(tmp_path, "train-clean-100")
    message = str(caught.value)
    ten = ", ".join(f"19-198-{i:04}" for i in range(10))
    assert f"12 transcripts without a recording: {ten}, ...;" in message
    assert "1 recordings without a transcript: 19-198-0029;" in message
    assert "2 ids that occur twice: 19-198-0020, 26-198-0003." in message
    assert "\n" not in message


def test_a_chapter_without_its_transcripts(tmp_path: Path) -> None:
    base = lay_out(tmp_path)
    (base / "train-clean-100" / "26" / "198" / "26-198.trans.txt").unlink()
    with pytest.raises(DataError, match="2 recordings without a transcript: 26-198-0000, 26-198-0001"):
        LibriSpeech(tmp_path, "train-clean-100")


@pytest.mark.parametrize("line", ["19-198-0000", "19-198-0000   "])
def test_an_id_without_words(tmp_path: Path, line: str) -> None:
    transcripts = lay_out(tmp_path) / "train-clean-100" / "19" / "198" / "19-198.trans.txt"
    transcripts.write_text(f"\n{line}\n")
    with pytest.raises(DataError, match=r"19-198.trans.txt:2: expected an utterance id and its words"):
        LibriSpeech(tmp_path, "train-clean-100")


def test_the_real_corpus(librispeech_shared: Path, librispeech_tiny: Path) -> None:
    train = LibriSpeech(librispeech_shared, "train-clean-100")
    assert (len(train), len(train.speakers), train.missing) == (315, 200, [])
    assert train.speakers["19"].name == "Kara Shallenberg"
    assert all(u.path.is_file() and u.transcript and u.id.startswith(f"{u.speaker}-{u.chapter}-") for u in train)
    assert [u.id for u in train] == sorted(u.id for u in train)
    assert len(LibriSpeech(librispeech_shared / "LibriSpeech", "test-other")) == 50
    assert len(LibriSpeech(librispeech_tiny, "test-clean")) == 5


# Download: nothing below opens a socket


def archive_of(
    tmp_path: Path, subset: str = "dev-clean", extra: Callable[[tarfile.TarFile], None] | None = None
) -> Path:
    base = lay_out(tmp_path / "made", subset)
    (base / "SPEAKERS.TXT").write_text(SPEAKERS)
    path = tmp_path / f"{subset}.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(base, "LibriSpeech")
        if extra:
            extra(tar)
    return path


class Server:
    """Answers `urlopen` from memory: with ranges or without, and it may hang up early."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, data: bytes, ranges: bool = True, send: int | None = None
    ) -> None:
        self.data, self.ranges, self.send = data, ranges, send
        self.asked: list[str | None] = []
        monkeypatch.setattr(urllib.request, "urlopen", self.answer)

    def answer(self, request: urllib.request.Request, timeout: float) -> object:
        wanted = request.get_header("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(self.data):
            raise HTTPError(request.full_url, 416, "Range Not Satisfiable", HTTPMessage(), io.BytesIO())
        response = io.BytesIO(self.data[start : None if self.send is None else start + self.send])
        response.status = 206 if start else 200  # type: ignore[attr-defined]
        response.headers = {"Content-Length": str(len(self.data) - start)}  # type: ignore[attr-defined]
        return response


def sum_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


DATA = bytes(range(256)) * 20


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranges: bool) -> None:
    target = tmp_path / "x.tar.gz"
    server = Server(monkeypatch, DATA, ranges, send=1000)
    with pytest.raises(UserError, match=r"did not arrive whole \(1000 of 5120 bytes\). Run again to continue"):
        fetch("http://example.org/x.tar.gz", target, sum_of(DATA), progress=False)
    assert not target.exists()
    server.send = None
    fetch("http://example.org/x.tar.gz", target, sum_of(DATA), progress=False)
    assert target.read_bytes() == DATA
    assert server.asked == [None, "bytes=1000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar.gz"]


def test_a_part_that_is_whole_needs_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Server(monkeypatch, DATA)
    (tmp_path / "x.part").write_bytes(DATA)
    fetch("http://example.org/x", tmp_path / "x", sum_of(DATA), progress=False)
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_wrong_sum_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Server(monkeypatch, DATA)
    with pytest.raises(DataError, match=f"is damaged: SHA-256 {sum_of(DATA)}, expected {'0' * 64}"):
        fetch("http://example.org/x", tmp_path / "x", "0" * 64, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(UserError, match=r"did not arrive whole .*Name or service not known"):
        fetch("http://example.org/x", tmp_path / "x", "0" * 64, progress=False)


def test_extraction_is_all_or_nothing_and_starts_over(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    (tmp_path / ".dev-clean.extracting" / "LibriSpeech" / "dev-clean" / "99").mkdir(parents=True)
    assert extract(archive, tmp_path, "dev-clean") == tmp_path / "LibriSpeech" / "dev-clean"
    assert len(LibriSpeech(tmp_path, "dev-clean")) == 4
    assert LibriSpeech(tmp_path, "dev-clean").speakers.keys() == {"19", "26"}
    assert (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").exists()
    assert not (tmp_path / ".dev-clean.extracting").exists()


@pytest.mark.parametrize("kept", [0.5, 0.0])
def test_a_damaged_archive(tmp_path: Path, kept: float) -> None:
    archive = archive_of(tmp_path)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(DataError, match=r"dev-clean.tar.gz cannot be extracted"):
        extract(archive, tmp_path, "dev-clean")
    assert not (tmp_path / "LibriSpeech").exists()
    assert not (tmp_path / ".dev-clean.extracting").exists()


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no LibriSpeech/test-clean"):
        extract(archive_of(tmp_path), tmp_path, "test-clean")


@pytest.mark.parametrize("kind", ["climb", "link", "device"])
def test_a_hostile_archive_writes_nothing_outside(tmp_path: Path, kind: str) -> None:
    def spoil(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("../../escaped.txt" if kind == "climb" else "LibriSpeech/dev-clean/trap")
        if kind == "link":
            member.type, member.linkname = tarfile.SYMTYPE, "../../../../escaped.txt"
        elif kind == "device":
            member.type = tarfile.CHRTYPE
        tar.addfile(member, io.BytesIO())

    archive = archive_of(tmp_path, extra=spoil)
    (tmp_path / "root").mkdir()
    with pytest.raises(DataError, match="cannot be extracted"):
        extract(archive, tmp_path / "root", "dev-clean")
    assert not (tmp_path / "escaped.txt").exists()
    assert list((tmp_path / "root").iterdir()) == []


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torchaudio's table, with one archive in it that is made here; returns the archive."""
    archive = archive_of(tmp_path)
    sums = {"http://example.org/12/dev-clean.tar.gz": sum_of(archive.read_bytes())}
    module = types.SimpleNamespace(datasets=types.SimpleNamespace(librispeech=types.SimpleNamespace(_CHECKSUMS=sums)))
    monkeypatch.setattr(librispeech, "require_torchaudio", lambda purpose: module)
    return archive


def test_download_fetches_verifies_extracts_and_is_done(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(monkeypatch, table.read_bytes())
    folder = download(tmp_path / "data", "dev-clean", progress=True)
    assert folder == tmp_path / "data" / "LibriSpeech" / "dev-clean"
    assert "100%" in capsys.readouterr().err
    assert len(LibriSpeech(tmp_path / "data", "dev-clean")) == 4
    assert download(tmp_path / "data", "dev-clean") == folder
    assert server.asked == [None]


def test_download_uses_an_archive_that_is_there_if_it_is_whole(table: Path, tmp_path: Path) -> None:
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(DataError, match="is damaged"):
        download(tmp_path, "dev-clean", progress=False)


def test_download_refuses_a_folder_that_is_half_there(table: Path, tmp_path: Path) -> None:
    base = lay_out(tmp_path / "data", "dev-clean")
    (base / "SPEAKERS.TXT").write_text(SPEAKERS.replace("train-clean-100", "dev-clean"))
    with pytest.raises(UserError, match="dev-clean is incomplete, 1 speakers are missing"):
        download(tmp_path / "data", "dev-clean", progress=False)


def test_download_of_an_unknown_subset(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no subset 'dev-claen': one of dev-clean. Did you mean dev-clean\?"):
        download(tmp_path, "dev-claen", progress=False)


def test_torchaudio_still_has_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchaudio = pytest.importorskip("torchaudio", exc_type=Exception)
    assert torchaudio.datasets.librispeech._CHECKSUMS["http://www.openslr.org/resources/12/dev-clean.tar.gz"]
    with pytest.raises(UserError, match=r"one of dev-clean, dev-other, test-clean, .*Did you mean train-clean-100"):
        download(tmp_path, "train-clean-10", progress=False)
