"""A path or a binary file as a source of audio, checked before it is opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from speechattn.data.audio.errors import AudioError

AudioSource = str | os.PathLike[str] | BinaryIO
"""A path, or a binary file that can seek, which is read from its position; the position is restored."""

SOUND_SUFFIXES = (".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".sph", ".w64", ".wav")
"""Suffixes of sound files, in lower case. Files of any other name can be read too."""


@contextmanager
def open_binary(source: AudioSource) -> Iterator[tuple[BinaryIO, str]]:
    """Yield the source as a binary file that can seek, and its name in messages.

    A path is opened after `stat` has shown that opening it cannot wait forever.

    Raises:
        AudioError: the path is missing, is not a regular file, or cannot be read; or the file cannot seek.
        TypeError: the source is neither a path nor a binary file.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        _check_regular(path)
        try:
            file = path.open("rb")
        except OSError as error:
            raise AudioError(f"{path} cannot be read: {error.strerror or error}.", path, "unreadable") from error
        with file:
            yield file, str(path)
        return
    if isinstance(source, bytes | bytearray | memoryview):
        raise TypeError("source must be a path or a binary file, got bytes: give io.BytesIO(data).")
    name = getattr(source, "name", None)
    name = name if isinstance(name, str) else f"<{type(source).__name__}>"
    if not hasattr(source, "read") or not hasattr(source, "seek"):
        raise TypeError(f"source must be a path or a binary file, got {type(source).__name__}.")
    if not isinstance(source.read(0), bytes):
        raise TypeError(f'{name} is open as text: open(path, "rb") reads bytes.')
    try:
        source.seek(source.tell())
    except OSError as error:  # a pipe or a socket
        raise AudioError(f"{name} cannot seek: give io.BytesIO(file.read()).", name, "unreadable") from error
    yield source, name


def _check_regular(path: Path) -> None:
    """Raise AudioError if the path is not a regular file."""
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise AudioError(f"{path} does not exist.", path, "missing") from error
    except (OSError, ValueError) as error:
        raise AudioError(f"{path} cannot be reached: {error}.", path, "unreadable") from error
    kinds = {stat.S_IFDIR: "directory", stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
    if not stat.S_ISREG(status.st_mode):
        kind = kinds.get(stat.S_IFMT(status.st_mode), "device")
        raise AudioError(f"{path} is a {kind}, not an audio file.", path, kind)
