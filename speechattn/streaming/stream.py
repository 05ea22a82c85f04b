"""Audio as it comes, labels as soon as they are certain: the one object that remembers.

Everything below is pure: `SpeechModel.step` takes a state and gives a new one. A `Stream` keeps that state, converts
what a microphone, a socket or a decoder delivers, and says of every label when it was spoken.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor

from speechattn.amplitude import MAX_INTEGER
from speechattn.data.audio.samples import Samples, as_floats, first_fault, whole_rate
from speechattn.data.labels.segments import Segment
from speechattn.dtypes import widened
from speechattn.encoder.encoder import Encoder
from speechattn.errors import UserError
from speechattn.models.heads import CTC
from speechattn.models.speech_model import SpeechModel
from speechattn.receptive_field import lookahead

SECONDS_AT_ONCE = 20
"""A longer push is taken in pieces: a giant one costs time, not memory."""


@dataclass(frozen=True)
class FrameLabels:
    """Labels that have become certain, in order: columns of equal length, one row a frame, or with CTC one a label.

    `labels[i]` holds from `start_s[i]` to `stop_s[i]`, seconds since the first sample, with `probabilities[i]`.
    """

    start_s: tuple[float, ...] = ()
    stop_s: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    probabilities: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, later: FrameLabels) -> FrameLabels:
        """These and then those of a later push."""
        columns = ("start_s", "stop_s", "labels", "probabilities")
        return FrameLabels(*(getattr(self, name) + getattr(later, name) for name in columns))

    @property
    def segments(self) -> list[Segment]:
        """Runs of the same label as segments in seconds. With CTC, whose blanks leave gaps, each label is its own."""
        gaps = accumulate(start > stop for start, stop in zip(self.start_s, (0.0, *self.stop_s), strict=False))
        keys = list(zip(self.labels, gaps, strict=True))
        runs = (list(run) for _, run in groupby(range(len(self)), key=keys.__getitem__))
        return [Segment(self.start_s[run[0]], self.stop_s[run[-1]], self.labels[run[0]]) for run in runs]


class Stream:
    """A model that listens: `push` audio of any length, get the labels that have become certain, `flush` at the end.

    Many streams may share a model, each in a thread of its own. The labels are those of the whole audio at once.

    Args:
        model: in evaluation mode (or it warns), with limited right context; its dtype is computed in.
        nan_policy: "error" refuses a push with samples that are not finite, or beyond 2^31, which is nonsense; "zero"
            hears
            them as 0, and counts them. Beyond 100 are integers that were not scaled: always refused.

    Raises:
        ValueError: the model cannot stream, or nan_policy is neither.

    Example:
        >>> from speechattn import EncoderConfig, ModelConfig
        >>> config = ModelConfig(("SIL", "AA"), EncoderConfig(input_dim=40, d_model=16, num_layers=1), num_mels=40)
        >>> stream = Stream(SpeechModel(config).eval())
        >>> len(stream.push(torch.zeros(16_000))), len(stream.flush()), stream.algorithmic_latency_ms
        (36, 64, 652.5)
    """

    def __init__(self, model: SpeechModel, nan_policy: str = "error") -> None:
        if nan_policy not in ("error", "zero"):
            raise ValueError(f'nan_policy must be "error" or "zero", got {nan_policy!r}.')
        self.model, self.nan_policy = model, nan_policy
        self.num_bad_samples = 0
        """Samples that were NaN, infinite or nonsense, and heard as 0."""
        self._busy = threading.Lock()
        self._forget()
        if isinstance(model.encoder, Encoder):
            model.encoder.warn_in_training("model", stacklevel=2)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle takes: all but the lock.

        Raises:
            TypeError: samples are being resampled, and a resampler has no copy.
        """
        if self._resampler is not None:
            raise TypeError("a stream that resamples cannot be copied: push samples of the model's own rate.")
        return {name: value for name, value in vars(self).items() if name != "_busy"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._busy = threading.Lock()

    def reset(self) -> None:
        """Forget everything: the next push begins another recording."""
        with self._mine():
            self._forget()

    def _forget(self) -> None:
        self._state = self.model.initial_state()
        self._rate: int | None = None
        self._resampler: Any = None
        self._torn = False  # the resampler, which cannot go back, has taken samples that nothing behind it has heard
        self._num_samples, self._num_labels, self._last_class, self._ended = 0, 0, 0, False
        self.num_bad_samples = 0

    def push(self, samples: Tensor | Samples, sample_rate: int | None = None) -> FrameLabels:
        """The labels that the next samples make certain.

        `samples` [n] are floats in [-1, 1] or 16-bit integers, n >= 0, a tensor or an array. `sample_rate` in Hz is the
        model's unless given; another one must be given, the same, with every push.

        Raises:
            TypeError, ValueError: samples are no such vector, the rate has changed, or the stream was flushed.
            UserError: a sample is not finite, and nan_policy is "error", or beyond 100. Whatever is raised, the stream
                is as
                before the push.
            RuntimeError: another thread is inside a push of this stream.
        """
        return self._alone(lambda: self._push(samples, sample_rate))

    def flush(self) -> FrameLabels:
        """The labels still owed, for no more audio will come; a part of a frame has none."""
        return self._alone(self._flush)

    @property
    def state_bytes(self) -> int:
        """Memory that the stream keeps, in bytes; a resampler's own, some kilobytes, is not counted."""
        return self._state.num_bytes

    @property
    def algorithmic_latency_ms(self) -> float:
        """The most by which a label comes after what it labels: from the middle of its frame until it is certain.

        That is half a window, and the hops that everything behind it waits for. A resampler waits some more: 40 ms at
        44.1 kHz, 116 ms at 8 kHz. NaN where the encoder is a module of your own, whose look-ahead is not known.
        """
        if not self.model.is_described:
            return math.nan
        waited = lookahead(self.model.config.contexts)
        assert waited is not None
        return self.model.config.framing.latency_ms(waited)

    @property
    def seconds(self) -> float:
        """Audio heard so far, at the model's rate."""
        return self._state.frontend.num_samples / self.model.config.framing.sample_rate

    @contextmanager
    def _mine(self) -> Iterator[None]:
        """For one thread at a time. What fails inside has not been: all that is remembered is as it was."""
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("this stream is busy in another thread: give each thread a stream of its own.")
        before = dict(vars(self))  # these values are replaced, never changed; save the resampler
        try:
            yield
        except BaseException:
            vars(self).update(before, _torn=self._torn and before["_resampler"] is not None)
            raise
        finally:
            self._busy.release()

    def _alone(self, work: Callable[[], FrameLabels]) -> FrameLabels:
        with self._mine():
            if self._ended:
                raise ValueError("this stream was flushed: call reset() before the next recording.")
            with torch.inference_mode():  # faster than no_grad for short pushes, and the state never leaves
                labels = work()
            self._torn = False
            return labels

    def _push(self, samples: Tensor | Samples, sample_rate: int | None) -> FrameLabels:
        waveform = as_floats(samples, self._dtype)
        own = self.model.config.framing.sample_rate
        rate = own if sample_rate in (None, own) else whole_rate(sample_rate)
        if self._torn:
            raise ValueError("an earlier push failed behind the resampler: flush() what is owed, then reset().")
        if self._rate is not None and rate != self._rate:
            raise ValueError(f"the stream began with {self._rate} Hz, got {rate} Hz: flush() and reset() it first.")
        bad = ~(np.abs(waveform) <= MAX_INTEGER)  # NaN is not <= either
        if self.nan_policy == "zero":
            waveform[bad] = 0  # a copy
        if fault := first_fault(waveform):
            at = self._num_samples + fault[0]
            instead = 'Leave the push out, or use Stream(model, nan_policy="zero") to hear such samples as silence.'
            raise UserError(
                f"sample {at} of the stream ({at / rate:.3f} s) {fault[1]}. {instead if bad[fault[0]] else ''}".rstrip()
            )
        if self._resampler is None and rate != own:
            self._resampler = soxr.ResampleStream(rate, own, 1, str(waveform.dtype))
        self._rate = rate
        self._num_samples += len(waveform)
        self.num_bad_samples += int(bad.sum())
        return self._heard(waveform if self._resampler is None else self._resampled(waveform))

    def _flush(self) -> FrameLabels:
        rest = FrameLabels()
        if self._resampler is not None and not self._torn:
            rest = self._heard(self._resampled(np.zeros(0, self._dtype), last=True))
        rest += self._labels(self.model.flush(self._state)[0])
        self._ended = True
        return rest

    def _resampled(self, waveform: Samples, last: bool = False) -> Samples:
        """What the next samples [n] become at the model's rate."""
        self._torn = True
        resampled: Samples = self._resampler.resample_chunk(waveform, last=last)
        return resampled

    def _heard(self, waveform: Samples) -> FrameLabels:
        """The labels behind the next samples at the model's rate."""
        labels, size = FrameLabels(), SECONDS_AT_ONCE * self.model.config.framing.sample_rate
        device = self._state.frontend.samples.device
        for begin in range(0, len(waveform), size):
            piece = torch.from_numpy(np.ascontiguousarray(waveform[begin : begin + size]))
            logits, self._state = self.model.step(piece[None].to(device), self._state)
            labels += self._labels(logits[0])
        return labels

    def _labels(self, logits: Tensor) -> FrameLabels:
        """What the next frames' logits [m, C] say."""
        probabilities, classes = logits.softmax(-1, dtype=widened(logits.dtype)).max(-1)
        first, names = self._num_labels, self.model.config.classes
        self._num_labels += len(classes)
        rows = []
        for i, (c, p) in enumerate(zip(classes.tolist(), probabilities.tolist(), strict=True), first):
            if not isinstance(self.model.head, CTC) or c not in (0, self._last_class):
                rows.append((self._edge_s(i), self._edge_s(i + 1), names[c], p))
            self._last_class = c
        return FrameLabels(*zip(*rows, strict=True)) if rows else FrameLabels()

    def _edge_s(self, i: int) -> float:
        """Return where label i begins, in seconds."""
        framing = self.model.config.framing
        return framing.edge_sample(i * self.model.config.encoder.stack) / framing.sample_rate

    @property
    def _dtype(self) -> Any:
        return np.float64 if self._state.frontend.samples.dtype == torch.float64 else np.float32
