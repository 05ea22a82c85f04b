"""Speech or silence from the audio alone: an energy detector, for recordings without alignments.

The steps, in the order of the code: the power above 200 Hz of windows of 32 ms, each 10 ms, in decibels; a noise floor,
the tenth percentile of the 20 s around; the loudness of the speaker, the 95th percentile of the whole recording. Speech
begins where the level exceeds `onset` of the way from floor to loudness and lasts as long as it stays above `offset` of
it (hysteresis); runs shorter than `min_speech_s` are dropped. Each run is then extended by `margin_s` on both sides,
because soft consonants begin and end words, and pauses shorter than `min_silence_s` become speech.

Limits: the detector compares levels only. Music is speech, and so is a loud click, whose 32 ms window is as long as a
short phone; noise that begins suddenly is speech for up to 8 s; a recording without any pause is silence, because its
level never rises above its floor. It needs the whole recording, so it does not stream.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechattn.data.labels.classes import SPEECH
from speechattn.data.labels.segments import SILENCE, Segment

_HOP_S, _WINDOW_S = 0.01, 0.032
_LOWEST_HZ = 200.0  # hum, rumble and breath on the microphone are below, all vowels reach above
_FLOOR, _LOUD = 10, 95  # percentiles
_FLOOR_SPAN_S = 20.0  # of the floor: longer than a sentence, shorter than a change of room
_RANGE_DB = 60.0  # levels further below the loudness are clipped, digital zeros too
_MIN_RISE_DB = 6.0  # above the floor: the level of steady noise varies by a few dB
_CHUNK = 4096  # frames that are transformed at once

Level = NDArray[np.float64]
Runs = list[tuple[int, int]]


def speech_segments(
    waveform: Tensor,
    sample_rate: int,
    *,
    onset: float = 0.45,
    offset: float = 0.25,
    min_speech_s: float = 0.04,
    min_silence_s: float = 0.15,
    margin_s: float = 0.03,
) -> list[Segment]:
    """Return alternating SIL and SPEECH segments of a waveform [N], without gaps from 0 to N / sample_rate seconds.

    The scale of the waveform does not matter. Zeros are silence. For its accuracy against the phone alignments of
    LibriSpeech see recipes/frame_classifier/README.md.

    Raises:
        ValueError: the waveform is not [N] or holds NaN or infinity, or the shares are not 0 < offset <= onset < 1.

    Examples:
        >>> import torch
        >>> burst = torch.cat([torch.zeros(8000), torch.randn(8000), torch.zeros(8000)])
        >>> [segment.label for segment in speech_segments(burst, 16000)]
        ['SIL', 'SPEECH', 'SIL']
    """
    if waveform.ndim != 1:
        raise ValueError(f"waveform must be [N], got {list(waveform.shape)}: give one recording, one channel.")
    if not 0 < offset <= onset < 1:
        raise ValueError(f"shares must be 0 < offset <= onset < 1, got offset {offset} and onset {onset}.")
    if sample_rate < 1 or not all(0 <= s < math.inf for s in (min_speech_s, min_silence_s, margin_s)):
        raise ValueError(
            f"sample_rate must be positive and durations 0 or more seconds, got {sample_rate} Hz, {min_speech_s}, "
            f"{min_silence_s} and {margin_s}."
        )
    samples = waveform.detach().cpu().to(torch.promote_types(waveform.dtype, torch.float32)).numpy()
    if not np.isfinite(samples).all():
        raise ValueError("waveform holds NaN or infinity; load_audio refuses such files.")
    hop = max(1, round(_HOP_S * sample_rate))
    level = _level_db(samples, sample_rate, hop)
    found = _speech_runs(level, onset, offset, _frames(min_speech_s))
    margin = _frames(margin_s)
    wide = ((max(0, start - margin), min(len(level), stop + margin)) for start, stop in found)
    return _segments(_join(wide, _frames(min_silence_s)), hop, len(samples), sample_rate)


def _frames(seconds: float) -> int:
    return round(seconds / _HOP_S)


def _level_db(samples: NDArray[np.float32], sample_rate: int, hop: int) -> Level:
    """Return the level [T] of each hop in dB relative to the loudness, from -60 up; windows are centred on hops."""
    window = max(hop, round(_WINDOW_S * sample_rate))
    before = (window - hop) // 2
    padded = np.pad(samples, (before, window - hop - before))
    peak = float(np.abs(padded).max(initial=0))
    if len(samples) < hop or not peak:
        return np.full(len(samples) // hop, -_RANGE_DB)
    views = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][: len(samples) // hop]
    taper, first = np.hanning(window), int(np.ceil(_LOWEST_HZ * window / sample_rate))
    power = np.empty(len(views))
    for start in range(0, len(views), _CHUNK):
        spectrum = np.fft.rfft(views[start : start + _CHUNK] / peak * taper)[:, first:]
        power[start : start + _CHUNK] = np.square(np.abs(spectrum)).sum(1)
    tiny = np.finfo(np.float64).tiny
    level = 10 * np.log10(np.maximum(power, tiny))
    level = np.maximum(level - np.percentile(level, _LOUD), -_RANGE_DB)
    return np.convolve(np.pad(level, 1, mode="edge"), np.full(3, 1 / 3), mode="valid")


def _speech_runs(level: Level, onset: float, offset: float, min_frames: int) -> Runs:
    """Return runs of frames that stay above the lower threshold and reach the upper one."""
    floor = _tracked_floor(level)
    high = floor + np.maximum(_MIN_RISE_DB, -onset * floor)  # the loudness is 0 dB
    low = floor + np.maximum(_MIN_RISE_DB / 2, -offset * floor)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], level > low, [0]])))
    runs = ((int(a), int(b)) for a, b in edges.reshape(-1, 2))
    return [(a, b) for a, b in runs if b - a >= min_frames and (level[a:b] > high[a:b]).any()]


def _tracked_floor(level: Level) -> Level:
    """Return the tenth percentile [T] of the 20 s around each frame, computed once a second."""
    span, step = _frames(_FLOOR_SPAN_S), _frames(1.0)
    if len(level) <= span:
        return np.full(len(level), np.percentile(level, _FLOOR) if len(level) else 0.0)
    centers = np.arange(0, len(level) + step, step)
    starts = np.clip(centers - span // 2, 0, len(level) - span)
    floors = [np.percentile(level[start : start + span], _FLOOR) for start in starts]
    return np.interp(np.arange(len(level)), centers, floors)


def _join(runs: Iterable[tuple[int, int]], min_pause: int) -> Runs:
    """Return the runs with those joined whose pause is shorter than `min_pause`."""
    joined: Runs = []
    for start, stop in runs:
        if joined and start - joined[-1][1] < min_pause:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined


def _segments(runs: Runs, hop: int, num_samples: int, sample_rate: int) -> list[Segment]:
    """Return runs of frames and the gaps between them as segments; the last one ends with the last sample."""
    last = num_samples // hop
    edges = [0]
    for start, stop in runs:
        edges += [start * hop, num_samples if stop == last else stop * hop]
    edges.append(num_samples)
    times = [edge / sample_rate for edge in edges]
    labels = [(SILENCE, SPEECH[1])[index % 2] for index in range(len(times) - 1)]
    spans = zip(times, times[1:], labels, strict=False)
    return [Segment(start, stop, label) for start, stop, label in spans if start < stop]
