"""Files below a folder, with links followed and hidden files left out.

Not here: what is in a file, and which files are wanted.
"""

from __future__ import annotations

import heapq
import os
import unicodedata
from pathlib import Path

from speechattn.errors import DataError


def files_below(folder: str | Path) -> list[Path]:
    """Return everything below `folder` that is no folder, sorted by path.

    A link to a folder counts as a folder. A folder that can be reached on several ways is walked once, on the way with
    the fewest links and then the shortest, so that links which form a ring end. Names that begin with a dot are left
    out: macOS leaves `._x.flac` beside `x.flac`.

    Raises:
        DataError: a folder cannot be listed.
    """
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()
    ways = [(0, 0, Path(folder))]  # links, depth, path
    while ways:
        links, depth, parent = heapq.heappop(ways)
        try:
            status = parent.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in os.scandir(parent):  # its entries have their type without another system call
                if entry.name.startswith("."):
                    continue
                if _is_folder(entry):
                    heapq.heappush(ways, (links + entry.is_symlink(), depth + 1, parent / entry.name))
                else:
                    files.append(parent / entry.name)
        except OSError as error:
            raise DataError(f"{parent} cannot be listed: {error.strerror or error}.") from error
    return sorted(files)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether the entry is a folder or leads to one; a link that leads to itself leads nowhere."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def has_suffix(path: Path, *suffixes: str) -> bool:
    """Return whether the name ends in one of `suffixes`, which are in lower case; the name's capitals do not matter.

    Examples:
        >>> has_suffix(Path("1-2.Trans.TXT"), ".trans.txt"), has_suffix(Path("a.FLAC"), ".flac", ".wav")
        (True, True)
    """
    return path.name.lower().endswith(suffixes)


def utterance_id(path: Path, suffix: str) -> str:
    """Return the name in front of `suffix`, its accents composed (NFC) as `read_lines` composes those in tables."""
    return unicodedata.normalize("NFC", path.name[: -len(suffix)])
