"""The identity of a sound file from one start to the next, without reading all of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from speechattn.system.folders import has_suffix

BLOCK_BYTES = 4096


def file_identity(path: Path) -> tuple[int, str]:
    """Return the size of a sound file, and a hash of BLOCK_BYTES in its middle; (-1, "") if it cannot be read.

    The size of a FLAC file depends on its samples, so its hash is "" and a corpus of FLAC is not opened. A filtered WAV
    file has the size that it had.
    """
    try:
        if not path.is_file():  # opening a pipe would wait
            return -1, ""
        size = path.stat().st_size
        if has_suffix(path, ".flac"):
            return size, ""
        with path.open("rb") as file:
            file.seek(max(0, (size - BLOCK_BYTES) // 2))
            return size, hashlib.sha256(file.read(BLOCK_BYTES)).hexdigest()[:16]
    except OSError:
        return -1, ""
