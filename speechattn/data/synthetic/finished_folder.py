"""A folder that is made once: written under another name, renamed when complete, and never used half written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechattn.errors import UserError
from speechattn.system.serialization import parse_json

if sys.platform != "win32":
    import fcntl


def make_once(
    root: Path, prefix: str, recipe: Mapping[str, Any], make: Callable[[Path], Mapping[str, Any]], what: str
) -> Path:
    """Return the folder `<root>/<prefix>-<key>`, the key a hash of its recipe; make it if it does not exist.

    A second process that needs the same folder waits for the first. What an interrupted run left is removed.

    Args:
        root: where such folders are.
        prefix: of its name.
        recipe: all that decides its contents, as plain JSON types; written into its manifest.json.
        make: fills an empty folder, and returns further entries of the manifest.
        what: is made, for messages.

    Raises:
        UserError: `root` cannot be written, or is full.
    """
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:12]
    folder = Path(root) / f"{prefix}-{key}"
    if is_complete(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.with_suffix(".lock")):
            if not is_complete(folder):
                _make(folder, recipe, make)
    except OSError as error:
        raise UserError(
            f"Cannot write {what} to {folder}: {error}. Free some space or choose another place, for instance with "
            "SPEECHATTN_CACHE=/folder/with/space."
        ) from error
    return folder


def _make(folder: Path, recipe: Mapping[str, Any], make: Callable[[Path], Mapping[str, Any]]) -> None:
    """Write the folder beside itself, then rename it. The caller holds the lock: partial folders have no owner."""
    remove_partial(folder)
    partial = partial_folder(folder)
    try:
        partial.mkdir()
        manifest = {**recipe, **make(partial), "contents": folder_contents(partial)}
        (partial / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        finish(partial, folder)
    finally:
        remove_partial(folder)  # again: a worker whose parent was killed may have written one more file


def code_digest(names: Sequence[str]) -> str:
    """Return a digest of files of this package, so that a change of the code makes a new folder."""
    code = hashlib.sha256()
    for name in names:
        code.update(Path(__file__).with_name(name).read_bytes())
    return code.hexdigest()[:12]


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
