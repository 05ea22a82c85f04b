"""A sound file with a checked container, decoded by soundfile and soxr to blocks of mono samples.

A decoder is not trusted: libsndfile reads half of a truncated WAV without an error, stops where a header says the end
is, and accepts a header that claims 2^31-1 Hz. So containers/ finds the links that the file consists of, audio is read
in blocks (memory follows the bytes that are there, not what a header claims), and the samples are counted afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np
import soundfile

from speechattn.data.audio.containers.find import find_links
from speechattn.data.audio.containers.links import ContainerError, Link, Part
from speechattn.data.audio.errors import AudioError
from speechattn.data.audio.samples import MAX_RATE, MIN_RATE, Samples, first_fault, resampled
from speechattn.data.audio.source import AudioSource, open_binary

MAX_SAMPLES_PER_BYTE = 8192  # digital silence in FLAC: 65535 samples need at least 11 bytes
UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's answer for a FLAC that was written to a pipe
BLOCK = 2**18  # samples of all channels that are decoded at a time: 1 MiB
PIECE = 1024  # the same where decoding fails: samples of the piece with the damage are lost


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """A SoundFile that does not seek: soundfile seeks after each read, which fails if a FLAC's header is wrong."""

    def seekable(self) -> bool:
        return False


class SoundFile:
    """The links of a sound file, which are decoded one after another; make one with `open_sound_file`.

    Raises:
        AudioError: the header of a link is damaged or claims what cannot be.
    """

    def __init__(self, file: BinaryIO, name: str, links: list[Link]) -> None:
        self.file, self.name, self.links = file, name, links
        self.changes: dict[str, str] = {}
        """Changes made to the samples decoded so far, by kind."""
        self._known: list[tuple[int | None, int]] = []  # samples of each link, and its rate
        for link in links:
            with self._decoder(link) as decoder:
                self._known.append((_promised_samples(link, decoder), int(decoder.samplerate)))
        self.rate = self._known[0][1]

    def num_samples(self, sample_rate: int) -> int | None:
        """Return the samples of all links at `sample_rate` Hz, or None if a container does not say."""
        total = 0
        for samples, rate in self._known:
            if samples is None:
                return None
            total += (samples * sample_rate + rate // 2) // rate  # soxr rounds half up
        return total

    def blocks(self, sample_rate: int) -> Iterator[Samples]:
        """Yield the mono samples of all links at `sample_rate` Hz, block by block."""
        for link in self.links:
            with self._decoder(link) as decoder:
                rate, blocks = int(decoder.samplerate), self._mono_blocks(link, decoder)
                yield from blocks if rate == sample_rate else resampled(blocks, rate, sample_rate)
                if decoder.channels > 1:
                    self.changes.setdefault("channels", f"{decoder.channels} channels are averaged to one")
                if rate != sample_rate:
                    self.changes.setdefault("rate", f"{rate} Hz is resampled to {sample_rate} Hz")

    def _decoder(self, link: Link) -> Any:
        """Return a decoder of the link, whose header has been checked."""
        decoder = _open_decoder(self.file, link, self.name)
        rate, frames, size = decoder.samplerate, _promised_samples(link, decoder), link.stop - link.start
        fault = None
        if not MIN_RATE <= rate <= MAX_RATE:
            fault = f"{rate} Hz, expected {MIN_RATE} to {MAX_RATE} Hz"
        elif frames is not None and frames > size * MAX_SAMPLES_PER_BYTE:
            fault = f"{frames} samples, which cannot fit into {size} bytes"
        if fault is not None:
            decoder.close()
            raise AudioError(f"{self.name}: the header claims {fault}.", self.name, "wrong header")
        return decoder

    def _mono_blocks(self, link: Link, decoder: Any) -> Iterator[Samples]:
        """Yield decoded audio, channels averaged, block by block; compare the count with the header at the end."""
        expected, got = _promised_samples(link, decoder), 0
        for block in self._decoded_blocks(link, decoder):
            fault = first_fault(block.reshape(-1))
            if fault is not None:
                at, description = fault
                valid = block[: at // decoder.channels]
                yield valid.mean(axis=1, dtype=np.float32)
                reason = "out of range" if np.isfinite(block.flat[at]) else "not finite"
                message = f"{self.name}: sample {got + len(valid)} {description}. Export it again."
                raise AudioError(message, self.name, reason)
            got += len(block)
            if len(block):
                yield block.mean(axis=1, dtype=np.float32)
        if expected is not None and got < expected:
            message = f"{self.name}: truncated, the header promises {expected} samples, got {got}."
            raise AudioError(message, self.name, "truncated")

    def _decoded_blocks(self, link: Link, decoder: Any) -> Iterator[Samples]:
        """Yield blocks [n, channels] as the decoder returns them, up to the damage if there is some."""
        size, count = max(1, BLOCK // decoder.channels), 0
        while True:
            try:
                block = decoder.read(size, dtype="float32", always_2d=True)
            except (soundfile.SoundFileError, ValueError) as error:
                yield from self._pieces_before_damage(link, count, size)
                expected = _promised_samples(link, decoder)
                end = "the end" if expected is None else f"the {expected} samples its header promises"
                message = f"{self.name}: decoding broke off ({_reason(error)}) before {end}: truncated or corrupted."
                raise AudioError(message, self.name, "corrupt") from error
            yield block
            count += 1
            if len(block) < size:
                return

    def _pieces_before_damage(self, link: Link, count: int, size: int) -> Iterator[Samples]:
        """Yield what can be decoded after the first `count` blocks of `size`, in pieces.

        An error loses its whole block, and a decoder that has failed cannot seek: a new one starts at the beginning.
        """
        with suppress(soundfile.SoundFileError, ValueError), _SequentialFile(Part(self.file, link)) as decoder:
            for _ in range(count):
                decoder.read(size, dtype="float32")
            while len(piece := decoder.read(PIECE, dtype="float32", always_2d=True)):
                yield piece


@contextmanager
def open_sound_file(source: AudioSource) -> Iterator[SoundFile]:
    """Yield a sound file whose kind, size, container and first header have been checked.

    Raises:
        AudioError: the file cannot be opened, is empty, is not audio, or its container is damaged.
    """
    with open_binary(source) as (file, name):
        start = file.tell()
        stop = file.seek(0, os.SEEK_END)
        try:
            if start >= stop:
                rewind = f" after byte {start}: seek(0) first" if start else ""
                raise AudioError(f"{name} is an empty file (0 bytes{rewind}).", name, "empty file")
            with _open_decoder(file, Link(start, stop), name) as decoder:
                kind = decoder.format
            try:
                links = find_links(file, start, stop, kind)
            except ContainerError as error:
                raise AudioError(f"{name}: {error}", name, error.reason) from error
            yield SoundFile(file, name, links)
        finally:
            file.seek(start)


def _open_decoder(file: BinaryIO, link: Link, name: str) -> Any:
    try:
        return _SequentialFile(Part(file, link))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        if _is_text(Part(file, link).read(512)):
            message = f"{name} holds text, not audio. A failed download or a Git LFS pointer looks like this."
            raise AudioError(message, name, "text") from error
        raise AudioError(
            f"{name} is not in a known audio format ({_reason(error)}).", name, "unknown format"
        ) from error


def _promised_samples(link: Link, decoder: Any) -> int | None:
    """Return the samples of a channel that the container promises, None if it does not say."""
    if link.num_samples is not None or link.padded or decoder.frames == UNKNOWN_LENGTH:
        return link.num_samples
    return int(decoder.frames)


def _is_text(head: bytes) -> bool:
    """Return whether the first bytes of a file are printable UTF-8."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not just a character cut in two by the 512 bytes
            return False
        text = head[: error.start].decode("utf-8")
    return all(character.isprintable() or character.isspace() for character in text)


def _reason(error: Exception) -> str:
    """Return libsndfile's message, without the path that soundfile puts before it."""
    return str(getattr(error, "error_string", error)).strip(". ")
