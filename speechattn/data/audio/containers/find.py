"""The choice of a container parser by the name of the format."""

from __future__ import annotations

from typing import BinaryIO

from speechattn.data.audio.containers.chunks import chunk_link
from speechattn.data.audio.containers.flac import flac_link
from speechattn.data.audio.containers.headers import check_au, check_nist
from speechattn.data.audio.containers.links import ContainerError, Link, read_at
from speechattn.data.audio.containers.mpeg import mpeg_links
from speechattn.data.audio.containers.ogg import ogg_links
from speechattn.data.audio.containers.tags import tag_size


def find_links(file: BinaryIO, start: int, stop: int, format: str) -> list[Link]:
    """Return the links in the bytes [start, stop) of `file`, in order; `format` is libsndfile's name for it.

    Raises:
        ContainerError: bytes are missing or damaged; there is more audio than the header promises; or half a file of
            the format cannot be distinguished from a complete one.
    """
    while (head := read_at(file, start, 10)).startswith(b"ID3") and tag_size(head):  # libsndfile skips it everywhere
        start += tag_size(head)
    match format:
        case "OGG":
            return ogg_links(file, start, stop)
        case "MP3":
            return mpeg_links(file, start, stop)
        case "FLAC":
            return [flac_link(file, start, stop)]
        case "WAV" | "WAVEX" | "RF64" | "W64" | "AIFF" | "SVX" | "CAF":
            return [chunk_link(file, start, stop)]
        case "AU":
            check_au(file, start, stop)
        case "NIST":
            check_nist(file, start, stop)
        case _:
            message = f"half a file of the format {format} looks like a complete one: convert it to WAV or FLAC."
            raise ContainerError(message, "unknown format")
    return [Link(start, stop)]
