"""Run a sound file or raw PCM through a `Stream`, and print its labels as they become certain.

A segment is printed as soon as it is known to have ended. When the sound ends (end of file, closed pipe, damaged file
or Ctrl-C), all pending labels are printed first. Not here: recognition, which is `Stream`.
"""

from __future__ import annotations

import functools
import io
import os
import select
import sys
import time
import warnings
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from speechattn.cli.smoothing_options import SmoothingMs
from speechattn.cli.spoken import find_spoken
from speechattn.data.audio.errors import AudioWarning
from speechattn.data.audio.files import audio_blocks
from speechattn.data.audio.samples import MAX_RATE, MIN_RATE, Samples, cut
from speechattn.errors import UserError
from speechattn.models.heads import CTC
from speechattn.models.pretrained import load_pretrained
from speechattn.models.speech_model import load
from speechattn.streaming.labels import FrameLabels
from speechattn.streaming.segmenter import LabelledSegment, Segments
from speechattn.streaming.stream import Stream
from speechattn.system.atomic_files import write_bytes
from speechattn.system.stop_signal import StopSignal

POLL_S = 0.1
"""Seconds after which a signal is noticed while no samples come."""
MAX_PIPE_BYTES = 2**20
"""What a pipe can hold: after a signal, that much is still read."""
CONTAINERS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"NIST", b"fLaC", b"OggS", b"ID3")
PERCENTILES = (50, 90, 99, 100)


class LatencyRecord:
    """Times at which labels appeared, and the computing time, for the latency report and its plot."""

    def __init__(self) -> None:
        self.start_s, self.stop_s, self.appeared_s = array("d"), array("d"), array("d")
        self.labels: list[str] = []
        self.busy_s = 0.0

    def add(self, labels: FrameLabels, now_s: float) -> None:
        """Record that these labels appeared at `now_s`, on the clock of the sound."""
        self.start_s.extend(labels.start_s)
        self.stop_s.extend(labels.stop_s)
        self.appeared_s.extend([now_s] * len(labels))
        self.labels.extend(labels.labels)

    @property
    def latency_ms(self) -> Samples:
        """Latency of each label, from the middle of its frame until it appeared."""
        start, stop, appeared = (np.array(column) for column in (self.start_s, self.stop_s, self.appeared_s))
        return np.asarray(1000 * (appeared - (start + stop) / 2))

    def report(self, seconds: float, algorithmic_ms: float, push_ms: int, lag_ms: float = 0.0) -> str:
        """Return percentiles of the latency and the real-time factor, in two lines.

        `lag_ms` is the part of `algorithmic_ms` that smoothing takes.
        """
        factor = self.busy_s / max(seconds, 1e-9)
        speed = f"real-time factor {factor:.4f}: {1 / max(factor, 1e-9):.0f} times as fast as speech"
        if not self.labels:
            return f"no label appeared\n{speed}"
        values = np.percentile(self.latency_ms, PERCENTILES)
        percentiles = ", ".join(f"{share} % {value:.0f} ms" for share, value in zip(PERCENTILES, values, strict=True))
        lag = f"smoothing {lag_ms:.0f} ms, " if lag_ms else ""
        waits = f"the model waits {algorithmic_ms - lag_ms:.0f} ms, {lag}a push up to {push_ms} ms"
        return f"latency of {len(self.labels)} labels: {percentiles} ({waits})\n{speed}"


def run_stream(
    source: str,
    model: str | Path | None = None,
    *,
    rate: int | None = None,
    push_ms: int = 100,
    realtime: bool = False,
    as_json: bool = False,
    plot: str | Path | None = None,
    smoothing: SmoothingMs | None = None,
) -> int:
    """Print the segments of `source`, a sound file or "-"; return the exit status, 130 or 143 after a signal.

    Args:
        source: path of a sound file; "-" is raw 16-bit mono PCM on stdin, little-endian.
        model: folder of a saved model; None is the shipped one.
        rate: samples per second on stdin; None is the model's.
        push_ms: sound per push, in milliseconds.
        realtime: push the file at the pace of speech, and print latency and real-time factor to stderr.
        as_json: print one JSON object per segment.
        plot: file for the figure of latencies; without `realtime` it shows when labels would have appeared.
        smoothing: smooths the labels, which appear later by its lag; None does not.

    Raises:
        UserError: the sound or the model cannot be used; labels of the sound before a damage have been printed.
        BrokenPipeError: the reader of stdout has closed it.
    """
    if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
        raise UserError(f"--rate must be {MIN_RATE} to {MAX_RATE} Hz, got {rate}.")
    torch.set_num_threads(1)  # the matrix products of a push are too small to share between threads
    stream = _stream(model, smoothing)
    if rate is None or source != "-":
        rate = stream.model.config.framing.sample_rate  # a file is resampled while it is read
    size = max(1, rate * push_ms // 1000)
    errors: list[Exception] = []
    with StopSignal() as stop:
        if source == "-" and sys.stderr.isatty():
            print("listening; Ctrl-C ends it", file=sys.stderr)
        session = _Session(stream, rate, as_json, realtime, recording=realtime or plot is not None)
        blocks = _from_stdin(stop) if source == "-" else audio_blocks(source, rate)
        pushes = cut(_until_error(blocks, errors), size)
        try:
            for push in pushes if source == "-" else _paced(pushes, rate, stop, realtime):
                session.push(push)
            session.finish()
        except BrokenPipeError as error:  # the plot is still written
            errors.append(error)
    if plot is not None and (session.received_s or not errors):
        title = "stdin" if source == "-" else find_spoken(Path(source)).title() or Path(source).name
        _plot(session, Path(plot), title)
    if realtime and session.received_s:
        lag_ms = (stream.smoothing.lag_frames or 0) * stream.model.config.framing.hop_ms if stream.smoothing else 0.0
        latency_ms = stream.algorithmic_latency_ms
        print(session.record.report(session.received_s, latency_ms, push_ms, lag_ms), file=sys.stderr)
    if errors:
        raise errors[0]
    if stop.received is not None:
        return 128 + stop.received
    if source == "-" and not session.received_s:
        raise UserError("stdin was closed before a sample came: does the command before the pipe work?")
    if not session.num_labels:
        print(f"speechattn: {session.no_label_message}", file=sys.stderr)
    return 0


class _Session:
    """A stream whose segments are printed and whose latencies are recorded, if `recording`."""

    def __init__(self, stream: Stream, rate: int, as_json: bool, realtime: bool, recording: bool) -> None:
        self.stream, self._rate, self._as_json = stream, rate, as_json
        self._realtime, self._recording = realtime, recording
        self.record = LatencyRecord()
        self.received_s, self.num_labels = 0.0, 0
        self._segments = Segments(whole=isinstance(stream.model.head, CTC))
        self._num_samples = 0
        self._began = time.perf_counter()

    def push(self, samples: Samples) -> None:
        """Push samples, and print the segments that have ended."""
        self._num_samples += len(samples)
        self.received_s = self._num_samples / self._rate
        self._take(functools.partial(self.stream.push, samples, self._rate))

    @property
    def no_label_message(self) -> str:
        """Message for output without a label; with CTC that does not mean less than a frame."""
        less = "" if isinstance(self.stream.model.head, CTC) else ", less than a frame"
        return f"no label: {self._num_samples} samples came ({1000 * self.received_s:.1f} ms){less}."

    def finish(self) -> None:
        """Print the pending segments."""
        self._take(self.stream.flush)
        self._print(self._segments.end())

    def _take(self, work: Callable[[], FrameLabels]) -> None:
        began = time.perf_counter()
        labels = work()
        now = time.perf_counter()
        self.record.busy_s += now - began
        self.num_labels += len(labels)
        if self._recording:
            self.record.add(labels, now - self._began if self._realtime else self.received_s + now - began)
        self._print(self._segments.add(labels))

    def _print(self, segments: list[LabelledSegment]) -> None:
        for segment in segments:
            print(segment.line(self._as_json), flush=True)


def _stream(directory: str | Path | None, smoothing: SmoothingMs | None) -> Stream:
    """Return a stream of the model, warmed up: the first call of everything is slow."""
    model = load_pretrained("small-en-phones") if directory is None else load(directory)
    if smoothing is not None and isinstance(model.head, CTC):
        raise UserError(f"--smooth is for one label a frame; the model in {directory} has a CTC head: leave it out.")
    try:
        stream = Stream(model, smoothing=None if smoothing is None else smoothing.frames(model.config.framing))
    except ValueError as error:
        raise UserError(f"the model in {directory} cannot stream: {error}") from error
    stream.push(np.zeros(model.config.framing.sample_rate, np.float32))
    stream.flush()
    stream.reset()
    return stream


def _until_error(blocks: Iterator[Samples], errors: list[Exception]) -> Iterator[Samples]:
    """Yield the blocks before a damage of a sound; put the error into `errors`, to raise it after their labels."""
    try:
        yield from blocks
    except UserError as error:
        errors.append(error)


def _paced(pushes: Iterator[Samples], rate: int, stop: StopSignal, realtime: bool) -> Iterator[Samples]:
    """Yield pushes until a signal comes; with `realtime` each when its last sample would have been spoken."""
    began, received = time.perf_counter(), 0
    for push in pushes:
        received += len(push)
        while realtime and stop.received is None and (wait := began + received / rate - time.perf_counter()) > 0:
            time.sleep(min(wait, POLL_S))
        if stop.received is not None:
            return
        yield push


def _from_stdin(stop: StopSignal) -> Iterator[Samples]:
    """Yield 16-bit samples until stdin is closed or a signal comes; samples that came before it are still yielded."""
    if sys.stdin is None or os.isatty(sys.stdin.fileno()):
        raise UserError("stdin is not a pipe: arecord -f S16_LE -r 16000 | speechattn stream - , for example.")
    rest, first = b"", True
    while True:
        stopping = stop.received is not None
        if select.select([sys.stdin.fileno()], [], [], 0 if stopping else POLL_S)[0]:
            data = os.read(sys.stdin.fileno(), MAX_PIPE_BYTES if stopping else 2**16)
            if first and data.startswith(CONTAINERS):
                raise UserError("stdin holds a sound file, not raw samples: give the path of the file in place of -.")
            first = False
            if not data:
                break
            data = rest + data
            whole = len(data) // 2 * 2
            rest = data[whole:]
            yield np.frombuffer(data[:whole], "<i2").astype(np.int16)
        if stopping:
            return
    if rest:
        warnings.warn("stdin was closed in the middle of a sample, which is left out.", AudioWarning, stacklevel=2)


def _plot(session: _Session, path: Path, title: str) -> None:
    from speechattn.plots.stream_latency import arrivals  # matplotlib takes a second to import
    from speechattn.plots.style import DPI

    found = session.record
    figure = arrivals(
        found.start_s,
        found.stop_s,
        found.labels,
        found.appeared_s,
        session.stream.algorithmic_latency_ms,
        f"{title}: when labels appeared",
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    write_bytes(path, buffer.getvalue())
