"""An archive writes files and folders below one folder, or nothing is taken from it."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from speechattn.errors import DataError, UserError
from speechattn.system import safe_archive
from speechattn.system.safe_archive import extract_archive

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = b"data", **changes: object) -> Member:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in changes.items():
        setattr(member, key, value)
    return member, data


def archive_of(path: Path, *members: Member, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return path


def extract(archive: Path, folder: Path, max_bytes: int = 1000) -> dict[str, bytes]:
    extract_archive(archive, folder, lambda parts: parts[0] == "a", max_bytes, progress=False)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_files_and_folders_are_written(tmp_path: Path, mode: str) -> None:
    folder = file("a/", b"", type=tarfile.DIRTYPE, mode=0o000)
    empty = file("a/empty/", b"", type=tarfile.DIRTYPE)
    long = f"a/{'n' * 120}/{'m' * 120}"
    members = (folder, empty, file("./a/b.txt", mode=0o4777, uid=1), file("a/d/c.txt", b""), file(long, b"long"))
    found = extract(archive_of(tmp_path / "x.tar", *members, mode=mode), tmp_path / "out")
    assert found == {"a/b.txt": b"data", "a/d/c.txt": b"", long: b"long"}
    assert (tmp_path / "out" / "a" / "empty").is_dir()
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "out" / "a" / "b.txt").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize(
    ("member", "fault"),
    [
        (file("/a/absolute"), "a path outside of it"),
        (file("a/../../climbs"), "a path outside of it"),
        (file("../climbs"), "a path outside of it"),
        (file("./"), "a path outside of it"),
        (file("a/" * 2000 + "deep"), "a path outside of it"),
        (file("b/other"), "which does not belong there"),
        (file("a/b.txt"), "twice"),
        (file("a/link", b"", type=tarfile.SYMTYPE, linkname="../../climbs"), "no plain file or folder"),
        (file("a/link", b"", type=tarfile.LNKTYPE, linkname="a/b.txt"), "no plain file or folder"),
        (file("a/device", b"", type=tarfile.CHRTYPE), "no plain file or folder"),
        (file("a/disk", b"", type=tarfile.BLKTYPE), "no plain file or folder"),
        (file("a/pipe", b"", type=tarfile.FIFOTYPE), "no plain file or folder"),
        (file("a/continued", type=tarfile.CONTTYPE), "no plain file or folder"),
        (file("a/sparse", pax_headers={"GNU.sparse.map": "0,4", "GNU.sparse.size": "9"}), "no plain file or folder"),
        (file("a/unknown", b"", type=b"Q"), "no plain file or folder"),
        (file("a/large", bytes(997)), "it would become over 1 KB"),
        (file("a/b.txt/below"), "damaged"),
        (file("a/" + "n" * 300), "damaged"),
        (file("a", b""), "twice"),
    ],
)
def test_a_hostile_member_is_refused_in_one_line(tmp_path: Path, member: Member, fault: str) -> None:
    archive = archive_of(tmp_path / "x.tar.gz", file("a/b.txt"), member)
    with pytest.raises(DataError, match=fault) as caught:
        extract(archive, tmp_path / "out")
    assert str(archive) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.tar.gz"]


def test_an_archive_that_unpacks_to_very_much_stops_before_it_is_written(tmp_path: Path) -> None:
    bomb = archive_of(tmp_path / "x.tar.gz", file("a/zeros", bytes(10**7)))
    assert bomb.stat().st_size < 20_000
    with pytest.raises(DataError, match="would become over 10 MB"):
        extract(bomb, tmp_path / "out")
    assert list((tmp_path / "out").rglob("*")) == []


def test_too_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_archive, "MAX_MEMBERS", 3)
    with pytest.raises(DataError, match="too many files"):
        extract(archive_of(tmp_path / "x.tar.gz", *(file(f"a/{i}", b"") for i in range(4))), tmp_path / "out")


def damaged(data: bytes) -> list[bytes]:
    return [data[: len(data) // 2], data[:20], b"", b"PK\3\4 a zip file", b"<html>not found</html>"]


@pytest.mark.parametrize("damage", range(5))
def test_a_damaged_archive_is_one_line(tmp_path: Path, damage: int) -> None:
    archive = archive_of(tmp_path / "x.tar.gz", file("a/b.txt", os.urandom(900)))
    archive.write_bytes(damaged(archive.read_bytes())[damage])
    with pytest.raises(DataError, match=r"x\.tar\.gz cannot be extracted: it is damaged or cut off") as caught:
        extract(archive, tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_headers_that_break_tarfile_are_damage(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a/b.txt").tobuf()
    negative = header[:124] + b"\xff" * 12 + header[136:148] + b"        " + header[156:]
    total = sum(negative)
    negative = negative[:148] + f"{total:06o}\0 ".encode() + negative[156:]
    (tmp_path / "x.tar").write_bytes(negative + bytes(1024))
    with pytest.raises(DataError, match=r"x\.tar "):
        extract(tmp_path / "x.tar", tmp_path / "out")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_would_fill_the_memory_is_damage(tmp_path: Path, kind: bytes) -> None:
    archive = tmp_path / "x.tar"
    with tarfile.open(archive, "w") as tar:
        header = tarfile.TarInfo("a/long")
        header.type, header.size = kind, 2**30
        assert tar.fileobj is not None
        tar.fileobj.write(tarfile.TarInfo("a/b.txt").tobuf() + header.tobuf(tarfile.GNU_FORMAT))
    with archive.open("r+b") as file:
        file.truncate(2**30 + 10_240)  # a sparse file: it takes no space
    with pytest.raises(DataError, match=r"damaged or cut off .*a header of 1\.07 GB"):
        extract(archive, tmp_path / "out")


def test_a_full_disk_is_reported_with_the_space_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    archive = archive_of(tmp_path / "x.tar.gz", file("a/b.txt"))
    with pytest.raises(UserError, match=r"The disk is full: extracting .*x\.tar\.gz takes about .* free now"):
        extract(archive, tmp_path / "out")


def test_a_folder_that_cannot_be_written_is_no_damage(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "x.tar.gz", file("a/b.txt"))
    with pytest.raises(UserError, match="cannot be extracted below"):
        extract(archive, Path("/proc/absent/out"))
