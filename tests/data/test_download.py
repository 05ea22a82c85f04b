"""Subsets of LibriSpeech are fetched, verified, extracted and complete, or not there; all on loopback."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from file_server import FileServer, serve

from speechattn.data import download as module
from speechattn.data.download import check_space, count_utterances, download, find_subset
from speechattn.data.librispeech import LibriSpeech
from speechattn.data.librispeech_archives import ARCHIVES, SERVER, Archive
from speechattn.errors import DataError, UserError
from speechattn.system import resumable_download
from speechattn.system.run_lock import RunLock

Spoil = Callable[[tarfile.TarFile], None]
ROOT = Path(__file__).parents[2]


def archive_of(subset: str, spoil: Spoil | None = None) -> bytes:
    """Return an archive as LibriSpeech's with two speakers, one chapter each; there is no sound in its recordings."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        contents = {f"LibriSpeech/{name}.TXT": f"; {name}" for name in ("SPEAKERS", "README")}
        for speaker in ("19", "26"):
            chapter = f"LibriSpeech/{subset}/{speaker}/198"
            contents[f"{chapter}/{speaker}-198-0000.flac"] = "never opened"
            contents[f"{chapter}/{speaker}-198.trans.txt"] = f"{speaker}-198-0000 HELLO WORLD\n"
        for name, text in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
        if spoil:
            spoil(tar)
    return packed.getvalue()


def offer(data: bytes, utterances: int = 2) -> Archive:
    return Archive(len(data), hashlib.sha256(data).hexdigest(), utterances, 0.1)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A mirror with small archives of dev-clean and test-clean."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(resumable_download, "PAUSES_S", (0.0,) * 4)
    files = {f"{subset}.tar.gz": archive_of(subset) for subset in ("dev-clean", "test-clean")}
    for name, data in files.items():
        monkeypatch.setitem(ARCHIVES, name.removesuffix(".tar.gz"), offer(data))
    with serve(files) as mirror:
        monkeypatch.setenv("SPEECHATTN_MIRROR", mirror.url + "/")
        yield mirror


def put(server: FileServer, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Make `data` the archive of dev-clean, sum included."""
    server.files["dev-clean.tar.gz"] = data
    monkeypatch.setitem(ARCHIVES, "dev-clean", offer(data))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_table_is_that_of_torchaudio() -> None:
    torchaudio = pytest.importorskip("torchaudio", exc_type=Exception)  # type: ignore[arg-type]
    table = torchaudio.datasets.librispeech._CHECKSUMS
    found = {url.rsplit("/", 1)[-1]: digest for url, digest in table.items()}
    assert found == {f"{subset}.tar.gz": archive.sha256 for subset, archive in ARCHIVES.items()}
    assert all(url.removeprefix("http://").startswith(SERVER.removeprefix("https://")) for url in table)


def test_a_subset_is_fetched_verified_extracted_and_then_skipped(
    server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = download(tmp_path, "dev-clean")
    assert folder == tmp_path / "LibriSpeech" / "dev-clean"
    shown = capsys.readouterr().err
    assert all(f"{action}dev-clean.tar.gz" in shown for action in ("", "verifying ", "extracting ")) and "100%" in shown
    assert [(u.id, u.transcript) for u in LibriSpeech(tmp_path, "dev-clean")] == [
        ("19-198-0000", "HELLO WORLD"),
        ("26-198-0000", "HELLO WORLD"),
    ]
    assert names(tmp_path) == ["LibriSpeech"]
    assert names(tmp_path / "LibriSpeech") == ["README.TXT", "SPEAKERS.TXT", "dev-clean"]
    for root in (tmp_path, tmp_path / "LibriSpeech", str(tmp_path)):
        assert download(root, "dev-clean", progress=False) == folder
    assert download(tmp_path / "LibriSpeech", "test-clean", progress=False) == folder.with_name("test-clean")
    assert server.asked == [None, None]


def test_an_archive_is_kept_if_wanted_and_one_that_is_there_is_used(server: FileServer, tmp_path: Path) -> None:
    download(tmp_path, "dev-clean", progress=False, keep_archive=True)
    assert names(tmp_path) == ["LibriSpeech", "dev-clean.tar.gz"]
    shutil.rmtree(tmp_path / "LibriSpeech")
    download(tmp_path, "dev-clean", progress=False)
    assert names(tmp_path) == ["LibriSpeech", "dev-clean.tar.gz"]
    assert server.asked == [None]


def test_a_mirror_can_be_a_folder(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "dev-clean.tar.gz").write_bytes(server.files["dev-clean.tar.gz"])
    download(tmp_path / "a", "dev-clean", progress=False, mirror=(tmp_path / "mirror").as_uri())
    assert len(LibriSpeech(tmp_path / "a", "dev-clean")) == 2
    assert server.asked == []
    with pytest.raises(UserError, match="mirror must begin with https://, http:// or file://, got 'ftp://x'"):
        download(tmp_path / "b", "dev-clean", mirror="ftp://x")


def test_a_lost_connection_is_continued_by_the_next_call(server: FileServer, tmp_path: Path) -> None:
    server.cut = [100, 0, 0, 0, 0]
    with pytest.raises(UserError, match=r"did not arrive completely .*100 bytes are kept in .*\.part: run again"):
        download(tmp_path, "dev-clean", progress=False)
    assert names(tmp_path) == ["LibriSpeech"] and names(tmp_path / "LibriSpeech") == [".dev-clean.download"]
    download(tmp_path, "dev-clean", progress=False)
    assert server.asked[-1] == "bytes=100-"
    assert names(tmp_path) == ["LibriSpeech"]


def test_a_linked_librispeech_is_filled_where_it_is(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename from one file system to another fails."""
    other = tmp_path / "other disk"
    other.mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "LibriSpeech").symlink_to(other)
    rename = Path.replace

    def within_one_disk(path: Path, target: Path) -> Path:
        assert path.resolve().is_relative_to(other) and Path(target).parent.resolve() == other
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", within_one_disk)
    download(tmp_path / "data", "dev-clean", progress=False, keep_archive=True)
    assert names(other) == ["README.TXT", "SPEAKERS.TXT", "dev-clean"]
    assert names(tmp_path / "data") == ["LibriSpeech", "dev-clean.tar.gz"]


def test_an_absent_mirror_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    server.files.clear()
    with pytest.raises(UserError, match="answers 404"):
        download(tmp_path / "new", "dev-clean", progress=False)
    assert names(tmp_path / "new") == []


def test_an_interrupted_extraction_starts_again_without_the_server(server: FileServer, tmp_path: Path) -> None:
    work = tmp_path / "LibriSpeech" / ".dev-clean.download"
    (work / "extracted" / "LibriSpeech" / "dev-clean" / "99").mkdir(parents=True)
    (work / "dev-clean.tar.gz.part").write_bytes(server.files["dev-clean.tar.gz"])
    download(tmp_path, "dev-clean", progress=False)
    assert LibriSpeech(tmp_path, "dev-clean").speakers.keys() == {"19", "26"}
    assert names(tmp_path / "LibriSpeech") == ["README.TXT", "SPEAKERS.TXT", "dev-clean"] and server.asked == []


@pytest.mark.parametrize("stage", ["fetch", "sha256_of", "extract_archive", "count_utterances"])
def test_an_interruption_at_any_stage_is_continued(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    with monkeypatch.context() as patch:
        original = getattr(module, stage)

        def interrupted(*arguments: object, **options: object) -> object:
            original(*arguments, **options)
            raise KeyboardInterrupt

        patch.setattr(module, stage, interrupted)
        with pytest.raises(KeyboardInterrupt):
            download(tmp_path, "dev-clean", progress=False)
    assert names(tmp_path / "LibriSpeech") == [".dev-clean.download"]
    assert names(tmp_path / "LibriSpeech" / ".dev-clean.download") == [".lock", "dev-clean.tar.gz.part"]
    download(tmp_path, "dev-clean", progress=False)
    assert names(tmp_path / "LibriSpeech") == ["README.TXT", "SPEAKERS.TXT", "dev-clean"] and server.asked == [None]


def test_a_wrong_sum_leaves_nothing(server: FileServer, tmp_path: Path) -> None:
    good = server.files["dev-clean.tar.gz"]
    server.files["dev-clean.tar.gz"] = bytes(len(good))
    with pytest.raises(
        DataError, match=r"dev-clean\.tar\.gz\.part is damaged: SHA-256 .*, expected .*\. It was removed: run again"
    ):
        download(tmp_path, "dev-clean", progress=False)
    assert names(tmp_path) == []


def test_the_archive_of_another_subset_is_named(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = archive_of("test-clean")
    monkeypatch.setitem(ARCHIVES, "test-clean", offer(other))
    monkeypatch.setitem(ARCHIVES, "dev-clean", replace(ARCHIVES["dev-clean"], size=len(other)))
    (tmp_path / "dev-clean.tar.gz").write_bytes(other)
    with pytest.raises(DataError, match=r"dev-clean\.tar\.gz is the archive of test-clean: SHA-256"):
        download(tmp_path, "dev-clean", progress=False)
    put(server, monkeypatch, other)  # even if the sum fits
    with pytest.raises(DataError, match=r"holds LibriSpeech/test-clean, expected dev-clean: it is the archive of"):
        download(tmp_path, "dev-clean", progress=False)
    assert names(tmp_path) == ["dev-clean.tar.gz"]  # the user's


def test_half_an_archive_of_the_user_is_refused_and_kept(server: FileServer, tmp_path: Path) -> None:
    half = server.files["dev-clean.tar.gz"][:200]
    (tmp_path / "dev-clean.tar.gz").write_bytes(half)
    with pytest.raises(DataError, match=r"dev-clean\.tar\.gz has 200 bytes, expected \d+\. Remove it: run again"):
        download(tmp_path, "dev-clean", progress=False)
    assert names(tmp_path) == ["dev-clean.tar.gz"]


def add(tar: tarfile.TarFile, name: str, **changes: object) -> None:
    member = tarfile.TarInfo(name)
    for key, value in changes.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(bytes(member.size)))


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda tar: add(tar, "../../escaped.txt"), "a path outside of it"),
        (
            lambda tar: add(tar, "LibriSpeech/dev-clean/x", type=tarfile.SYMTYPE, linkname="/"),
            "no plain file or folder",
        ),
        (lambda tar: add(tar, "LibriSpeech/dev-clean/x", type=tarfile.CHRTYPE), "no plain file or folder"),
        (lambda tar: add(tar, "LibriSpeech/evil.py"), "does not belong there"),
        (lambda tar: add(tar, "LibriSpeech/dev-clean/19/198/zeros", size=10**6), "would become over 1 MB"),
        (lambda tar: add(tar, "LibriSpeech/dev-clean/19/198/19-198-0001.flac"), None),
    ],
)
def test_a_hostile_archive_is_one_line_and_leaves_nothing(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Spoil, fault: str | None
) -> None:
    monkeypatch.setattr(module, "SMALL_BYTES", 10**5)
    put(server, monkeypatch, archive_of("dev-clean", spoil))
    if fault is None:
        monkeypatch.setitem(ARCHIVES, "dev-clean", replace(ARCHIVES["dev-clean"], utterances=3))
    with pytest.raises(DataError, match=fault or "holds 2 utterances of dev-clean, expected 3") as caught:
        download(tmp_path / "root", "dev-clean", progress=False)
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["root"] and names(tmp_path / "root") == []


def test_a_part_of_a_subset_is_left_alone(server: FileServer, tmp_path: Path) -> None:
    """torchaudio takes any folder of this name for a complete subset."""
    folder = download(tmp_path, "dev-clean", progress=False)
    (folder / "19" / "198" / "19-198-0000.flac").unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=r"dev-clean exists and holds 1 complete utterances, and dev-clean has 2: "):
        download(tmp_path, "dev-clean", progress=False)
    assert sorted(tmp_path.rglob("*")) == before
    (folder / "26" / "198" / "26-198.trans.txt").unlink()
    (tmp_path / "LibriSpeech" / "test-clean").mkdir()
    for subset in ("dev-clean", "test-clean"):
        found = find_subset(tmp_path, subset)
        assert found == tmp_path / "LibriSpeech" / subset and count_utterances(found) == 0
    assert find_subset(tmp_path / "LibriSpeech", "dev-clean") == folder
    assert find_subset(tmp_path, "dev-other") is None


def test_tables_of_the_user_are_not_overwritten(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "LibriSpeech").mkdir()
    (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").write_text("mine")
    download(tmp_path, "dev-clean", progress=False)
    assert (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").read_text() == "mine"


def test_a_second_download_of_the_same_subset_is_refused(server: FileServer, tmp_path: Path) -> None:
    with RunLock(tmp_path / "LibriSpeech" / ".dev-clean.download"):
        with pytest.raises(UserError, match=rf"\.dev-clean\.download is in use by pid {os.getpid()}\. Wait for it"):
            download(tmp_path, "dev-clean", progress=False)
        download(tmp_path, "test-clean", progress=False)
    download(tmp_path, "dev-clean", progress=False)


def test_a_subset_that_another_process_finished_meanwhile_is_taken(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = check_space

    def others_are_faster(*arguments: object) -> None:
        monkeypatch.setattr(module, "check_space", check)
        download(tmp_path, "dev-clean", progress=False)

    monkeypatch.setattr(module, "check_space", others_are_faster)
    assert download(tmp_path, "dev-clean", progress=False) == tmp_path / "LibriSpeech" / "dev-clean"
    assert server.asked == [None] and names(tmp_path) == ["LibriSpeech"]


def test_an_unknown_subset_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no subset 'dev-claen': one of dev-clean, .*Did you mean dev-clean\?"):
        download(tmp_path, "dev-claen")


def test_space_is_checked_for_archives_and_extracted_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    free = 0
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(0, 0, free))
    for subset in ("dev-clean", "test-clean"):
        monkeypatch.setitem(ARCHIVES, subset, Archive(1_000_000, "", 2, 0.1))

    def enough(needed: float, *subsets: str, keep: bool = False) -> bool:
        """Whether `needed` bytes, and not one less, are enough."""
        nonlocal free
        free = round(needed) - 1
        with pytest.raises(UserError, match=rf"{', '.join(subsets)}: .* MB are needed in .*new, .* are free: free"):
            check_space(tmp_path / "new", subsets, keep)
        free = round(needed)
        check_space(tmp_path / "new", subsets, keep)
        return True

    assert enough(2.1e6, "dev-clean")
    assert enough(3.2e6, "dev-clean", "test-clean")
    assert enough(4.2e6, "dev-clean", "test-clean", keep=True)
    work = tmp_path / "new" / "LibriSpeech" / ".dev-clean.download"
    work.mkdir(parents=True)
    (work / "dev-clean.tar.gz.part").write_bytes(bytes(300_000))
    assert enough(1.8e6, "dev-clean")
    (tmp_path / "new" / "dev-clean.tar.gz").write_bytes(b"x")
    assert enough(1.1e6, "dev-clean")


def test_a_process_that_is_killed_at_any_moment_is_continued(server: FileServer, tmp_path: Path) -> None:
    program = (
        "import sys, os\n"
        "from speechattn.data import download as m\n"
        "from speechattn.data.librispeech_archives import ARCHIVES, Archive\n"
        "ARCHIVES['dev-clean'] = Archive(int(sys.argv[2]), sys.argv[3], 2, 0.1)\n"
        "calls = int(sys.argv[4])\n"
        "def hook(event, args):\n"
        "    global calls\n"
        "    if event in ('open', 'os.rename', 'os.mkdir', 'os.remove') and '.download' in str(args[0]):\n"
        "        calls -= 1\n"
        "        if calls == 0: os.kill(os.getpid(), 9)\n"
        "sys.addaudithook(hook)\n"
        "m.download(sys.argv[1], 'dev-clean', progress=False)\n"
    )
    known = ARCHIVES["dev-clean"]
    for calls in (2, 5, 9, 12, 15, 1000):
        arguments = [str(tmp_path), str(known.size), known.sha256, str(calls)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        ran = subprocess.run([sys.executable, "-c", program, *arguments], env=environment, timeout=60)
        if calls == 1000:
            assert ran.returncode == 0
        else:
            assert ran.returncode == -9
            assert not (tmp_path / "LibriSpeech" / "dev-clean").exists()
    assert len(LibriSpeech(tmp_path, "dev-clean")) == 2
    assert names(tmp_path / "LibriSpeech") == ["README.TXT", "SPEAKERS.TXT", "dev-clean"]
