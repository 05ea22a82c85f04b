"""The index of a folder of labels: for each file, from which sound, model and settings it was made.

`.labels.jsonl` gets a line when a file is begun and one when it is complete. A kill at any moment costs one file, which
the next start makes again: a torn last line is left out.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from speechattn.system.atomic_files import to_json, write_lines

NAME = ".labels.jsonl"


@dataclass(frozen=True)
class Entry:
    """One file of labels; hashes are sha256."""

    name: str
    """Path below the folder."""
    sound: str = ""
    """Hash of the sound file."""
    settings: str = ""
    """Hash of the model, the format and the smoothing."""
    written: str = ""
    """Hash of the file as it was written; the file has only been begun if it is empty."""


class LabelIndex:
    """The entries of a folder by name; `begin` and `finish` write through. One process may have it: see RunLock."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / NAME
        self.entries: dict[str, Entry] = {}
        if self._path.exists():
            lines = self._path.read_text("utf-8", "surrogateescape").splitlines()
            self.entries = {entry.name: entry for entry in map(_entry, lines) if entry is not None}

    def is_current(self, name: str, sound: str, settings: str) -> bool:
        """Return whether a file is there and was made from this sound with these settings."""
        entry = self.entries.get(name)
        return entry is not None and (entry.sound, entry.settings) == (sound, settings) and self.is_there(name)

    def is_there(self, name: str) -> bool:
        """Return whether a file of this name exists."""
        return os.path.lexists(self._folder / name)

    def is_foreign(self, name: str) -> bool:
        """Return whether a file is there that was not made here, or was changed since: it is not overwritten."""
        entry = self.entries.get(name)
        if not self.is_there(name) or (entry is not None and not entry.written):
            return False
        return entry is None or file_digest(self._folder / name) != entry.written

    def begin(self, name: str) -> None:
        """Enter a file that will be written now."""
        self._add(Entry(name))

    def finish(self, name: str, sound: str, settings: str) -> None:
        """Enter a file that has just been written."""
        self._add(Entry(name, sound, settings, file_digest(self._folder / name)))

    def _add(self, entry: Entry) -> None:
        self.entries[entry.name] = entry
        with self._path.open("a", encoding="utf-8", errors="surrogateescape") as file:
            file.write(to_json(asdict(entry)) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def compact(self) -> None:
        """Write the index anew, without torn and outdated lines."""
        if self._path.exists():
            write_lines(self._path, [to_json(asdict(entry)) for entry in self.entries.values()])


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _entry(line: str) -> Entry | None:
    try:
        return Entry(**{name: str(value) for name, value in json.loads(line).items()})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
