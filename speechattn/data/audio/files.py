"""Sound files to mono float32 waveforms by soundfile and soxr, or one line that says what is wrong.

A decoder is not trusted: it reads half of a truncated WAV without a word, stops where a header promises the end,
believes one that claims 2^31-1 Hz, and waits forever for a named pipe. So the file is examined before it is opened,
`containers/` finds the links that it is made of, sound is read in blocks (memory follows what is there, never what a
header claims), and the samples are counted afterwards. Everything that reads sound files comes through here.
Not for streams: a microphone or a socket pushes samples to `Stream`.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import torch
from torch import Tensor

from speechattn.data.audio.containers.find import find_links
from speechattn.data.audio.containers.links import ContainerError, Link, Part
from speechattn.data.audio.samples import MAX_RATE, MIN_RATE, Samples, first_fault, resampled, whole_rate
from speechattn.errors import DataError
from speechattn.framing import Framing
from speechattn.system.process_memory import available_bytes
from speechattn.system.units import format_bytes, format_duration

SAMPLE_RATE = Framing().sample_rate
MAX_SAMPLES_PER_BYTE = 8192  # digital silence in FLAC: 65535 samples need at least 11 bytes
UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's answer for a FLAC that was written to a pipe
BLOCK = 2**18  # samples of all channels that are decoded at a time: 1 MiB
PIECE = 1024  # the same where decoding breaks off: what is in the piece of the damage is not heard
FITS = 2**28  # bytes: less is not compared with free memory, which takes 0.1 ms to ask for
COPIES = 2  # of the samples, while `load_audio` joins its blocks
AudioSource = str | os.PathLike[str] | BinaryIO
"""A path, or a binary file that can seek, which is read from where it stands and left there."""

_warned: set[str] = set()  # what this process has been told once; a warnings filter forgets, and corpora are long


class AudioError(DataError):
    """One file that cannot be used. `path` names it, `reason` is a short kind to count by ("truncated", "text")."""

    def __init__(self, message: str, path: str | Path = "", reason: str = "") -> None:
        super().__init__(message)  # the message alone: worker processes rebuild an error from its args
        self.path = Path(path)
        self.reason = reason


class AudioWarning(UserWarning):
    """Audio that was changed or left out on the way in."""


class _Sequential(soundfile.SoundFile):  # type: ignore[misc]
    """soundfile seeks after each read, which fails at the end of a FLAC whose header lies; forwards is enough."""

    def seekable(self) -> bool:
        return False


def load_audio(source: AudioSource, sample_rate: int | None = SAMPLE_RATE) -> tuple[Tensor, int]:
    """Return the waveform [N], float32 in [-1, 1], and its sample rate in Hz.

    `source` is a path or a binary file such as io.BytesIO. Channels are averaged and another rate is resampled to
    `sample_rate`, with one warning a process each; `sample_rate=None` keeps the file's rate, of a chain the rate of its
    first link. A file without samples gives N = 0.

    Raises:
        AudioError: the file is missing, a directory, a pipe, unreadable, empty, text, of an unknown format,
            truncated, corrupted, has a lying header, holds NaN, infinity or unscaled integers as floats,
            beyond 100 (the first index is named), or does not fit into memory.
        TypeError, ValueError: the source is no such file, or sample_rate no whole number of Hz.
    """
    with _decoding(source, sample_rate) as (blocks, rate, name, num_samples):
        needed = 4 * COPIES * (num_samples or 0)
        available = available_bytes() if needed > FITS else None
        if available is not None and needed > available:
            message = (
                f"{name}: {format_duration((num_samples or 0) / rate)} at once take {format_bytes(needed)}, and "
                f"{format_bytes(available)} are free. Cut the file, or use encode_long, which reads it in blocks."
            )
            raise AudioError(message, name, "too long")
        waveform = np.concatenate([np.zeros(0, dtype=np.float32), *blocks])
    return torch.from_numpy(waveform), rate


def audio_blocks(source: AudioSource, sample_rate: int | None = SAMPLE_RATE) -> Iterator[Samples]:
    """Yield the samples of `load_audio`, to the bit, some seconds at a time: float32 vectors of any length.

    What is wrong further in, and shows in decoding alone, is raised when all that can be decoded before it has been
    given.

    Raises:
        AudioError: as `load_audio`.
    """
    with _decoding(source, sample_rate, "") as (blocks, *_):
        yield from blocks


def audio_samples(source: AudioSource, sample_rate: int | None = SAMPLE_RATE) -> int:
    """Return how many samples `load_audio` will return: from the container alone, which is blind to damage further in.

    Raises:
        AudioError: as `load_audio`, for everything that shows without decoding.
    """
    wanted = None if sample_rate is None else whole_rate(sample_rate)
    with _open(source) as sound:
        rate = sound.rate if wanted is None else wanted
        known = sound.num_samples(rate)
        return sum(map(len, sound.blocks(rate))) if known is None else known


@contextmanager
def _decoding(
    source: AudioSource, sample_rate: int | None, once: str = " Said once."
) -> Iterator[tuple[Iterator[Samples], int, str, int | None]]:
    """Blocks of mono samples, their rate, the file's name, and how many come, if the container knows.

    Warnings of what was changed come when all have been taken. `once` ends their line: of many files only the first is
    named, and a file that is read in blocks has no others.
    """
    wanted = None if sample_rate is None else whole_rate(sample_rate)
    with _open(source) as sound:
        rate = sound.rate if wanted is None else wanted
        yield sound.blocks(rate), rate, sound.name, sound.num_samples(rate)
        for kind, change in sound.changes.items():
            _warn_once(kind, f"{sound.name}: {change}.{once}")


def _warn_once(kind: str, message: str) -> None:
    if kind not in _warned:
        _warned.add(kind)
        warnings.warn(message, AudioWarning, stacklevel=5)  # whoever asked load_audio, or audio_blocks


class _Sound:
    """A sound file whose container has been read: its links, to be decoded one after another."""

    def __init__(self, file: BinaryIO, name: str, links: list[Link]) -> None:
        self.file, self.name, self.links = file, name, links
        self.changes: dict[str, str] = {}
        """What was done to the samples that have been given, by kind."""
        self._known: list[tuple[int | None, int]] = []  # samples of each link, and its rate
        for link in links:
            with self._decoder(link) as decoder:
                self._known.append((self._promised(link, decoder), int(decoder.samplerate)))
        self.rate = self._known[0][1]

    def num_samples(self, wanted: int) -> int | None:
        """Samples of all links at `wanted` Hz, or None if one does not say."""
        total = 0
        for samples, rate in self._known:
            if samples is None:
                return None
            total += (samples * wanted + rate // 2) // rate  # soxr rounds half up
        return total

    def blocks(self, wanted: int) -> Iterator[Samples]:
        """Mono samples of all links at `wanted` Hz, block by block."""
        for link in self.links:
            with self._decoder(link) as decoder:
                rate, blocks = int(decoder.samplerate), self._mono_blocks(link, decoder)
                yield from blocks if rate == wanted else resampled(blocks, rate, wanted)
                if decoder.channels > 1:
                    self.changes.setdefault("channels", f"{decoder.channels} channels are averaged to one")
                if rate != wanted:
                    self.changes.setdefault("rate", f"{rate} Hz is resampled to {wanted} Hz")

    def _decoder(self, link: Link) -> Any:
        """A decoder of the link, whose header has been checked."""
        decoder = _decoder(self.file, link, self.name)
        rate, frames, size = decoder.samplerate, self._promised(link, decoder), link.stop - link.start
        fault = None
        if not MIN_RATE <= rate <= MAX_RATE:
            fault = f"{rate} Hz, expected {MIN_RATE} to {MAX_RATE} Hz"
        elif frames is not None and frames > size * MAX_SAMPLES_PER_BYTE:
            fault = f"{frames} samples, which cannot fit into {size} bytes"
        if fault is not None:
            decoder.close()
            raise AudioError(f"{self.name}: the header claims {fault}.", self.name, "lying header")
        return decoder

    @staticmethod
    def _promised(link: Link, decoder: Any) -> int | None:
        if link.num_samples is not None or link.padded or decoder.frames == UNKNOWN_LENGTH:
            return link.num_samples
        return int(decoder.frames)

    def _mono_blocks(self, link: Link, decoder: Any) -> Iterator[Samples]:
        """Decoded audio, channels averaged, block by block; the count is compared with the promise at the end."""
        expected, got = self._promised(link, decoder), 0
        for block in self._decoded(link, decoder):
            fault = first_fault(block.reshape(-1))
            if fault is not None:
                at, words = fault
                sane = block[: at // decoder.channels]
                yield sane.mean(axis=1, dtype=np.float32)
                reason = "out of range" if np.isfinite(block.flat[at]) else "not finite"
                message = f"{self.name}: sample {got + len(sane)} {words}. Export it again."
                raise AudioError(message, self.name, reason)
            got += len(block)
            if len(block):
                yield block.mean(axis=1, dtype=np.float32)
        if expected is not None and got < expected:
            message = f"{self.name}: truncated, the header promises {expected} samples, got {got}."
            raise AudioError(message, self.name, "truncated")

    def _decoded(self, link: Link, decoder: Any) -> Iterator[Samples]:
        """Blocks [n, channels] as the decoder gives them, up to the damage if there is some."""
        size, count = max(1, BLOCK // decoder.channels), 0
        while True:
            try:
                block = decoder.read(size, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, ValueError) as error:
                yield from self._up_to_damage(link, count, size)
                expected = self._promised(link, decoder)
                end = "the end" if expected is None else f"the {expected} samples its header promises"
                message = f"{self.name}: decoding broke off ({_said_by(error)}) before {end}: truncated or corrupted."
                raise AudioError(message, self.name, "corrupt") from error
            yield block
            count += 1
            if len(block) < size:
                return

    def _up_to_damage(self, link: Link, count: int, size: int) -> Iterator[Samples]:
        """What can be decoded behind the first `count` blocks of `size`, in pieces.

        The error has taken its whole block with it, and a decoder that has lost its way cannot seek: another one begins
        at the beginning.
        """
        with suppress(soundfile.SoundFileError, ValueError), _Sequential(Part(self.file, link)) as decoder:
            for _ in range(count):
                decoder.read(size, dtype="float32")
            while len(piece := decoder.read(PIECE, dtype="float32", always_2d=True)):
                yield piece


@contextmanager
def _open(source: AudioSource) -> Iterator[_Sound]:
    """A sound file whose kind, size, container and first header have been checked."""
    with _binary(source) as (file, name):
        start = file.tell()
        stop = file.seek(0, os.SEEK_END)
        try:
            if start >= stop:
                rewind = f" behind byte {start}: seek(0) first" if start else ""
                raise AudioError(f"{name} is an empty file (0 bytes{rewind}).", name, "empty file")
            with _decoder(file, Link(start, stop), name) as decoder:
                kind = decoder.format
            try:
                links = find_links(file, start, stop, kind)
            except ContainerError as error:
                raise AudioError(f"{name}: {error}", name, error.reason) from error
            yield _Sound(file, name, links)
        finally:
            file.seek(start)


def _decoder(file: BinaryIO, link: Link, name: str) -> Any:
    try:
        return _Sequential(Part(file, link))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        if _is_text(Part(file, link).read(512)):
            message = f"{name} holds text, not audio. A failed download or a Git LFS pointer looks like this."
            raise AudioError(message, name, "text") from error
        raise AudioError(
            f"{name} is not in a known audio format ({_said_by(error)}).", name, "unknown format"
        ) from error


@contextmanager
def _binary(source: AudioSource) -> Iterator[tuple[BinaryIO, str]]:
    """The source as a binary file that can seek, and its name in messages.

    Nothing is opened before `stat` has shown that opening cannot hang.
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        _check_kind(path)
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


def _check_kind(path: Path) -> None:
    """Raise AudioError if the path is no regular file."""
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


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not just a character cut in two by the 512 bytes
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character.isspace() for character in text)


def _said_by(error: Exception) -> str:
    """Libsndfile's own words, without the path that soundfile puts before them."""
    return str(getattr(error, "error_string", error)).strip(". ")
