"""FLAC: its last frame has its position, which gives the number of samples where the header promises too few."""

from __future__ import annotations

from typing import BinaryIO

from speechattn.data.audio.containers.links import Link, read_at
from speechattn.data.audio.containers.tags import ID3V1_BYTES, is_id3v1

TAIL = 2**17  # bytes in which the last frame of a FLAC begins
TOTAL = 2**36 - 1  # the bits of STREAMINFO's bytes 10 to 17 that promise a number of samples


def flac_link(file: BinaryIO, start: int, stop: int) -> Link:
    """Return the link, patched with the number of samples that the last frame shows; a greater promise is kept."""
    if stop - start > ID3V1_BYTES and is_id3v1(file, stop - ID3V1_BYTES, stop):
        stop -= ID3V1_BYTES
    info = read_at(file, start, 42)  # "fLaC", the header of its first block, STREAMINFO
    packed = int.from_bytes(info[18:26], "big")
    promised = packed & TOTAL
    tail = read_at(file, max(start + 42, stop - TAIL), TAIL)
    end = _last_sample(tail, int.from_bytes(info[10:12], "big"))
    if end is None or end <= promised:
        return Link(start, stop)
    return Link(start, stop, patch=(start + 18, (packed - promised + end).to_bytes(8, "big")))


def _last_sample(tail: bytes, block: int) -> int | None:
    """Return the index of the sample after the last frame that begins in `tail`.

    `block` is STREAMINFO's block size in samples.
    """
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        end = _frame_end(tail[at : at + 16], block)
        if end is not None:
            return end
    return None


def _frame_end(head: bytes, block: int) -> int | None:
    """Return the index of the sample after the frame that these bytes begin, None if they begin none."""
    if len(head) < 7 or head[1] & 0xFE != 0xF8 or head[2] < 16 or head[2] & 15 == 15 or head[3] & 1:
        return None
    coded = _coded_number(head[4:])
    if coded is None:
        return None
    number, length = coded
    size_code, rate_code, at = head[2] >> 4, head[2] & 15, 4 + length
    size_bytes, rate_bytes = {6: 1, 7: 2}.get(size_code, 0), {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    size = 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 1 << size_code
    if size_bytes:
        size = int.from_bytes(head[at : at + size_bytes], "big") + 1
    at += size_bytes + rate_bytes
    if len(head) <= at or checksum(head[:at]) != head[at]:
        return None
    return (number if head[1] & 1 else number * block) + size


def _coded_number(data: bytes) -> tuple[int, int] | None:
    """Return (number, bytes it takes) of a number of up to 36 bits coded as in UTF-8; None if it is not one.

    Examples:
        >>> _coded_number("é".encode()), ord("é")
        ((233, 2), 233)
    """
    ones = 8 - (data[0] ^ 0xFF).bit_length()  # leading ones: 0 for one byte, else how many bytes there are
    length = max(1, ones)
    if ones in (1, 8) or any(byte & 0xC0 != 0x80 for byte in data[1:length]):
        return None
    number = data[0] & (0xFF >> ones + 1)
    for byte in data[1:length]:
        number = number << 6 | byte & 0x3F
    return number, length


def checksum(data: bytes) -> int:
    """Return the CRC-8 of a frame's header.

    Examples:
        >>> hex(checksum(b"123456789"))  # the check value of CRC-8 with the polynomial 07
        '0xf4'
    """
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc
