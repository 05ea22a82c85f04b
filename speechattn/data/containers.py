"""The sound files that one file is made of, found by reading its container without decoding it.

A decoder believes its container. libsndfile stops after the first link of a chained Ogg, at the number of samples that
a FLAC header promises, and at an estimated length of an MP3 without a table; it shortens a truncated WAV silently.
`find_links` reads what the bytes themselves say: Ogg pages, MPEG frames, the last FLAC frame, chunk sizes. The work
and the memory are bounded: every byte is read once at most, 1 MiB at a time. Not here: decoding, which is `audio.py`.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, Literal, NamedTuple

PIECE = 2**20  # bytes that are read at a time
OPEN_SIZES = (2**32 - 1, 2**31, 2**31 - 1, 0x7FFFFF00, 0x7FFFF000)
"""Sizes that writers to a pipe put for "unknown": ffmpeg, various, various, arecord, SoX; made whole samples."""
LARGEST_ALIGN = 64  # bytes of one sample of all channels, by which an open size may be rounded down
FLAC_TAIL = 2**17  # bytes in which the last frame of a FLAC begins
MPEG_RATES = (44_100, 48_000, 32_000)  # Hz of MPEG 1; MPEG 2 has the half, MPEG 2.5 a quarter
MPEG_KBITS = {  # bit rates in kbit/s by (MPEG 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
ID3V1 = 128  # bytes of the tag at the end
FILLING = 4096  # bytes of zeros with which a recorder fills the last sector of its card
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class ContainerError(ValueError):
    """What is wrong with a container; `reason` is a short kind to count by."""

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
    """The decoder estimates the number of samples from the size: it has to believe in a far larger file."""


def find_links(file: BinaryIO, start: int, stop: int, format: str) -> list[Link]:
    """Return the sound files in the bytes [start, stop) of `file`, in order; `format` is libsndfile's name for it.

    Raises:
        ContainerError: bytes are missing or damaged, or sound follows that the header does not promise; or the
            format does not tell half a file from a whole one.
    """
    while (head := _read(file, start, 10)).startswith(b"ID3") and _tag_size(head):  # libsndfile skips it everywhere
        start += _tag_size(head)
    if format == "OGG":
        return _ogg(file, start, stop)
    if format == "MP3":
        return _mpeg(file, start, stop)
    if format == "FLAC":
        return [_flac(file, start, stop)]
    if format in ("WAV", "WAVEX", "RF64", "W64", "AIFF", "SVX", "CAF"):
        _check_chunks(file, start, stop)
    elif format == "AU":
        _check_au(file, start, stop)
    elif format == "NIST":
        _check_nist(file, start, stop)
    else:
        raise ContainerError(
            f"half a file of the format {format} looks like a whole one: convert it to WAV or FLAC.", "unknown format"
        )
    return [Link(start, stop)]


def _read(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _pieces(file: BinaryIO, start: int, stop: int, overlap: int = 0) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) from start to stop; each piece begins with the last `overlap` bytes of the one before."""
    while start < stop:
        data = _read(file, start, min(PIECE, stop - start))
        yield start, data
        if start + len(data) >= stop or len(data) <= overlap:
            return
        start += len(data) - overlap


def _missing(claimed: int, rest: int) -> ContainerError:
    return ContainerError(f"truncated, the header promises {claimed} bytes of samples, got {rest}.", "truncated")


def _unclaimed(claimed: int, rest: int) -> ContainerError:
    promised = f"promises {claimed} bytes of" if claimed else "claims no"
    return ContainerError(
        f"the header {promised} samples, but {rest} bytes follow: its writer was interrupted.", "lying header"
    )


def _is_open(claimed: int) -> bool:
    return any(0 <= size - claimed < LARGEST_ALIGN for size in OPEN_SIZES)


# Chunks: RIFF, RF64, IFF, Wave64 and CAF


class _Chunks(NamedTuple):
    """How a container writes its chunks: a name, a size, then so many bytes."""

    head: int  # bytes before the first chunk
    name: int  # bytes of a name
    size: int  # bytes of a size
    order: Literal["little", "big"]
    pad: int  # sizes are rounded up to a multiple of this
    whole: bool = False  # the size counts name and size too

    def read(self, file: BinaryIO, at: int) -> tuple[bytes, int, int] | None:
        """Return (name, first byte behind the header, bytes that follow) of the chunk at `at`; None at the end."""
        header = _read(file, at, self.name + self.size)
        if len(header) < self.name + self.size:
            return None
        length = int.from_bytes(header[self.name :], self.order)
        return header[: self.name], at + len(header), max(0, length - self.whole * len(header))


CHUNKS = {
    b"RIFF": _Chunks(12, 4, 4, "little", 2),
    b"RF64": _Chunks(12, 4, 4, "little", 2),
    b"RIFX": _Chunks(12, 4, 4, "big", 2),
    b"FORM": _Chunks(12, 4, 4, "big", 2),
    b"riff": _Chunks(40, 16, 8, "little", 8, whole=True),
    b"caff": _Chunks(8, 4, 8, "big", 1),
}


def _check_chunks(file: BinaryIO, start: int, stop: int) -> None:
    """Compare the chunk of samples with the bytes that follow it, which must be other chunks, zeros, or nothing."""
    magic, long_size = _read(file, start, 4), None
    chunks = CHUNKS.get(magic)
    if chunks is None:
        raise ContainerError(f"no chunks are known that begin with {magic!r}.", "unknown format")
    at = start + chunks.head
    while (chunk := chunks.read(file, at)) is not None:
        name, at, length = chunk
        if name == b"ds64":  # RF64 keeps 64-bit lengths here: of the file, then of the samples
            long_size = int.from_bytes(_read(file, at + 8, 8), "little")
        if name[:4] in (b"data", b"SSND", b"BODY"):
            claimed = long_size if long_size is not None and length == 2**32 - 1 else length
            rest = stop - at
            if claimed > rest and (claimed >= 2**63 or (magic != b"RF64" and _is_open(claimed))):
                return
            if claimed > rest:
                raise _missing(claimed, rest)
            if not _are_chunks(file, at, at + claimed, stop, chunks):
                raise _unclaimed(claimed, rest)
            return
        at += length + -length % chunks.pad


def _are_chunks(file: BinaryIO, begin: int, at: int, stop: int, chunks: _Chunks) -> bool:
    """Whether chunks with readable names follow the samples [begin, at), then zeros, an ID3v1 tag, or nothing.

    Some writers forget the byte after an odd chunk.
    """
    any_samples = at > begin
    while at < stop:
        padded = at + (begin - at) % chunks.pad
        end = _named_chunk_end(file, padded, stop, chunks) or _named_chunk_end(file, at, stop, chunks)
        if end is None:
            tag = stop - padded == ID3V1 and _read(file, padded, 3) == b"TAG"
            return tag or (any_samples and _is_filling(file, at, stop))
        at = end
    return True


def _named_chunk_end(file: BinaryIO, at: int, stop: int, chunks: _Chunks) -> int | None:
    """Return the end of the chunk at `at`, if it is one."""
    chunk = chunks.read(file, at)
    if chunk is None:
        return None
    name, begin, length = chunk
    named = name[:4].isascii() and name[:4].decode().isprintable()
    return begin + length if named and begin + length <= stop else None


def _is_filling(file: BinaryIO, at: int, stop: int) -> bool:
    return stop - at <= FILLING and not any(_read(file, at, stop - at))


def _check_au(file: BinaryIO, start: int, stop: int) -> None:
    header = _read(file, start, 12)
    order = ">" if header[:4] == b".snd" else "<"
    offset, claimed = struct.unpack(f"{order}II", header[4:])
    rest = stop - start - offset
    if claimed > rest and not _is_open(claimed):
        raise _missing(claimed, rest)
    if claimed < rest and not _is_filling(file, start + offset + claimed, stop):
        raise _unclaimed(claimed, rest)


def _check_nist(file: BinaryIO, start: int, stop: int) -> None:
    """SPHERE: the header is text, and counts samples; of shortened samples the bytes say nothing."""
    fields = {}
    lines = _read(file, start, 1024).decode("ascii", "replace").splitlines()
    for line in lines:
        name, _, value = line.partition(" ")
        fields[name] = value.split(" ")[-1]
    try:
        header = int(lines[1])
        claimed = int(fields["sample_count"]) * int(fields["sample_n_bytes"]) * int(fields["channel_count"])
    except (IndexError, KeyError, ValueError) as error:
        raise ContainerError("its header does not say how many samples follow.", "lying header") from error
    rest = stop - start - header
    if claimed > rest:
        raise _missing(claimed, rest)
    if not _is_filling(file, start + header + claimed, stop):
        raise _unclaimed(claimed, rest)


# Ogg


def _ogg(file: BinaryIO, start: int, stop: int) -> list[Link]:
    """Each link begins with pages that begin a stream, and ends when all its streams have ended."""
    links: list[Link] = []
    begin, at, beginning, running = start, start, True, set[bytes]()
    for at, after, flags, serial in _ogg_pages(file, start, stop):
        if flags & 2:
            if not beginning:
                if running:
                    raise ContainerError("truncated, its Ogg stream has no end.", "truncated")
                links.append(Link(begin, at))
                begin = at
            running.add(serial)
        beginning = bool(flags & 2)
        if flags & 4:
            running.discard(serial)
        at = after
    if running or at == start:
        raise ContainerError("truncated, its Ogg stream has no end.", "truncated")
    return [*links, Link(begin, at)]


def _ogg_pages(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, int, int, bytes]]:
    """(first byte, byte after the last, flags, serial number) of each page; what follows the last one is no page."""
    at = start
    while at < stop:
        header = _read(file, at, 27)
        if header[:4] != b"OggS":
            if any(b"OggS" in piece for _, piece in _pieces(file, at, stop, overlap=3)):
                raise ContainerError(f"corrupted, no Ogg page begins at byte {at - start}.", "corrupt")
            return
        lacing = file.read(header[26]) if len(header) == 27 else b""
        body = file.read(sum(lacing))
        if len(header) < 27 or len(lacing) < header[26] or len(body) < sum(lacing):
            raise ContainerError("truncated, its Ogg stream has no end: the last page is cut.", "truncated")
        if _ogg_checksum(header[:22] + bytes(4) + header[26:] + lacing + body) != header[22:26]:
            raise ContainerError(f"corrupted, the Ogg page at byte {at - start} has another checksum.", "corrupt")
        after = at + 27 + len(lacing) + len(body)
        yield at, after, header[5], header[14:18]
        at = after


def _ogg_checksum(page: bytes) -> bytes:
    """Return Ogg's CRC-32, whose bits run the other way round than zlib's, little-endian.

    Example:
        >>> _ogg_checksum(b"123456789").hex()  # the check value of CRC-32 with neither start value nor inversion
        '7f89a189'
    """
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "little").translate(_REVERSED)[::-1]


# MPEG audio


class _Frame(NamedTuple):
    """One MPEG frame, from its header."""

    size: int  # bytes
    num_samples: int
    side: int  # bytes of layer 3's side information, behind which a table stands
    kind: tuple[int, int, int, bool]  # (version, layer, Hz, mono): what may not change within a link


@lru_cache(maxsize=4096)
def _mpeg_frame(header: bytes) -> _Frame | None:
    """Return the frame that these 4 bytes begin, or None; a free bit rate, which says no size, is None too."""
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bits, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return None
    first = version == 3  # MPEG 1; 2 is MPEG 2, and 0 is MPEG 2.5
    hertz = MPEG_RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    padding, mono = header[2] >> 1 & 1, header[3] >> 6 == 3
    num_samples = 384 if layer == 1 else 1152 if first or layer == 2 else 576
    slot = 4 if layer == 1 else 1  # bytes by which a frame may be longer
    size = (num_samples // 8 // slot * 1000 * MPEG_KBITS[first, layer][bits - 1] // hertz + padding) * slot
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return _Frame(size, num_samples, side, (version, layer, hertz, mono))


def _mpeg(file: BinaryIO, start: int, stop: int) -> list[Link]:
    """A link begins with a table (Xing, Info, VBRI) or where rate or channels change.

    A table that counts the frames that follow is left to the decoder, which takes the encoder's delay away with its
    help; one that counts fewer, or itself too, is left out, and the frames are counted.
    """
    links: list[Link] = []
    begin = count = 0
    promised: int | None = None
    last: _Frame | None = None

    def close(end: int) -> None:
        if last is None or not count:
            return
        if promised is None:
            links.append(Link(begin, end, count * last.num_samples, padded=True))
        elif count + 1 < promised:
            message = f"truncated, the header promises {promised} MPEG frames, got {count}."
            raise ContainerError(message, "truncated")
        elif count != promised:
            links.append(Link(begin + last_table, end, count * last.num_samples, padded=True))
        else:
            links.append(Link(begin, end))

    last_table, end = 0, start
    for at, frame, head in _mpeg_frames(file, start, stop):
        table, frames = _mpeg_table(head, frame)
        if last is None or table or frame.kind != last.kind:
            close(end)
            begin, count, promised, last_table = at, 0, None, 0
            if table:
                promised, last_table = frames, frame.size
                if frames is None:
                    begin += frame.size
        end = at + frame.size
        count += not table
        last = frame
    close(end)
    return links or [Link(start, stop, padded=True)]


def _mpeg_table(head: bytes, frame: _Frame) -> tuple[bool, int | None]:
    """(whether the frame is a table and no sound, how many frames of sound it counts if that can be used)."""
    side = head[4 : 4 + frame.side]
    if frame.kind[1] != 3 or any(side):
        return False, None
    at = 4 + frame.side
    if head[at : at + 4] in (b"Xing", b"Info"):
        flags, frames = struct.unpack(">II", head[at + 4 : at + 12])
        return True, frames if flags & 1 else None
    return head[36:40] == b"VBRI", None


def _mpeg_frames(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, _Frame, bytes]]:
    """(offset, frame, its first bytes) of every frame, without tags between them and whatever is before and after."""
    at, kind = start, None
    while at < stop:
        head = _read(file, at, 52)
        frame = _mpeg_frame(head[:4])
        if frame is not None and (frame.kind == kind or _mpeg_follow(file, at, frame, 1)):
            if at + frame.size > stop:
                raise ContainerError("truncated, its last MPEG frame is cut.", "truncated")
            yield at, frame, head
            at, kind = at + frame.size, frame.kind
        elif tag := _tag_size(head):
            at += tag
        else:
            following = _mpeg_resync(file, at + 1, stop)
            if following is None:
                return
            if kind is not None:
                message = f"corrupted, {following - at} bytes at byte {at - start} are no MPEG frame."
                raise ContainerError(message, "corrupt")
            at = following


def _tag_size(head: bytes) -> int:
    """Bytes of the ID3 or APE tag that begins here; 0 if none does."""
    if head[:3] == b"ID3" and len(head) >= 10:
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        return 10 + size + (10 if head[5] & 16 else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 32:
        return int.from_bytes(head[12:16], "little") + (32 if head[23] & 0x20 else 0)
    return ID3V1 if head[:3] == b"TAG" else 0


def _mpeg_resync(file: BinaryIO, start: int, stop: int) -> int | None:
    """Return where the next three frames of one kind, or a tag with frames behind it, begin."""
    for offset, data in _pieces(file, start, stop, overlap=3):
        at = data.find(b"\xff")
        while at >= 0:
            found, frame = offset + at, _mpeg_frame(data[at : at + 4])
            if frame is not None and _mpeg_follow(file, found, frame, 2):
                return found
            at = data.find(b"\xff", at + 1)
    return None


def _mpeg_follow(file: BinaryIO, at: int, frame: _Frame, count: int) -> bool:
    """Whether `count` frames of the same kind follow."""
    for _ in range(count):
        at += frame.size
        following = _mpeg_frame(_read(file, at, 4))
        if following is None or following.kind != frame.kind:
            return False
        frame = following
    return True


# FLAC


def _flac(file: BinaryIO, start: int, stop: int) -> Link:
    """Count the samples by the header of the last frame, which knows its place; a header that knows more is kept."""
    if stop - start > ID3V1 and _read(file, stop - ID3V1, 3) == b"TAG":
        stop -= ID3V1
    info = _read(file, start, 42)  # "fLaC", the header of its first block, STREAMINFO
    packed = int.from_bytes(info[18:26], "big")
    promised = packed & 2**36 - 1
    end = _flac_end(_read(file, max(start + 42, stop - FLAC_TAIL), FLAC_TAIL), info[10:12])
    if end is None or end <= promised:
        return Link(start, stop)
    return Link(start, stop, patch=(start + 18, (packed - promised + end).to_bytes(8, "big")))


def _flac_end(tail: bytes, block: bytes) -> int | None:
    """Return the sample behind the last frame that begins in `tail`; `block` is the block size in STREAMINFO."""
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        end = _flac_frame_end(tail[at : at + 16], int.from_bytes(block, "big"))
        if end is not None:
            return end
    return None


def _flac_frame_end(head: bytes, block: int) -> int | None:
    """Return the sample behind the frame that these bytes begin, or None if they begin none."""
    if len(head) < 7 or head[1] & 0xFE != 0xF8 or head[2] < 16 or head[2] & 15 == 15 or head[3] & 1:
        return None
    extra = 8 - (head[4] ^ 0xFF).bit_length()  # leading ones: the number is coded like a character of UTF-8
    length = max(1, extra)
    if extra in (1, 8) or any(byte & 0xC0 != 0x80 for byte in head[5 : 4 + length]):
        return None
    number = head[4] & (0xFF >> extra + 1 if extra else 0x7F)
    for byte in head[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    size_code, rate_code, at = head[2] >> 4, head[2] & 15, 4 + length
    size_bytes, rate_bytes = {6: 1, 7: 2}.get(size_code, 0), {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    size = 192 if size_code == 1 else 576 << size_code - 2 if size_code < 6 else 1 << size_code
    if size_bytes:
        size = int.from_bytes(head[at : at + size_bytes], "big") + 1
    at += size_bytes + rate_bytes
    if len(head) <= at or _flac_checksum(head[:at]) != head[at]:
        return None
    return (number if head[1] & 1 else number * block) + size


def _flac_checksum(data: bytes) -> int:
    """Return the CRC-8 of a frame's header."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 ^ (0x107 if crc & 0x80 else 0)
    return crc


class Part:
    """A link as a binary file, for a decoder that reads, seeks and asks for the size; it has a position of its own."""

    PADDED = 2**40
    """Bytes behind the end in which a decoder believes: more than a frame's estimate is ever wrong by."""

    def __init__(self, file: BinaryIO, link: Link) -> None:
        self._file, self._link, self._at = file, link, 0
        self._size = link.stop - link.start
        self._claimed = self._size + self.PADDED * link.padded

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a byte, at 0 or later."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._claimed}.get(whence, 0)
        self._at = max(0, origin + offset)
        return self._at

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._at

    def read(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end, or where the disk fails: the samples are counted afterwards."""
        if self._at > self._size:  # where mpg123 looks for a tag at the claimed end, and gives up if it gets nothing
            return bytes(max(0, min(count, self._claimed - self._at)))
        count = min(count, self._size - self._at)
        first = self._link.start + self._at
        try:
            data = _read(self._file, first, count)
        except OSError:
            return b""
        if self._link.patch is not None:
            at, new = self._link.patch
            low, high = max(at, first), min(at + len(new), first + len(data))
            if low < high:
                data = data[: low - first] + new[low - at : high - at] + data[high - first :]
        self._at += len(data)
        return data
