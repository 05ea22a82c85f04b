"""Download, continue, verify and extract work on a local archive and a simulated server: no test opens a socket."""

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

from speechattn.data import download as module
from speechattn.data.download import download, extract, fetch
from speechattn.data.librispeech import LibriSpeech
from speechattn.errors import DataError, UserError

SPEAKERS = """19 | F | {subset} | 25.19 | Kara Shallenberg
60 | M | {subset} | 20.18 | |CBW|Simon
"""


def lay_out(root: Path, subset: str) -> Path:
    """LibriSpeech/ with SPEAKERS.TXT and one recording (no sound in it) of two speakers; speaker 60 has none."""
    base = root / "LibriSpeech"
    for speaker in ("19", "26"):
        chapter = base / subset / speaker / "198"
        chapter.mkdir(parents=True)
        (chapter / f"{speaker}-198-0000.flac").write_bytes(b"never opened")
        (chapter / f"{speaker}-198.trans.txt").write_text(f"{speaker}-198-0000 HELLO WORLD\n")
    (base / "SPEAKERS.TXT").write_text(SPEAKERS.format(subset="train-clean-100"))
    return base


def archive_of(
    tmp_path: Path, subset: str = "dev-clean", extra: Callable[[tarfile.TarFile], None] | None = None
) -> Path:
    base = lay_out(tmp_path / "made", subset)
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
    with pytest.raises(UserError, match=r"did not arrive completely \(1000 of 5120 bytes\). Run again to continue"):
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


def test_a_missing_network_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(UserError, match=r"did not arrive completely .*Name or service not known"):
        fetch("http://example.org/x", tmp_path / "x", "0" * 64, progress=False)


def test_extraction_is_all_or_nothing_and_starts_over(tmp_path: Path) -> None:
    archive = archive_of(tmp_path)
    (tmp_path / ".dev-clean.extracting" / "LibriSpeech" / "dev-clean" / "99").mkdir(parents=True)
    assert extract(archive, tmp_path, "dev-clean") == tmp_path / "LibriSpeech" / "dev-clean"
    assert len(LibriSpeech(tmp_path, "dev-clean")) == 2
    assert LibriSpeech(tmp_path, "dev-clean").speakers.keys() == {"19", "26"}
    assert (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").exists()
    assert not (tmp_path / ".dev-clean.extracting").exists()


@pytest.mark.parametrize("kept", [0.5, 0.0])
def test_a_damaged_archive_is_refused(tmp_path: Path, kept: float) -> None:
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
    torchaudio = types.SimpleNamespace(
        datasets=types.SimpleNamespace(librispeech=types.SimpleNamespace(_CHECKSUMS=sums))
    )
    monkeypatch.setattr(module, "require_torchaudio", lambda purpose: torchaudio)
    return archive


def test_download_fetches_verifies_extracts_and_is_done(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server(monkeypatch, table.read_bytes())
    folder = download(tmp_path / "data", "dev-clean", progress=True)
    assert folder == tmp_path / "data" / "LibriSpeech" / "dev-clean"
    assert "100%" in capsys.readouterr().err
    assert len(LibriSpeech(tmp_path / "data", "dev-clean")) == 2
    assert download(tmp_path / "data", "dev-clean") == folder
    assert server.asked == [None]


def test_download_uses_an_archive_that_is_there_if_it_is_whole(table: Path, tmp_path: Path) -> None:
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(DataError, match="is damaged"):
        download(tmp_path, "dev-clean", progress=False)


def test_download_refuses_a_folder_that_is_half_there(table: Path, tmp_path: Path) -> None:
    base = lay_out(tmp_path / "data", "dev-clean")
    (base / "SPEAKERS.TXT").write_text(SPEAKERS.format(subset="dev-clean"))
    with pytest.raises(UserError, match="dev-clean is incomplete, 1 speakers are missing"):
        download(tmp_path / "data", "dev-clean", progress=False)
    (base / "SPEAKERS.TXT").unlink()
    next((base / "dev-clean").rglob("*.flac")).unlink()
    with pytest.raises(UserError, match="dev-clean is incomplete, 1 utterances are incomplete"):
        download(tmp_path / "data", "dev-clean", progress=False)


def test_download_of_an_unknown_subset(table: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no subset 'dev-claen': one of dev-clean. Did you mean dev-clean\?"):
        download(tmp_path, "dev-claen", progress=False)


def test_torchaudio_still_has_its_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchaudio = pytest.importorskip("torchaudio", exc_type=Exception)  # type: ignore[arg-type]
    assert torchaudio.datasets.librispeech._CHECKSUMS["http://www.openslr.org/resources/12/dev-clean.tar.gz"]
    with pytest.raises(UserError, match=r"one of dev-clean, dev-other, test-clean, .*Did you mean train-clean-100"):
        download(tmp_path, "train-clean-10", progress=False)
