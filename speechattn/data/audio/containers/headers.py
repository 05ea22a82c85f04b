"""Formats of one header followed by samples: Sun's AU and NIST's SPHERE."""

from __future__ import annotations

from typing import BinaryIO, Literal

from speechattn.data.audio.containers.links import ContainerError, read_at
from speechattn.data.audio.containers.sizes import is_filling, is_open, missing, unclaimed


def check_au(file: BinaryIO, start: int, stop: int) -> None:
    """Compare the bytes of samples that an AU header promises with those that follow.

    Raises:
        ContainerError: they differ.
    """
    header = read_at(file, start, 12)
    order: Literal["little", "big"] = "big" if header[:4] == b".snd" else "little"
    offset, claimed = int.from_bytes(header[4:8], order), int.from_bytes(header[8:12], order)
    if not (is_open(claimed) and claimed > stop - start - offset):
        _check_size(file, start + offset, stop, claimed)


def check_nist(file: BinaryIO, start: int, stop: int) -> None:
    """Compare the samples that a SPHERE header counts, in text, with the bytes that follow.

    Raises:
        ContainerError: they differ, as they do if the samples are compressed, or the header has no count.
    """
    lines = read_at(file, start, 1024).decode("ascii", "replace").splitlines()
    fields = {line.partition(" ")[0]: line.split(" ")[-1] for line in lines}  # name, type, value
    try:
        header = int(lines[1])
        claimed = int(fields["sample_count"]) * int(fields["sample_n_bytes"]) * int(fields["channel_count"])
    except (IndexError, KeyError, ValueError) as error:
        raise ContainerError("its header does not say how many samples follow.", "wrong header") from error
    _check_size(file, start + header, stop, claimed)


def _check_size(file: BinaryIO, begin: int, stop: int, claimed: int) -> None:
    """Raise ContainerError unless [begin, stop) has `claimed` bytes, and at most a few zeros after them."""
    rest = stop - begin
    if claimed > rest:
        raise missing(claimed, rest)
    if not is_filling(file, begin + claimed, stop):
        raise unclaimed(claimed, rest)
