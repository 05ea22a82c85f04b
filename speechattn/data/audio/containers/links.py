"""Links, the parts of a file that are sound files by themselves, and the reading of their bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

PIECE = 2**20  # bytes that are read at a time


class ContainerError(ValueError):
    """Damage or missing bytes in a container; `reason` is a short kind to count by."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Link:
    """Bytes [start, stop) of a file that are a sound file by themselves."""

    start: int
    stop: int
    num_samples: int | None = None
    """Samples of a channel, counted here; None leaves it to the decoder."""
    patch: tuple[int, bytes] | None = None
    """(offset in the file, bytes) to be read in place of what is there."""
    padded: bool = False
    """The decoder estimates the number of samples from the size, so `Part` pretends that the file is far larger."""


class Part:
    """A link as a binary file, for a decoder that reads, seeks and asks for the size; it has a position of its own."""

    PADDED = 2**40
    """Bytes that a padded part claims after its end: more than an estimate can be wrong by."""

    def __init__(self, file: BinaryIO, link: Link) -> None:
        self._file, self._link, self._at = file, link, 0
        self._size = link.stop - link.start
        self._claimed = self._size + (self.PADDED if link.padded else 0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte, at 0 or later, and return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._claimed}.get(whence, 0)
        self._at = max(0, origin + offset)
        return self._at

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._at

    def read(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end, or where the disk fails: the samples are counted afterwards."""
        if self._at > self._size:  # mpg123 looks for a tag at the claimed end, and fails if it gets nothing
            return bytes(max(0, min(count, self._claimed - self._at)))
        first = self._link.start + self._at
        try:
            data = read_at(self._file, first, min(count, self._size - self._at))
        except OSError:
            return b""
        self._at += len(data)
        return self._patched(first, data)

    def _patched(self, first: int, data: bytes) -> bytes:
        """Return the bytes that begin at `first` in the file, with those of the patch in their place."""
        if self._link.patch is None:
            return data
        at, new = self._link.patch
        low, high = max(at, first), min(at + len(new), first + len(data))
        if low >= high:
            return data
        return data[: low - first] + new[low - at : high - at] + data[high - first :]


def read_at(file: BinaryIO, at: int, count: int) -> bytes:
    """Return `count` bytes at the offset `at`, fewer at the end of the file."""
    file.seek(at)
    return file.read(count)


def read_pieces(file: BinaryIO, start: int, stop: int, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) from start to stop; each piece begins with the last `overlap` bytes of the one before."""
    while start < stop:
        data = read_at(file, start, min(PIECE, stop - start))
        yield start, data
        if start + len(data) >= stop or len(data) <= overlap:
            return
        start += len(data) - overlap
