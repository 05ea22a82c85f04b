"""Sound files to mono float32 waveforms by soundfile and soxr, or one line that says what is wrong.

A decoder is not trusted: it reads half of a truncated WAV without a word, believes a header that claims
2^31-1 Hz, and waits forever for a named pipe. So the file is examined before it is opened, sound is read in
blocks (memory follows what is there, never what a header claims), and the samples are counted afterwards.
Not for streams: a microphone or a socket pushes samples to `Stream`.
"""

from __future__ import annotations

import os
import stat
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile
import torch
from torch import Tensor

from speechattn.data.samples import Samples, first_fault, resampled
from speechattn.errors import DataError
from speechattn.framing import Framing

SAMPLE_RATE = Framing().sample_rate
MIN_RATE, MAX_RATE = 1000, 768_000  # Hz; below is no speech, above is no converter anybody sells
MAX_SAMPLES_PER_BYTE = 8192  # digital silence in FLAC: 65535 samples need at least 11 bytes
UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's answer for a FLAC that was written to a pipe
BLOCK = 2**18  # samples of all channels that are decoded at a time: 1 MiB
PIECE = 1024  # the same where decoding breaks off: what is in the piece of the damage is not heard
OGG_PAGE = 65307  # bytes of the longest page

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


def load_audio(path: str | Path, sample_rate: int | None = SAMPLE_RATE) -> tuple[Tensor, int]:
    """The waveform [N], float32 in [-1, 1], and its sample rate in Hz.

    Channels are averaged and another rate is resampled to `sample_rate`, each said once per process;
    `sample_rate=None` keeps the file's rate. A file without samples gives N = 0.

    Raises:
        AudioError: the file is missing, a directory, a pipe, unreadable, empty, text, of an unknown format,
            truncated, corrupted, has a lying header, or holds NaN, infinity or integers as floats that nobody scaled,
            beyond 100 (the first index is named).
    """
    with _decoding(path, sample_rate) as (blocks, rate):
        waveform = np.concatenate([np.zeros(0, dtype=np.float32), *blocks])
    return torch.from_numpy(waveform), rate


def audio_blocks(path: str | Path, sample_rate: int | None = SAMPLE_RATE) -> Iterator[Samples]:
    """The samples of `load_audio`, to the bit, some seconds at a time: float32 vectors of any length.

    What is wrong with a file further in is raised when all that can be decoded before it has been given.

    Raises:
        AudioError: as `load_audio`.
    """
    with _decoding(path, sample_rate, "") as (blocks, _):
        yield from blocks


def audio_samples(path: str | Path, sample_rate: int | None = SAMPLE_RATE) -> int:
    """How many samples `load_audio` will return, from the header alone: fast, and blind to damage further in.

    Raises:
        AudioError: as `load_audio`, for everything that shows without decoding.
    """
    _check_rate(sample_rate)
    with _open(path) as sound:
        frames, rate = int(sound.frames), int(sound.samplerate)
        if frames == UNKNOWN_LENGTH:
            frames = sum(len(block) for block in _mono_blocks(sound, Path(path)))
    return frames if sample_rate is None else (frames * sample_rate + rate // 2) // rate  # soxr rounds half up


@contextmanager
def _decoding(
    path: str | Path, sample_rate: int | None, once: str = " Said once."
) -> Iterator[tuple[Iterator[Samples], int]]:
    """Blocks of mono samples, and their rate; what was changed on the way is said when all have been taken.

    `once` ends that line: of many files only the first is named, and who reads one in blocks has no other.
    """
    _check_rate(sample_rate)
    with _open(path) as sound:
        blocks, rate = _mono_blocks(sound, Path(path)), int(sound.samplerate)
        wanted = rate if sample_rate is None else sample_rate
        yield (blocks if rate == wanted else resampled(blocks, rate, wanted)), wanted
        if sound.channels > 1:
            _warn_once("channels", f"{path}: {sound.channels} channels are averaged to one.{once}")
        if rate != wanted:
            _warn_once("rate", f"{path}: {rate} Hz is resampled to {wanted} Hz.{once}")


def _check_rate(sample_rate: int | None) -> None:
    if sample_rate is not None and not MIN_RATE <= sample_rate <= MAX_RATE:
        raise ValueError(f"sample_rate must be {MIN_RATE} to {MAX_RATE} Hz, or None for the file's, got {sample_rate}.")


def _warn_once(kind: str, message: str) -> None:
    if kind not in _warned:
        _warned.add(kind)
        warnings.warn(message, AudioWarning, stacklevel=5)  # whoever asked load_audio, or audio_blocks


def _mono_blocks(sound: Any, path: Path) -> Iterator[Samples]:
    """Decoded audio, channels averaged, block by block; the count is compared with the header's at the end."""
    expected, got = int(sound.frames), 0
    for block in _decoded(sound, path):
        fault = first_fault(block.reshape(-1))
        if fault is not None:
            at, words = fault
            sane = block[: at // sound.channels]
            yield sane.mean(axis=1, dtype=np.float32)
            reason = "out of range" if np.isfinite(block.flat[at]) else "not finite"
            raise AudioError(f"{path}: sample {got + len(sane)} {words}. Export it again.", path, reason)
        got += len(block)
        if len(block):
            yield block.mean(axis=1, dtype=np.float32)
    if got < expected != UNKNOWN_LENGTH:
        raise AudioError(f"{path}: truncated, the header promises {expected} samples, got {got}.", path, "truncated")


def _decoded(sound: Any, path: Path) -> Iterator[Samples]:
    """Blocks [n, channels] as the decoder gives them, up to the damage if there is some."""
    size, count = max(1, BLOCK // sound.channels), 0
    while True:
        try:
            block = sound.read(size, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, ValueError) as error:
            yield from _up_to_damage(path, count, size)
            end = "the end" if sound.frames == UNKNOWN_LENGTH else f"the {sound.frames} samples its header promises"
            message = f"{path}: decoding broke off ({_said_by(error)}) before {end}: truncated or corrupted."
            raise AudioError(message, path, "corrupt") from error
        yield block
        count += 1
        if len(block) < size:
            return


def _up_to_damage(path: Path, count: int, size: int) -> Iterator[Samples]:
    """What can be decoded behind the first `count` blocks of `size`, in pieces.

    The error has taken its whole block with it, and a decoder that has lost its way cannot seek: another one begins
    at the beginning.
    """
    with suppress(soundfile.SoundFileError, ValueError), _sound(path) as sound:
        for _ in range(count):
            sound.read(size, dtype="float32")
        while len(piece := sound.read(PIECE, dtype="float32", always_2d=True)):
            yield piece


def _sound(path: Path) -> Any:
    # Bytes: soundfile would encode a name that is not UTF-8, or any under LC_ALL=C, and fail.
    return _Sequential(os.fsencode(path) if os.name == "posix" else os.fspath(path))


@contextmanager
def _open(path: str | Path) -> Iterator[Any]:
    """An open sound file whose type, size and header have been checked."""
    path = Path(path)
    size = _check_file(path)
    try:
        sound = _sound(path)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:  # TypeError: a name that ends in .raw
        if _starts_with_text(path):
            message = f"{path} holds text, not audio. A failed download or a Git LFS pointer looks like this."
            raise AudioError(message, path, "text") from error
        raise AudioError(
            f"{path} is not in a known audio format ({_said_by(error)}).", path, "unknown format"
        ) from error
    with sound:
        if not MIN_RATE <= sound.samplerate <= MAX_RATE:
            message = f"{path}: the header claims {sound.samplerate} Hz, expected {MIN_RATE} to {MAX_RATE} Hz."
            raise AudioError(message, path, "lying header")
        if size * MAX_SAMPLES_PER_BYTE < sound.frames != UNKNOWN_LENGTH:
            message = f"{path}: the header claims {sound.frames} samples, which cannot fit into {size} bytes."
            raise AudioError(message, path, "lying header")
        if sound.format in ("WAV", "WAVEX", "RF64"):
            _check_riff(path, size)
        if sound.format == "OGG":
            _check_ogg(path, size)
        yield sound


def _check_file(path: Path) -> int:
    """Bytes of a regular, readable file; nothing is opened before `stat` has said that opening cannot hang."""
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
    try:
        path.open("rb").close()
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror or error}.", path, "unreadable") from error
    if status.st_size == 0:
        raise AudioError(f"{path} is an empty file (0 bytes).", path, "empty file")
    return status.st_size


def _starts_with_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(512)
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not just a character cut in two by the 512 bytes
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character.isspace() for character in text)


def _said_by(error: Exception) -> str:
    """libsndfile's own words, without the path that soundfile puts before them."""
    return str(getattr(error, "error_string", error)).strip(". ")


def _check_riff(path: Path, size: int) -> None:
    """Compare the WAV's data chunk with the bytes that follow it: libsndfile shortens the sound silently instead."""
    with path.open("rb") as file:
        claimed = _data_bytes(file)
        rest = size - file.tell()
        if claimed is not None and claimed > rest:
            message = f"{path}: truncated, the header promises {claimed} bytes of samples, got {rest}."
            raise AudioError(message, path, "truncated")
        follower = file.read(4)
        if claimed == 0 and follower and not (follower.isascii() and follower.decode("ascii").isprintable()):
            message = f"{path}: the header claims no samples, but {rest} bytes follow: its writer was interrupted."
            raise AudioError(message, path, "lying header")


def _check_ogg(path: Path, size: int) -> None:
    """The last page must be whole and marked as the end: libsndfile counts the samples that are there, down to none."""
    with path.open("rb") as file:
        file.seek(max(0, size - OGG_PAGE))
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    lacing = page[27 : 27 + page[26]] if len(page) > 26 else b""  # the lengths of the page's segments
    if not lacing or not page[5] & 4 or len(page) < 27 + page[26] + sum(lacing):
        raise AudioError(f"{path}: truncated, its Ogg stream has no end.", path, "truncated")


def _data_bytes(file: BinaryIO) -> int | None:
    """Bytes of samples that the header claims, with `file` left where they begin.

    None when no claim is made: a WAV that was written to a pipe has 2^32-1 there.
    """
    order = ">" if file.read(12)[:4] == b"RIFX" else "<"
    long_size = None
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack(f"{order}4sI", header)
        if name == b"data":
            return long_size if length == 2**32 - 1 else int(length)
        chunk_end = file.tell() + length + length % 2
        if name == b"ds64":  # RF64 keeps 64-bit lengths here: of the file, then of the samples
            long_size = int.from_bytes(file.read(16)[8:], "little")
        file.seek(chunk_end)
    return None
