"""Ogg: pages with checksums, which begin and end streams; a chain of links is one file."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from speechattn.data.audio.containers.links import ContainerError, Link, read_at
from speechattn.data.audio.containers.sizes import is_filling
from speechattn.data.audio.containers.tags import is_id3v1

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte with its bits reversed


class Page(NamedTuple):
    """Bytes [start, stop) of the file that are one page."""

    start: int
    stop: int
    serial: bytes  # which stream it belongs to
    begins: bool  # it is the first page of its stream
    ends: bool  # and the last


def ogg_links(file: BinaryIO, start: int, stop: int) -> list[Link]:
    """Return the links of a chain: each starts with the first pages of its streams, and stops when all have ended.

    Raises:
        ContainerError: a page is cut or damaged, there are other bytes between or after pages, or a stream has no end.
    """
    links: list[Link] = []
    link_start = end = start
    running: set[bytes] = set()
    at_start = True
    for page in _pages(file, start, stop):
        if page.begins and not at_start:
            if running:
                raise _no_end()
            links.append(Link(link_start, page.start))
            link_start = page.start
        if page.begins:
            running.add(page.serial)
        if page.ends:
            running.discard(page.serial)
        at_start, end = page.begins, page.stop
    if running or end == start:
        raise _no_end()
    return [*links, Link(link_start, end)]


def _no_end() -> ContainerError:
    """Return the error for a stream without its last page."""
    return ContainerError("truncated, its Ogg stream has no end.", "truncated")


def _pages(file: BinaryIO, start: int, stop: int) -> Iterator[Page]:
    """Yield every page; a few zeros or an ID3v1 tag may follow the last one.

    Raises:
        ContainerError: a page is cut or damaged, or there are other bytes between or after pages.
    """
    at = start
    while at < stop:
        header = read_at(file, at, 27)
        if header[:4] != b"OggS":
            if is_filling(file, at, stop) or is_id3v1(file, at, stop):
                return
            raise ContainerError(f"corrupted, no Ogg page begins at byte {at - start}.", "corrupt")
        lacing = file.read(header[26]) if len(header) == 27 else b""
        body = file.read(sum(lacing))
        if len(header) < 27 or len(lacing) < header[26] or len(body) < sum(lacing):
            raise ContainerError("truncated, its Ogg stream has no end: the last page is cut.", "truncated")
        if checksum(header[:22] + bytes(4) + header[26:] + lacing + body) != header[22:26]:
            raise ContainerError(f"corrupted, the Ogg page at byte {at - start} has another checksum.", "corrupt")
        page_stop = at + 27 + len(lacing) + len(body)
        yield Page(at, page_stop, header[14:18], bool(header[5] & 2), bool(header[5] & 4))
        at = page_stop


def checksum(page: bytes) -> bytes:
    """Return Ogg's CRC-32, whose bit order is the reverse of zlib's, little-endian.

    Examples:
        >>> checksum(b"123456789").hex()  # the check value of CRC-32 with neither start value nor inversion
        '7f89a189'
    """
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "little").translate(_REVERSED)[::-1]
