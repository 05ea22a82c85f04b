"""Tags with title and artist, which precede, interrupt and follow the audio: ID3v1, ID3v2, APE and Lyrics3."""

from __future__ import annotations

from typing import BinaryIO

from speechattn.data.audio.containers.links import read_at

ID3V1_BYTES = 128  # at the end of a file
LYRICS_BYTES = 5120  # more than a tag of Lyrics3 v1, which does not state its size


def tag_size(head: bytes) -> int:
    """Return the bytes of the ID3 or APE tag that begins here, 0 if none does.

    Examples:
        >>> tag_size(b"ID3" + bytes([4, 0, 0, 0, 0, 1, 2]))  # ID3v2 counts in base 128, without its 10 bytes of header
        140
    """
    if head[:3] == b"ID3" and len(head) >= 10:
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        return 10 + size + (10 if head[5] & 16 else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 32:
        return int.from_bytes(head[12:16], "little") + (32 if head[23] & 0x20 else 0)
    return ID3V1_BYTES if head[:3] == b"TAG" else 0


def is_id3v1(file: BinaryIO, at: int, stop: int) -> bool:
    """Return whether the bytes [at, stop) are an ID3v1 tag."""
    return stop - at == ID3V1_BYTES and read_at(file, at, 3) == b"TAG"


def tags_start(file: BinaryIO, start: int, stop: int) -> int:
    """Return the start of the tags at the end of the bytes [start, stop); `stop` if there are none."""
    while size := _size_before(file, stop):
        if stop - size < start:
            break
        stop -= size
    return stop


def _size_before(file: BinaryIO, stop: int) -> int:
    """Return the bytes of the ID3v1, APE or Lyrics3 tag that ends at `stop`, 0 if none does."""
    first = max(0, stop - LYRICS_BYTES)
    tail = read_at(file, first, stop - first)
    if tail[-ID3V1_BYTES:].startswith(b"TAG"):
        return ID3V1_BYTES
    if tail[-32:-24] == b"APETAGEX":
        return int.from_bytes(tail[-20:-16], "little") + (32 if tail[-9] & 0x80 else 0)
    if tail.endswith(b"LYRICS200") and tail[-15:-9].isdigit():
        return int(tail[-15:-9]) + 15
    begin = tail.rfind(b"LYRICSBEGIN") if tail.endswith(b"LYRICSEND") else -1
    return len(tail) - begin if begin >= 0 else 0
