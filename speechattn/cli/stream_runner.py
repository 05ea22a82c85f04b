"""What `speechattn stream` does: a sound file or raw PCM into a `Stream`, its labels out as they become certain.

A segment is printed as soon as it is known to have ended. Whatever ends the sound, the end of the file, a closed pipe,
damage further in or Ctrl-C, the labels still owed are printed first. Not here: recognition, which is `Stream`.
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

from speechattn.data.audio.files import AudioWarning, audio_blocks
from speechattn.data.audio.samples import MAX_RATE, MIN_RATE, Samples, cut
from speechattn.errors import UserError
from speechattn.models.heads import CTC
from speechattn.models.pretrained import load_pretrained
from speechattn.models.speech_model import load
from speechattn.streaming.segmenter import Heard, Segments
from speechattn.streaming.stream import FrameLabels, Stream
from speechattn.system.atomic_files import write_bytes
from speechattn.system.stop_signal import StopSignal

POLL_S = 0.1
"""How long a signal may wait while nothing comes."""
MAX_BYTES = 2**20
"""What a pipe can hold: all of it has come before the signal."""
CONTAINERS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd", b"NIST", b"fLaC", b"OggS", b"ID3")
PERCENTILES = (50, 90, 99, 100)


class Arrivals:
    """When each label appeared, and how long the model took: what the report and the picture are made of."""

    def __init__(self) -> None:
        self.start_s, self.stop_s, self.appeared_s = array("d"), array("d"), array("d")
        self.labels: list[str] = []
        self.busy_s = 0.0

    def add(self, labels: FrameLabels, now_s: float) -> None:
        """These labels appeared at `now_s`, on the clock of the sound."""
        self.start_s.extend(labels.start_s)
        self.stop_s.extend(labels.stop_s)
        self.appeared_s.extend([now_s] * len(labels))
        self.labels.extend(labels.labels)

    @property
    def latency_ms(self) -> Samples:
        """Of each label, from the middle of its frame until it appeared."""
        start, stop, appeared = (np.array(column) for column in (self.start_s, self.stop_s, self.appeared_s))
        return np.asarray(1000 * (appeared - (start + stop) / 2))

    def report(self, seconds: float, promised_ms: float, push_ms: int) -> str:
        """Percentiles of the latency and the real-time factor, in two lines."""
        factor = self.busy_s / max(seconds, 1e-9)
        speed = f"real-time factor {factor:.4f}: {1 / max(factor, 1e-9):.0f} times as fast as speech"
        if not self.labels:
            return f"no label appeared\n{speed}"
        values = np.percentile(self.latency_ms, PERCENTILES)
        said = ", ".join(f"{share} % {value:.0f} ms" for share, value in zip(PERCENTILES, values, strict=True))
        waits = f"the model waits {promised_ms:.0f} ms, a push up to {push_ms} ms"
        return f"latency of {len(self.labels)} labels: {said} ({waits})\n{speed}"


def listen(
    source: str,
    model: str | Path | None = None,
    *,
    rate: int | None = None,
    push_ms: int = 100,
    realtime: bool = False,
    as_json: bool = False,
    picture: str | Path | None = None,
) -> int:
    """Print the segments of `source`, a sound file or "-"; returns the exit status, 130 or 143 after a signal.

    "-" is raw 16-bit mono PCM on stdin, little-endian, at `rate` Hz, None is the model's. `model` is the folder of a
    saved one, None the one that is shipped. `realtime` plays the file at its own pace and prints latency and real-time
    factor to stderr; without it the picture shows when labels would have appeared.

    Raises:
        UserError: the sound or the model cannot be used; labels of sound before a damage have been printed.
        BrokenPipeError: nobody reads on.
    """
    if rate is not None and not MIN_RATE <= rate <= MAX_RATE:
        raise UserError(f"--rate must be {MIN_RATE} to {MAX_RATE} Hz, got {rate}.")
    torch.set_num_threads(1)  # the products of a push are small: more threads would only wait for each other
    stream = _stream(model)
    if rate is None or source != "-":
        rate = stream.model.config.framing.sample_rate  # a file is resampled while it is read
    size = max(1, rate * push_ms // 1000)
    trouble: list[Exception] = []
    with StopSignal() as stop:
        if source == "-" and sys.stderr.isatty():
            print("listening; Ctrl-C ends it", file=sys.stderr)
        listener = _Listener(stream, rate, as_json, realtime, keeping=realtime or picture is not None)
        pushes = cut(_until_trouble(_from_stdin(stop) if source == "-" else audio_blocks(source, rate), trouble), size)
        try:
            for push in pushes if source == "-" else _paced(pushes, rate, stop, realtime):
                listener.push(push)
            listener.finish()
        except BrokenPipeError as error:  # nobody reads on; the picture may still be wanted
            trouble.append(error)
    if picture is not None and (listener.heard_s or not trouble):
        _draw(listener, Path(picture), "stdin" if source == "-" else Path(source).name)
    if realtime and listener.heard_s:
        print(listener.arrivals.report(listener.heard_s, stream.algorithmic_latency_ms, push_ms), file=sys.stderr)
    if trouble:
        raise trouble[0]
    if stop.received is not None:
        return 128 + stop.received
    if source == "-" and not listener.heard_s:
        raise UserError("stdin was closed before a sample came: does the command before the pipe work?")
    if not listener.num_labels:
        print(f"speechattn: {listener.silence}", file=sys.stderr)
    return 0


class _Listener:
    """One stream, and what is done with its labels."""

    def __init__(self, stream: Stream, rate: int, as_json: bool, realtime: bool, keeping: bool) -> None:
        self.stream, self._rate, self._as_json, self._realtime, self._keeping = stream, rate, as_json, realtime, keeping
        self.arrivals = Arrivals()
        self.heard_s, self.num_labels = 0.0, 0
        self._segments = Segments(whole=isinstance(stream.model.head, CTC))
        self._num_samples = 0
        self._began = time.perf_counter()

    def push(self, samples: Samples) -> None:
        """Hear some more, and print what has ended."""
        self._num_samples += len(samples)
        self.heard_s = self._num_samples / self._rate
        self._take(functools.partial(self.stream.push, samples, self._rate))

    @property
    def silence(self) -> str:
        """What to say to one who wonders why nothing was printed; of CTC nothing more is certain."""
        least = "" if isinstance(self.stream.model.head, CTC) else ", less than a frame"
        return f"no label: {self._num_samples} samples came ({1000 * self.heard_s:.1f} ms){least}."

    def finish(self) -> None:
        """Print what is owed."""
        self._take(self.stream.flush)
        self._print(self._segments.end())

    def _take(self, work: Callable[[], FrameLabels]) -> None:
        began = time.perf_counter()
        labels = work()
        now = time.perf_counter()
        self.arrivals.busy_s += now - began
        self.num_labels += len(labels)
        if self._keeping:
            self.arrivals.add(labels, now - self._began if self._realtime else self.heard_s + now - began)
        self._print(self._segments.add(labels))

    def _print(self, segments: Iterator[Heard]) -> None:
        for segment in segments:
            print(segment.line(self._as_json), flush=True)


def _stream(directory: str | Path | None) -> Stream:
    """A stream of the model, which has computed once: the first call of everything is slow."""
    model = load_pretrained("small-en-phones") if directory is None else load(directory)
    try:
        stream = Stream(model)
    except ValueError as error:
        raise UserError(f"the model in {directory} cannot stream: {error}") from error
    stream.push(np.zeros(model.config.framing.sample_rate, np.float32))
    stream.flush()
    stream.reset()
    return stream


def _until_trouble(blocks: Iterator[Samples], trouble: list[Exception]) -> Iterator[Samples]:
    """The blocks before what is wrong with a sound: they are recognised first, and the error is told after that."""
    try:
        yield from blocks
    except UserError as error:
        trouble.append(error)


def _paced(pushes: Iterator[Samples], rate: int, stop: StopSignal, realtime: bool) -> Iterator[Samples]:
    """Pushes until a signal comes; in real time each when its last sample would have been spoken."""
    began, heard = time.perf_counter(), 0
    for push in pushes:
        heard += len(push)
        while realtime and stop.received is None and (wait := began + heard / rate - time.perf_counter()) > 0:
            time.sleep(min(wait, POLL_S))
        if stop.received is not None:
            return
        yield push


def _from_stdin(stop: StopSignal) -> Iterator[Samples]:
    """What comes, as 16-bit integers, until stdin is closed or a signal comes; what has come by then is still given."""
    if sys.stdin is None or os.isatty(sys.stdin.fileno()):
        raise UserError("stdin is no pipe: arecord -f S16_LE -r 16000 | speechattn stream - , for example.")
    rest, first = b"", True
    while True:
        stopping = stop.received is not None
        if select.select([sys.stdin.fileno()], [], [], 0 if stopping else POLL_S)[0]:
            data = os.read(sys.stdin.fileno(), MAX_BYTES if stopping else 2**16)
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
        warnings.warn(
            "stdin was closed in the middle of a sample: the half of it is left out.", AudioWarning, stacklevel=2
        )


def _draw(listener: _Listener, path: Path, title: str) -> None:
    from speechattn.plots.stream_latency import arrivals  # matplotlib takes a second, and only a picture needs it
    from speechattn.plots.style import DPI

    found = listener.arrivals
    figure = arrivals(
        found.start_s,
        found.stop_s,
        found.labels,
        found.appeared_s,
        listener.stream.algorithmic_latency_ms,
        f"{title}: when labels appeared",
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    write_bytes(path, buffer.getvalue())
