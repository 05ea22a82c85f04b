"""MPEG audio: frames that each state their size, an optional table (Xing, Info, VBRI) in the first, tags between them.

A file that is cut inside a frame, or that has fewer frames than its table counts, is truncated. Without a table nothing
states the number of frames: such a file that was cut exactly between two frames cannot be distinguished from a complete
one, and is read as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from speechattn.data.audio.containers.links import ContainerError, Link, read_at, read_pieces
from speechattn.data.audio.containers.sizes import is_filling
from speechattn.data.audio.containers.tags import tag_size, tags_start

HEAD = 52  # bytes of a frame that hold a table's number of frames
RATES = (44_100, 48_000, 32_000)  # Hz of MPEG 1; those of MPEG 2 are half, of MPEG 2.5 a quarter
KBITS = {  # bit rates in kbit/s by (MPEG 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


class Frame(NamedTuple):
    """One MPEG frame, from its header."""

    size: int  # bytes
    num_samples: int
    side: int  # bytes of layer 3's side information, which a table follows
    kind: tuple[int, int, int, bool]  # (version, layer, Hz, mono): constant within a link


@dataclass
class Run:
    """Consecutive frames of one kind, after a table (Xing, Info, VBRI) or without one."""

    start: int  # offset in the file
    frame: Frame  # the first one
    promised: int | None  # frames of audio that a table counts, 0 if it does not; None without a table
    stop: int = 0
    count: int = 0  # frames of audio

    def link(self) -> Link:
        """Return the frames as a link.

        A correct table is left to the decoder, which uses it to remove the encoder's delay; one that counts fewer
        frames, or itself too, is cut off, and the frames are counted here.

        Raises:
            ContainerError: the table counts more frames.
        """
        if self.promised is not None and self.count + 1 < self.promised:
            message = f"truncated, the header promises {self.promised} MPEG frames, got {self.count}."
            raise ContainerError(message, "truncated")
        if self.count == self.promised:
            return Link(self.start, self.stop)
        table = 0 if self.promised is None else self.frame.size
        return Link(self.start + table, self.stop, self.count * self.frame.num_samples, padded=True)


def mpeg_links(file: BinaryIO, start: int, stop: int) -> list[Link]:
    """Return the links: each begins with a table or where rate or channels change.

    Raises:
        ContainerError: the last frame is cut, frames that a table counts are missing, or bytes between or after
            frames are neither frame nor tag.
    """
    links = [run.link() for run in _runs(file, start, stop) if run.count]
    return links or [Link(start, stop, padded=True)]


def _runs(file: BinaryIO, start: int, stop: int) -> Iterator[Run]:
    """Yield the runs of frames of one kind."""
    run = None
    for at, frame, head in _frames(file, start, stop):
        promised = _table(head, frame)
        if run is None or promised is not None or frame.kind != run.frame.kind:
            if run is not None:
                yield run
            run = Run(at, frame, promised)
        run.stop = at + frame.size
        run.count += promised is None
    if run is not None:
        yield run


def _table(head: bytes, frame: Frame) -> int | None:
    """Return how many frames of audio a table counts, 0 if it does not say, None if the frame is not a table."""
    at = 4 + frame.side
    if frame.kind[1] != 3 or any(head[4:at]):
        return None
    if head[at : at + 4] in (b"Xing", b"Info"):
        counts = int.from_bytes(head[at + 4 : at + 8], "big") & 1
        return int.from_bytes(head[at + 8 : at + 12], "big") if counts else 0
    return 0 if head[36:40] == b"VBRI" else None


def _frames(file: BinaryIO, start: int, stop: int) -> Iterator[tuple[int, Frame, bytes]]:
    """Yield (offset, frame, its first bytes) of every frame; skip tags, bytes before the first frame, and a few zeros.

    Raises:
        ContainerError: the last frame is cut, or bytes between or after frames are neither frame nor tag.
    """
    at, kind = start, None
    while at < stop:
        head = read_at(file, at, HEAD)
        frame = parse_frame(head[:4])
        if frame is not None and (frame.kind == kind or _continues(file, at, frame, 1)):
            if at + frame.size > stop:
                raise ContainerError("truncated, its last MPEG frame is cut.", "truncated")
            yield at, frame, head
            at, kind = at + frame.size, frame.kind
        elif tag := tag_size(head):
            at += tag
        else:
            following = _resync(file, at + 1, stop)
            harmless = kind is None or (following is None and is_filling(file, at, tags_start(file, at, stop)))
            if not harmless:
                length = (following or stop) - at
                raise ContainerError(f"corrupted, {length} bytes at byte {at - start} are no MPEG frame.", "corrupt")
            at = following or stop


@lru_cache(maxsize=4096)
def parse_frame(header: bytes) -> Frame | None:
    """Return the frame that these 4 bytes begin, or None; a free bit rate, which does not state a size, is None too.

    Examples:
        >>> parse_frame(bytes.fromhex("fffb90c4"))  # MPEG 1, layer 3, 128 kbit/s, 44100 Hz, mono
        Frame(size=417, num_samples=1152, side=17, kind=(3, 3, 44100, True))
    """
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    bits, rate = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or bits in (0, 15) or rate == 3:
        return None
    first = version == 3  # MPEG 1; 2 is MPEG 2, and 0 is MPEG 2.5
    hertz = RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    padding, mono = header[2] >> 1 & 1, header[3] >> 6 == 3
    num_samples = 384 if layer == 1 else 1152 if first or layer == 2 else 576
    slot = 4 if layer == 1 else 1  # bytes by which a frame may be longer
    size = (num_samples // 8 // slot * 1000 * KBITS[first, layer][bits - 1] // hertz + padding) * slot
    side = (17 if mono else 32) if first else (9 if mono else 17)
    return Frame(size, num_samples, side, (version, layer, hertz, mono))


def _continues(file: BinaryIO, at: int, frame: Frame, count: int) -> bool:
    """Return whether `count` frames of the same kind follow the one at `at`."""
    for _ in range(count):
        at += frame.size
        following = parse_frame(read_at(file, at, 4))
        if following is None or following.kind != frame.kind:
            return False
        frame = following
    return True


def _resync(file: BinaryIO, start: int, stop: int) -> int | None:
    """Return the offset of the next three frames of one kind, None if there are none."""
    for offset, data in read_pieces(file, start, stop, overlap=3):
        at = data.find(b"\xff")
        while at >= 0:
            found, frame = offset + at, parse_frame(data[at : at + 4])
            if frame is not None and _continues(file, found, frame, 2):
                return found
            at = data.find(b"\xff", at + 1)
    return None
