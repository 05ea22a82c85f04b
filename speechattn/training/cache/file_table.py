"""What the headers of sound files say, and the sha256 of the files, remembered from one start to the next.

A file is known by its place below its subset's folder, its size and the time of its last change: files that were moved
with their folder are known, a file that was copied or replaced is read again. A file that changed in the last seconds
is not remembered, because the clock of the file system may not tell a second change from the first.
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
from numpy.typing import NDArray

from speechattn.data.audio.errors import AudioError
from speechattn.data.audio.files import audio_samples
from speechattn.system.atomic_files import write_bytes

VERSION = "speechattn-files-1"
SETTLED_S = 2.0
"""Age of a change from which its time identifies it."""
DIGEST_BYTES = 32


class FileTable:
    """Samples and sha256 of files by name, size and time of change; `save` writes it to `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, tuple[int, bytes]] = {}
        self.changed = False
        try:
            with safetensors.safe_open(path, "numpy") as file:
                names = json.loads((file.metadata() or {}).get(VERSION, "null"))
                if names is not None:
                    samples, sums = file.get_tensor("samples").tolist(), file.get_tensor("sums")
                    self._rows = {name: (samples[i], sums[i].tobytes()) for i, name in enumerate(names)}
        except (OSError, ValueError, KeyError, safetensors.SafetensorError):
            self._rows = {}  # missing or damaged: the files are read again

    def get(self, path: Path, size: int, mtime_ns: int) -> tuple[int, bytes] | None:
        """Return samples and sha256 of a file, None if it is not known."""
        return self._rows.get(_name(path, size, mtime_ns))

    def add(self, path: Path, size: int, mtime_ns: int, samples: int, digest: bytes) -> None:
        """Remember a file, unless it changed just now."""
        if mtime_ns < (time.time() - SETTLED_S) * 1e9:
            self._rows[_name(path, size, mtime_ns)] = samples, digest
            self.changed = True

    @property
    def num_bytes(self) -> int:
        """About the size of the file."""
        return sum(len(name) + DIGEST_BYTES + 16 for name in self._rows)

    def save(self) -> None:
        """Write the table atomically."""
        samples = np.array([row[0] for row in self._rows.values()], np.int64)
        sums = np.frombuffer(b"".join(row[1] for row in self._rows.values()), np.uint8).reshape(-1, DIGEST_BYTES)
        metadata = {VERSION: json.dumps(list(self._rows))}
        write_bytes(self.path, safetensors.numpy.save({"samples": samples, "sums": sums}, metadata))
        self.changed = False


def read_file(path: str, sample_rate: int) -> dict[str, Any]:
    """Return size, time, samples and sha256 of a sound file, or its fault, as plain types."""
    try:
        samples = audio_samples(path, sample_rate)
        before = Path(path).stat()
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except AudioError as error:
        return {"reason": error.reason, "found": str(error)}
    except OSError as error:
        return {"reason": "unreadable", "found": f"{path} cannot be read: {error.strerror or error}."}
    return {"size": before.st_size, "mtime_ns": before.st_mtime_ns, "samples": samples, "sha256": digest}


def file_times(paths: Sequence[Path]) -> NDArray[np.int64]:
    """Return size and time of change in ns of each file [N, 2], -1 where there is none."""
    times = np.full((len(paths), 2), -1, np.int64)
    for i, path in enumerate(paths):
        try:
            status = path.stat()
        except OSError:
            continue
        times[i] = status.st_size, status.st_mtime_ns
    return times


def _name(path: Path, size: int, mtime_ns: int) -> str:
    return f"{'/'.join(path.parts[-3:])} {size} {mtime_ns}"
