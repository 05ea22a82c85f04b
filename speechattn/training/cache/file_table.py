"""What the headers of sound files say, and the sha256 of the files, remembered from one start to the next.

A file is known by its place below its subset's folder and its stamp: files that were moved with their folder are known,
a file that was copied or replaced is read again. The stamp has the time of the last change of the contents, which an
archive sets, and that of the file, which only the system sets: two versions of a corpus may have equal names, sizes and
times of contents. A file that changed in the last seconds is not remembered, because the clock of the file system may
not tell a second change from the first.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from speechattn.data.audio.errors import AudioError
from speechattn.data.audio.files import audio_samples
from speechattn.system.atomic_files import write_bytes

VERSION = "speechattn-files-1"
SETTLED_S = 2.0
"""Age of a change from which its time identifies it."""
DIGEST_BYTES = 32

Stamp = tuple[int, int, int]
"""Size of a file in bytes, and the times of the last change of its contents and of the file (st_ctime), in ns."""


class FileTable:
    """Samples and sha256 of files by name and stamp; `save` writes it to `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = _read_rows(path)
        self.changed = False

    def get(self, path: Path, stamp: Stamp) -> tuple[int, bytes] | None:
        """Return samples and sha256 of a file, None if it is not known."""
        return self._rows.get(_name(path, stamp))

    def add(self, path: Path, stamp: Stamp, samples: int, digest: bytes) -> None:
        """Remember a file, unless it changed just now."""
        if stamp[1] < (time.time() - SETTLED_S) * 1e9:
            self._rows[_name(path, stamp)] = samples, digest
            self.changed = True

    @property
    def num_bytes(self) -> int:
        """About the size of the file."""
        return sum(len(name) + DIGEST_BYTES + 16 for name in self._rows)

    def save(self) -> None:
        """Write the table atomically, with the rows that another run has added to the file since it was read."""
        self._rows = {**_read_rows(self.path), **self._rows}
        samples = np.array([row[0] for row in self._rows.values()], np.int64)
        sums = np.frombuffer(b"".join(row[1] for row in self._rows.values()), np.uint8).reshape(-1, DIGEST_BYTES)
        metadata = {VERSION: json.dumps(list(self._rows))}
        write_bytes(self.path, safetensors.numpy.save({"samples": samples, "sums": sums}, metadata))
        self.changed = False


def read_file(path: str, sample_rate: int) -> dict[str, Any]:
    """Return stamp, samples and sha256 of a sound file, or its fault, as plain types."""
    try:
        samples = audio_samples(path, sample_rate)
        stamp = _stamp(Path(path))
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except AudioError as error:
        return {"reason": error.reason, "found": str(error)}
    except OSError as error:
        return {"reason": "unreadable", "found": f"{path} cannot be read: {error.strerror or error}."}
    return {"stamp": stamp, "samples": samples, "sha256": digest}


def file_stamps(paths: Sequence[Path]) -> list[Stamp]:
    """Return the stamp of each file, of -1 where there is none."""
    stamps = []
    for path in paths:
        try:
            stamps.append(_stamp(path))
        except OSError:
            stamps.append((-1, -1, -1))
    return stamps


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read_rows(path: Path) -> dict[str, tuple[int, bytes]]:
    """Return the rows that are in a file, none if it is missing or damaged: the sound files are read again."""
    try:
        with safetensors.safe_open(path, "numpy") as file:
            names = json.loads((file.metadata() or {}).get(VERSION, "[]"))
            samples, sums = file.get_tensor("samples").tolist(), file.get_tensor("sums")
            return {name: (samples[i], sums[i].tobytes()) for i, name in enumerate(names)}
    except (OSError, ValueError, LookupError, TypeError, safetensors.SafetensorError):
        return {}


def _name(path: Path, stamp: Stamp) -> str:
    return " ".join(["/".join(path.parts[-3:]), *map(str, stamp)])
