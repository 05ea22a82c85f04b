"""The number of bytes that a header promises, compared with the bytes that follow it."""

from __future__ import annotations

from typing import BinaryIO

from speechattn.data.audio.containers.links import ContainerError, read_at

OPEN_SIZES = (2**32 - 1, 2**31, 2**31 - 1, 0x7FFFFF00, 0x7FFFF000)
"""Sizes that mean "unknown" in files written to a pipe: ffmpeg, various, various, arecord, SoX."""
MAX_ALIGN = 64  # bytes of one sample of all channels, by which an open size may be rounded down
MAX_FILLING = 4096  # zero bytes that fill the last sector of a recorder's card


def is_open(claimed: int) -> bool:
    """Return whether a size means "unknown, written to a pipe"."""
    return any(0 <= size - claimed < MAX_ALIGN for size in OPEN_SIZES)


def is_filling(file: BinaryIO, at: int, stop: int) -> bool:
    """Return whether the bytes [at, stop) are all zero and at most MAX_FILLING."""
    return stop - at <= MAX_FILLING and not any(read_at(file, at, stop - at))


def missing(claimed: int, rest: int) -> ContainerError:
    """Return the error for a header that promises more bytes of samples than follow."""
    message = f"truncated, the header promises {claimed} bytes of samples, got {max(0, rest)}."
    return ContainerError(message, "truncated")


def unclaimed(claimed: int, rest: int) -> ContainerError:
    """Return the error for a header that promises fewer bytes of samples than follow."""
    promised = f"promises {claimed} bytes of" if claimed else "claims no"
    message = f"the header {promised} samples, but {rest} bytes follow: its writer was interrupted."
    return ContainerError(message, "wrong header")
