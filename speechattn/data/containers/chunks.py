"""Chunks, a name, a size and so many bytes: RIFF, RF64, IFF, Wave64 and CAF."""

from __future__ import annotations

from typing import BinaryIO, Literal, NamedTuple

from speechattn.data.containers.links import ContainerError, read_at
from speechattn.data.containers.sizes import is_filling, is_open, missing, unclaimed
from speechattn.data.containers.tags import is_id3v1

SOUND = (b"data", b"SSND", b"BODY")  # names of the chunk of samples; Wave64 puts the rest of a GUID behind it


class ChunkLayout(NamedTuple):
    """The layout of the chunks in one kind of container."""

    head: int  # bytes before the first chunk
    name: int  # bytes of a name
    size: int  # bytes of a size
    order: Literal["little", "big"]
    pad: int  # sizes are rounded up to a multiple of this
    whole: bool = False  # the size counts name and size too

    def read(self, file: BinaryIO, at: int) -> tuple[bytes, int, int] | None:
        """Return (name, offset behind the header, bytes that follow) of the chunk at `at`; None at the end."""
        header = read_at(file, at, self.name + self.size)
        if len(header) < self.name + self.size:
            return None
        length = int.from_bytes(header[self.name :], self.order)
        return header[: self.name], at + len(header), max(0, length - len(header)) if self.whole else length


LAYOUTS = {
    b"RIFF": ChunkLayout(12, 4, 4, "little", 2),
    b"RF64": ChunkLayout(12, 4, 4, "little", 2),
    b"RIFX": ChunkLayout(12, 4, 4, "big", 2),
    b"FORM": ChunkLayout(12, 4, 4, "big", 2),
    b"riff": ChunkLayout(40, 16, 8, "little", 8, whole=True),
    b"caff": ChunkLayout(8, 4, 8, "big", 1),
}


def check_chunks(file: BinaryIO, start: int, stop: int) -> None:
    """Compare the chunk of samples with the bytes that follow it, which must be other chunks, zeros, or nothing.

    Raises:
        ContainerError: they differ, there is no chunk of samples, or the container is not known.
    """
    magic, long_size = read_at(file, start, 4), None
    layout = LAYOUTS.get(magic)
    if layout is None:
        raise ContainerError(f"no chunks are known that begin with {magic!r}.", "unknown format")
    at = start + layout.head
    while (chunk := layout.read(file, at)) is not None:
        name, at, length = chunk
        if name == b"ds64":  # RF64 keeps 64-bit lengths here: of the file, then of the samples
            long_size = int.from_bytes(read_at(file, at + 8, 8), "little")
        if name[:4] in SOUND:
            claimed = long_size if long_size is not None and length == 2**32 - 1 else length
            rest = stop - at
            if claimed > rest:
                if claimed < 2**63 and (magic == b"RF64" or not is_open(claimed)):
                    raise missing(claimed, rest)
            elif not _are_chunks(file, at, at + claimed, stop, layout):
                raise unclaimed(claimed, rest)
            return
        if at + length >= stop:  # a damaged size leads beyond what seek takes
            break
        padded = at + length + -length % layout.pad
        forgotten = not _is_name(read_at(file, padded, 4)) and _is_name(read_at(file, at + length, 4))
        at = at + length if forgotten else padded  # libsndfile knows no padding in RF64
    raise ContainerError("corrupted, its chunk sizes lead to no chunk of samples.", "corrupt")


def _are_chunks(file: BinaryIO, begin: int, at: int, stop: int, layout: ChunkLayout) -> bool:
    """Return whether chunks with readable names follow the samples [begin, at), then zeros, an ID3v1 tag, or nothing.

    Some writers forget the byte after an odd chunk.
    """
    any_samples = at > begin
    while at < stop:
        padded = at + (begin - at) % layout.pad
        end = _named_chunk_end(file, padded, stop, layout) or _named_chunk_end(file, at, stop, layout)
        if end is None:
            return is_id3v1(file, padded, stop) or (any_samples and is_filling(file, at, stop))
        at = end
    return True


def _named_chunk_end(file: BinaryIO, at: int, stop: int, layout: ChunkLayout) -> int | None:
    """Return the end of the chunk at `at`, None if no chunk with a readable name stands there whole."""
    chunk = layout.read(file, at)
    if chunk is None:
        return None
    name, begin, length = chunk
    return begin + length if _is_name(name[:4]) and begin + length <= stop else None


def _is_name(name: bytes) -> bool:
    """Return whether these bytes are readable."""
    return name.isascii() and name.decode().isprintable()
