"""Sound files to mono float32 waveforms, or an error of one line that names the file and the fault.

All code that reads sound files uses these three functions; sound_file.py checks and decodes. A microphone or a socket
pushes samples to `Stream` instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from speechattn.data.audio.errors import AudioError, AudioWarning
from speechattn.data.audio.samples import Samples, whole_rate
from speechattn.data.audio.sound_file import open_sound_file
from speechattn.data.audio.source import AudioSource
from speechattn.framing import Framing
from speechattn.system.process_memory import available_bytes
from speechattn.system.units import format_bytes, format_duration

SAMPLE_RATE = Framing().sample_rate
SMALL_BYTES = 2**28  # less is not compared with free memory, which takes 0.1 ms to ask for
COPIES = 2  # of the samples, while `load_audio` joins its blocks

_warned: set[str] = set()  # kinds of changes that this process has warned of; a warnings filter would forget
_collected: dict[str, str] | None = None


def load_audio(source: AudioSource, sample_rate: int | None = SAMPLE_RATE) -> tuple[Tensor, int]:
    """Return the waveform [N], float32 in [-1, 1], and its sample rate in Hz.

    `source` is a path or a binary file such as io.BytesIO. Channels are averaged and another rate is resampled to
    `sample_rate`, with one warning a process each; `sample_rate=None` keeps the file's rate (of a chain of links, the
    rate of the first). A file without samples gives N = 0.

    Raises:
        AudioError: the file is missing, a directory, a pipe, unreadable, empty, text, of an unknown format, truncated,
            corrupted, has a wrong header, holds NaN, infinity or unscaled integers as floats, beyond 100 (the first
            index is named), or does not fit into memory.
        TypeError: the source is neither a path nor a binary file.
        ValueError: sample_rate is not a whole number of Hz from 1000 to 768000.
    """
    with _decoding(source, sample_rate) as (blocks, rate, name, num_samples):
        needed = 4 * COPIES * (num_samples or 0)
        available = available_bytes() if needed > SMALL_BYTES else None
        if available is not None and needed > available:
            message = (
                f"{name}: {format_duration((num_samples or 0) / rate)} at once take {format_bytes(needed)}, and "
                f"{format_bytes(available)} are free. Cut the file, or use encode_long, which reads it in blocks."
            )
            raise AudioError(message, name, "too long")
        waveform = np.concatenate([np.zeros(0, dtype=np.float32), *blocks])
    return torch.from_numpy(waveform), rate


def audio_blocks(source: AudioSource, sample_rate: int | None = SAMPLE_RATE) -> Iterator[Samples]:
    """Yield the samples of `load_audio`, bit for bit, some seconds at a time: float32 vectors of any length.

    Damage that only decoding shows is raised after all samples before it have been yielded.

    Raises:
        AudioError: as `load_audio`.
    """
    with _decoding(source, sample_rate, "") as (blocks, *_):
        yield from blocks


def audio_samples(source: AudioSource, sample_rate: int | None = SAMPLE_RATE) -> int:
    """Return how many samples `load_audio` will return, from the container alone, which does not show all damage.

    Raises:
        AudioError: as `load_audio`, for everything that shows without decoding.
    """
    wanted = None if sample_rate is None else whole_rate(sample_rate)
    with open_sound_file(source) as sound:
        rate = sound.rate if wanted is None else wanted
        known = sound.num_samples(rate)
        return sum(map(len, sound.blocks(rate))) if known is None else known


@contextmanager
def _decoding(
    source: AudioSource, sample_rate: int | None, suffix: str = " Shown once."
) -> Iterator[tuple[Iterator[Samples], int, str, int | None]]:
    """Yield blocks of mono samples, their rate, the file's name, and the number of samples, if the container knows it.

    Changes are warned of when all blocks have been taken. `suffix` ends the line: of many files only the first is
    named, and a file that is read in blocks is the only one.
    """
    wanted = None if sample_rate is None else whole_rate(sample_rate)
    with open_sound_file(source) as sound:
        rate = sound.rate if wanted is None else wanted
        yield sound.blocks(rate), rate, sound.name, sound.num_samples(rate)
        for kind, change in sound.changes.items():
            _warn_once(kind, f"{sound.name}: {change}.{suffix}")


@contextmanager
def collected_changes() -> Iterator[dict[str, str]]:
    """Collect the warnings of changes to the audio by kind, the first of each, instead of showing them.

    `show_changes` shows them, at another time or in another process.
    """
    global _warned, _collected
    before = _warned, _collected
    _warned, _collected = set(), {}
    try:
        yield _collected
    finally:
        _warned, _collected = before


def show_changes(changes: dict[str, str]) -> None:
    """Warn of changes to the audio by kind, unless this process has warned of that kind before."""
    for kind, message in changes.items():
        _warn_once(kind, message)


def _warn_once(kind: str, message: str) -> None:
    if _collected is not None:
        _collected.setdefault(kind, message)
        return
    if kind not in _warned:
        _warned.add(kind)
        warnings.warn(message, AudioWarning, stacklevel=5)  # the caller of load_audio, or of audio_blocks
