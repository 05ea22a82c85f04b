"""Containers of chunks, each a name, a size and its bytes: RIFF, RF64, IFF, Wave64 and CAF."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Literal, NamedTuple

from speechattn.data.audio.containers.links import ContainerError, Link, read_at
from speechattn.data.audio.containers.sizes import is_filling, is_open, missing, unclaimed
from speechattn.data.audio.containers.tags import is_id3v1

SAMPLE_CHUNKS = (b"data", b"SSND", b"BODY")  # names of the chunk of samples; in Wave64 the rest of a GUID follows
WAV_PLAIN, WAV_EXTENSIBLE = (1, 3), 0xFFFE  # PCM and floats; a GUID after the fields says which
AIFF_PLAIN = (b"NONE", b"twos", b"sowt", b"raw ", b"FL32", b"fl32", b"FL64", b"fl64")  # the same in AIFF-C


class ChunkLayout(NamedTuple):
    """The layout of the chunks in one kind of container."""

    head: int  # bytes before the first chunk
    name: int  # bytes of a name
    size: int  # bytes of a size
    order: Literal["little", "big"]
    pad: int  # sizes are rounded up to a multiple of this
    inclusive: bool = False  # the size counts name and size too

    def read(self, file: BinaryIO, at: int) -> tuple[bytes, int, int] | None:
        """Return (name, offset after the header, bytes that follow) of the chunk at `at`; None at the end."""
        header = read_at(file, at, self.name + self.size)
        if len(header) < self.name + self.size:
            return None
        length = int.from_bytes(header[self.name :], self.order)
        return header[: self.name], at + len(header), max(0, length - len(header)) if self.inclusive else length


LAYOUTS = {
    b"RIFF": ChunkLayout(12, 4, 4, "little", 2),
    b"RF64": ChunkLayout(12, 4, 4, "little", 2),
    b"RIFX": ChunkLayout(12, 4, 4, "big", 2),
    b"FORM": ChunkLayout(12, 4, 4, "big", 2),
    b"riff": ChunkLayout(40, 16, 8, "little", 8, inclusive=True),
    b"caff": ChunkLayout(8, 4, 8, "big", 1),
}


def chunk_link(file: BinaryIO, start: int, stop: int) -> Link:
    """Return the link, whose samples are followed by other chunks, zeros, or nothing.

    Raises:
        ContainerError: the size of the chunk of samples differs from the bytes or from the header, the header
            contradicts itself, there is no chunk of samples, or the container is unknown.
    """
    magic, long_size = read_at(file, start, 4), None
    layout = LAYOUTS.get(magic)
    if layout is None:
        raise ContainerError(f"no chunks are known that begin with {magic!r}.", "unknown format")
    for name, at, length in _chunks(file, start + layout.head, stop, layout):
        if name == b"ds64":  # RF64 keeps 64-bit lengths here: of the file, then of the samples
            long_size = int.from_bytes(read_at(file, at + 8, 8), "little")
        if name[:4] == b"fmt ":
            _check_wav_format(read_at(file, at, min(length, 26)), layout.order)
        if name[:4] in SAMPLE_CHUNKS:
            claimed = long_size if long_size is not None and length == 2**32 - 1 else length
            rest = stop - at
            if claimed > rest:
                if claimed < 2**63 and (magic == b"RF64" or not is_open(claimed)):
                    raise missing(claimed, rest)
                return Link(start, stop)
            if not _are_chunks(file, at, at + claimed, stop, layout):
                raise unclaimed(claimed, rest)
            if name == b"SSND":
                _check_aiff_size(file, start, stop, claimed - 8 - int.from_bytes(read_at(file, at, 4), "big"))
            # libsndfile reads the bytes after the samples of a Wave64 as more samples
            return Link(start, at + claimed if magic == b"riff" else stop)
    raise ContainerError("corrupted, its chunk sizes lead to no chunk of samples.", "corrupt")


def _chunks(file: BinaryIO, at: int, stop: int, layout: ChunkLayout) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, offset after the header, bytes that follow) of each chunk, up to one that leads beyond `stop`."""
    while (chunk := layout.read(file, at)) is not None:
        yield chunk
        _, at, length = chunk
        if at + length >= stop:  # a damaged size may be too large for seek
            return
        padded = at + length + -length % layout.pad
        unpadded = not _is_name(read_at(file, padded, 4)) and _is_name(read_at(file, at + length, 4))
        at = at + length if unpadded else padded  # libsndfile writes no padding in RF64


def _check_wav_format(fields: bytes, order: Literal["little", "big"]) -> None:
    """Raise ContainerError if channels, bits and block size of uncompressed samples contradict each other."""
    codec, channels, align, bits = (int.from_bytes(fields[at : at + 2], order) for at in (0, 2, 12, 14))
    if codec == WAV_EXTENSIBLE:
        codec = int.from_bytes(fields[24:26], order)
    cool_edit = bits == 24 and align == 4 * channels  # floats of 32 bits, which libsndfile reads
    if codec in WAV_PLAIN and align not in (0, channels * (-(-bits // 8))) and not cool_edit:
        message = f"the header claims {channels} channels of {bits} bits, but {align} bytes for one sample of them all."
        raise ContainerError(message, "wrong header")


def _check_aiff_size(file: BinaryIO, start: int, stop: int, size: int) -> None:
    """Raise ContainerError if AIFF's COMM chunk counts more or fewer bytes of uncompressed samples than `size`."""
    layout = LAYOUTS[b"FORM"]
    for name, at, _ in _chunks(file, start + layout.head, stop, layout):
        if name == b"COMM":
            fields = read_at(file, at, 22)
            channels, count, bits = (int.from_bytes(fields[low:high], "big") for low, high in ((0, 2), (2, 6), (6, 8)))
            plain = read_at(file, start + 8, 4) == b"AIFF" or fields[18:22] in AIFF_PLAIN
            needed = count * channels * (-(-bits // 8))
            if plain and size not in (needed, needed + needed % 2):  # libsndfile counts an odd chunk's padding
                claim = f"{count} samples of {channels} channels of {bits} bits"
                raise ContainerError(f"the header claims {claim}, but {size} bytes of samples.", "wrong header")
            return


def _are_chunks(file: BinaryIO, begin: int, at: int, stop: int, layout: ChunkLayout) -> bool:
    """Return whether chunks with readable names follow the samples [begin, at), then zeros, an ID3v1 tag, or nothing.

    Some writers omit the padding byte of an odd chunk.
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
    """Return the end of the chunk at `at`, None if there is no complete chunk with a readable name.

    A name that begins a container is the start of another file.
    """
    chunk = layout.read(file, at)
    if chunk is None:
        return None
    name, begin, length = chunk
    known = _is_name(name[:4]) and name[:4] not in LAYOUTS
    return begin + length if known and begin + length <= stop else None


def _is_name(name: bytes) -> bool:
    """Return whether these bytes are readable."""
    return name.isascii() and name.decode().isprintable()
