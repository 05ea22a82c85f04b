"""Atomic writes of files. Standard library only.

A file or folder is first written under its own name with `.tmp-<pid>` appended, synced to the disk and then renamed: a
kill or a full disk at any moment leaves the old one unchanged, and permissions follow the umask.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

MAX_NAME_BYTES = 255
"""Longest name of a file on common file systems."""
_LEFTOVER = re.compile(r".+\.tmp-(\d+)")


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Yield the name to write another content of `path` under; rename it at the end, or remove it after an error."""
    aside = path_aside(path)
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    sync_directory(path.parent)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to the file `path` atomically: a reader sees the old or the new content."""
    with _replacing(Path(path)) as aside:
        write_synced(aside, data)


def write_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Write `lines`, each with a line feed added, to a file atomically, in UTF-8; one at a time is in memory."""
    with (
        _replacing(Path(path)) as aside,
        aside.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as file,
    ):
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: str | Path, obj: Any) -> None:
    """Write `obj` atomically as indented JSON in UTF-8, non-finite numbers as null (see `to_json`)."""
    # In JSON a backslash escape is also what a file name that is not UTF-8 needs.
    write_bytes(path, (to_json(obj, indent=2) + "\n").encode("utf-8", "backslashreplace"))


def to_json(obj: Any, indent: int | None = None) -> str:
    """Return `obj` as strict JSON: NaN and infinity become null.

    Raises:
        TypeError: it holds a value that JSON does not have.
    """
    return json.dumps(_finite(obj), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(obj: Any) -> Any:
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if isinstance(obj, dict):
        return {key: _finite(value) for key, value in obj.items()}
    if isinstance(obj, (list, tuple)):
        return [_finite(value) for value in obj]
    return obj


def write_synced(path: Path, data: bytes) -> str:
    """Write a new file and sync it to the disk; return the sha256 of `data`."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable: a rename is on the disk only after this."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def path_aside(path: Path) -> Path:
    """Return the temporary path of this process for `path`, which `remove_leftovers` recognises.

    A name that would be too long for the file system with the suffix loses its end.
    """
    suffix = f".tmp-{os.getpid()}"
    return path.with_name(os.fsdecode(os.fsencode(path.name)[: MAX_NAME_BYTES - len(suffix)]) + suffix)


def remove_leftovers(directory: Path) -> None:
    """Remove temporary files of dead processes in `directory`."""
    for path in directory.glob("*.tmp-*"):
        match = _LEFTOVER.fullmatch(path.name)
        if match is None or (int(match[1]) != os.getpid() and _alive(int(match[1]))):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # a read-only directory can still be loaded from
                path.unlink()


def sweep(directory: Path) -> None:
    """Remove all temporary files in `directory`: only for the holder of its lock, while no other process writes."""
    for path in directory.glob("*.tmp-*"):
        if _LEFTOVER.fullmatch(path.name) and not path.is_dir():
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # a process of another user
    except (ProcessLookupError, OverflowError):
        return False
    return True


def free_space(directory: Path) -> str:
    """Return the free disk space at `directory` as the middle of a sentence: "12.3 MB are"."""
    try:
        return f"{megabytes(shutil.disk_usage(directory).free)} are"
    except OSError:
        return "an unknown amount is"


def megabytes(size: int) -> str:
    """Return bytes as megabytes with one decimal."""
    return f"{size / 1e6:.1f} MB"
