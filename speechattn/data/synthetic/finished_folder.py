"""A folder that is made once: written under another name, renamed when complete, and never used half written."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from speechattn.system.serialization import parse_json

if sys.platform != "win32":
    import fcntl


def is_complete(folder: Path) -> bool:
    """Return whether the manifest exists, and the files that it counted."""
    try:
        manifest = parse_json((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("contents") == folder_contents(folder)


def folder_contents(folder: Path) -> dict[str, int]:
    """Return the number of files below the folder's own files, and their bytes."""
    sizes = [path.stat().st_size for path in folder.glob("*/**/*.*")]
    return {"files": len(sizes), "bytes": sum(sizes)}


@contextlib.contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Wait until no other process holds the lock. The system releases it when its holder ends, however it ends."""
    with lock.open("w") as file:
        if sys.platform != "win32":
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def partial_folder(folder: Path) -> Path:
    """Return the name under which this process writes the folder."""
    return folder.with_name(f"{folder.name}.partial-{os.getpid()}")


def finish(partial: Path, folder: Path) -> None:
    """Rename a complete folder, in place of a damaged one."""
    if folder.exists():  # damaged, or it would have been used
        shutil.rmtree(folder)
    partial.rename(folder)


def remove_partial(folder: Path) -> None:
    """Remove unfinished versions next to `folder`."""
    for leftover in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
