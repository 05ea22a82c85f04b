"""A file is there whole or not at all, and belongs to whom the umask says."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from speechattn.system import atomic_files as files
from speechattn.system.atomic_files import write_bytes, write_json, write_lines


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.json"
    write_json(path, {"a": [1, "ü"]})
    assert json.loads(path.read_text()) == {"a": [1, "ü"]}
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        write_bytes(path, b"half")
    assert json.loads(path.read_text()) == {"a": [1, "ü"]}
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.json"]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o666 & ~umask


def test_leftovers_of_this_and_of_dead_processes_go(tmp_path: Path) -> None:
    files.path_aside(tmp_path / "a").write_text("half")
    files.path_aside(tmp_path / "folder").mkdir()
    for name in (f"b.tmp-{os.getppid()}", "c.tmp-", "d.tmp-99999999999999999999", "e"):
        (tmp_path / name).write_text("")
    files.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"b.tmp-{os.getppid()}", "c.tmp-", "e"]


def test_lines_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_lines(path, (f"ü{number}" for number in range(3)))
    assert path.read_bytes() == "ü0\nü1\nü2\n".encode()

    def broken() -> Iterator[str]:
        yield "new"
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_lines(path, broken())
    assert path.read_bytes() == "ü0\nü1\nü2\n".encode() and list(tmp_path.iterdir()) == [path]
