"""Stream: audio in pieces of any length, labels as soon as they are final.

`SpeechModel.step` is pure: it takes a state and returns a new one. A `Stream` keeps that state, converts the samples of
a microphone, a socket or a decoder, checks them, and adds times to the labels.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr
import torch
from torch import Tensor

from speechattn.amplitude import MAX_INTEGER
from speechattn.data.audio.samples import Samples, as_floats, first_fault, whole_rate
from speechattn.decoding.best_paths import ViterbiState
from speechattn.decoding.smoothing import Smoothing
from speechattn.decoding.viterbi import ViterbiStream
from speechattn.dtypes import widened
from speechattn.encoder.encoder import Encoder
from speechattn.errors import UserError
from speechattn.models.heads import CTC
from speechattn.models.speech_model import ModelState, SpeechModel
from speechattn.receptive_field import lookahead
from speechattn.stream_state import num_bytes
from speechattn.streaming.labels import FrameLabels
from speechattn.streaming.rows import label_rows
from speechattn.system.renamed_arguments import renamed

SECONDS_AT_ONCE = 20
"""Longer pushes are computed in pieces, which bounds memory."""
NAN_POLICIES = ("error", "zero")


@dataclass(frozen=True)
class _Progress:
    """All that a stream remembers; a push replaces it when it has succeeded."""

    state: ModelState
    rate: int | None = None
    """Sample rate of the pushes, in Hz; None before the first."""
    resampler: Any = None
    is_torn: bool = False
    """True if the resampler, which cannot go back, has consumed samples of a push that failed."""
    num_samples: int = 0
    num_bad_samples: int = 0
    num_labels: int = 0
    last_class: int = 0
    paths: ViterbiState | None = None
    """The state of the smoothing."""
    pending: Tensor | None = None
    """Log probabilities [h, C] of the frames that wait for the smoothing."""
    ended: bool = False


@renamed(nan="nan_policy")
class Stream:
    """A stream of audio through a model: `push` samples, get the labels that are final, `flush` at the end.

    Many streams may share a model, each in its own thread. The labels are those of the whole audio at once.

    Args:
        model: in evaluation mode (or it warns), with limited right context; its dtype is computed in.
        nan_policy: "error" refuses a push with samples that are not finite or beyond 2^31; "zero" replaces them by 0
            and counts them. Samples beyond 100 are integers that were not scaled, and are always refused.
        smoothing: replaces the most probable class of each frame by the best sequence so far; None does not. Its
            `lag_frames` are frames of the encoder, and part of the latency.

    Raises:
        ValueError: the model cannot stream, nan_policy is neither, or smoothing is given and the head is CTC.

    Examples:
        >>> from speechattn import EncoderConfig, ModelConfig
        >>> encoder = EncoderConfig(input_dim=40, d_model=16, num_layers=1)
        >>> stream = Stream(SpeechModel(ModelConfig(("SIL", "AA"), encoder, num_mels=40)).eval())
        >>> len(stream.push(torch.zeros(16_000))), len(stream.flush()), stream.algorithmic_latency_ms
        (36, 64, 652.5)
    """

    def __init__(self, model: SpeechModel, nan_policy: str = "error", smoothing: Smoothing | None = None) -> None:
        if nan_policy not in NAN_POLICIES:
            raise ValueError(f'nan_policy must be "error" or "zero", got {nan_policy!r}.')
        if smoothing is not None and isinstance(model.head, CTC):
            raise ValueError("smoothing is for one label a frame, and this model has a CTC head: leave it out.")
        self.model, self.nan_policy, self.smoothing = model, nan_policy, smoothing
        self._paths = None if smoothing is None else ViterbiStream(len(model.config.classes), smoothing)
        self._busy = threading.Lock()
        self._progress = self._beginning()
        if isinstance(model.encoder, Encoder):
            model.encoder.warn_in_training("model", stacklevel=3)

    if not TYPE_CHECKING:  # a type checker would take every name

        def __getattr__(self, name: str) -> Any:
            if name == "latency_ms":
                raise AttributeError("Stream has no attribute 'latency_ms': use algorithmic_latency_ms.")
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes that a copy or a pickle takes: all but the lock.

        Raises:
            TypeError: samples are being resampled, and a resampler has no copy.
        """
        if self._progress.resampler is not None:
            raise TypeError("a stream that resamples cannot be copied: push samples of the model's own rate.")
        return {name: value for name, value in vars(self).items() if name != "_busy"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._busy = threading.Lock()

    def reset(self) -> None:
        """Begin another recording with the next push."""
        with self._exclusive():
            self._progress = self._beginning()

    def push(self, samples: Tensor | Samples, sample_rate: int | None = None) -> FrameLabels:
        """Return the labels that are final after the next samples.

        `samples` [n] are floats in [-1, 1] or 16-bit integers, n >= 0, a tensor or an array. `sample_rate` in Hz is the
        model's by default; another one must be given, the same, with every push.

        Raises:
            TypeError, ValueError: samples are no such vector, the rate has changed, or the stream was flushed.
            UserError: a sample is not finite, and nan_policy is "error", or beyond 100. After any error the stream is
                as before the push.
            RuntimeError: another thread is inside a push of this stream.
        """
        return self._run(lambda: self._push(samples, sample_rate))

    def flush(self) -> FrameLabels:
        """Return the pending labels at the end of the audio; an incomplete frame has none."""
        return self._run(self._flush)

    @property
    def num_bad_samples(self) -> int:
        """Samples since the start that were NaN, infinite or beyond 2^31, and replaced by 0."""
        return self._progress.num_bad_samples

    @property
    def state_bytes(self) -> int:
        """Memory that the stream keeps, in bytes, without a resampler's own kilobytes."""
        return self._progress.state.num_bytes + num_bytes((self._progress.paths, self._progress.pending))

    @property
    def algorithmic_latency_ms(self) -> float:
        """The longest delay of a label, from the centre of its frame until it is final, in ms.

        It is half a window plus the look-ahead of all layers plus the lag of the smoothing. A resampler adds 40 ms at
        44.1 kHz, 116 ms at 8 kHz. It is NaN if the encoder is a module of your own, whose look-ahead is not known, and
        infinite with ``Smoothing(lag_frames=None)``.
        """
        lag = 0 if self.smoothing is None else self.smoothing.lag_frames
        if lag is None:
            return math.inf
        if not self.model.is_described:
            return math.nan
        waited = lookahead(self.model.config.contexts)
        assert waited is not None
        return self.model.config.framing.latency_ms(waited + lag)

    @property
    def seconds(self) -> float:
        """Audio since the start, at the model's rate, in seconds."""
        return self._progress.state.frontend.num_samples / self.model.config.framing.sample_rate

    def _beginning(self) -> _Progress:
        """Return the progress before the first sample."""
        paths = None if self._paths is None else self._paths.initial_state()
        return _Progress(self.model.initial_state(), paths=paths)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Lock the stream; if the body raises, restore its progress."""
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("this stream is busy in another thread: give each thread a stream of its own.")
        before = self._progress
        try:
            yield
        except BaseException:
            self._progress = replace(before, is_torn=self._progress.is_torn and before.resampler is not None)
            raise
        finally:
            self._busy.release()

    def _run(self, work: Callable[[], FrameLabels]) -> FrameLabels:
        with self._exclusive():
            if self._progress.ended:
                raise ValueError("this stream was flushed: call reset() before the next recording.")
            with torch.inference_mode():  # faster than no_grad for short pushes, and the state never leaves
                labels = work()
            self._progress = replace(self._progress, is_torn=False)
            return labels

    def _push(self, samples: Tensor | Samples, sample_rate: int | None) -> FrameLabels:
        waveform = as_floats(samples, self._dtype)
        before, own = self._progress, self.model.config.framing.sample_rate
        rate = own if sample_rate in (None, own) else whole_rate(sample_rate)
        if before.is_torn:
            raise ValueError("an earlier push failed after resampling: flush() the pending labels, then reset().")
        if before.rate is not None and rate != before.rate:
            raise ValueError(f"the stream began with {before.rate} Hz, got {rate} Hz: flush() and reset() it first.")
        bad = ~(np.abs(waveform) <= MAX_INTEGER)  # NaN is not <= either
        if self.nan_policy == "zero":
            waveform[bad] = 0  # a copy
        if fault := first_fault(waveform):
            at = before.num_samples + fault[0]
            instead = 'Leave the push out, or use Stream(model, nan_policy="zero") to replace such samples by silence.'
            raise UserError(
                f"sample {at} of the stream ({at / rate:.3f} s) {fault[1]}. {instead if bad[fault[0]] else ''}".rstrip()
            )
        resampler = before.resampler
        if resampler is None and rate != own:
            resampler = soxr.ResampleStream(rate, own, 1, str(waveform.dtype))
        self._progress = replace(
            before,
            rate=rate,
            resampler=resampler,
            num_samples=before.num_samples + len(waveform),
            num_bad_samples=before.num_bad_samples + int(bad.sum()),
        )
        return self._step(waveform if resampler is None else self._resample(waveform))

    def _flush(self) -> FrameLabels:
        rest = FrameLabels()
        if self._progress.resampler is not None and not self._progress.is_torn:
            rest = self._step(self._resample(np.zeros(0, self._dtype), last=True))
        rest += self._label(self.model.flush(self._progress.state)[0])
        if self._paths is not None and self._progress.paths is not None and self._progress.pending is not None:
            rest += self._rows(self._paths.flush(self._progress.paths), self._progress.pending)
        self._progress = replace(self._progress, ended=True)
        return rest

    def _resample(self, waveform: Samples, last: bool = False) -> Samples:
        """Return the next samples [n] at the model's rate."""
        self._progress = replace(self._progress, is_torn=True)
        resampled: Samples = self._progress.resampler.resample_chunk(waveform, last=last)
        return resampled

    def _step(self, waveform: Samples) -> FrameLabels:
        """Return the labels that are final after the next samples at the model's rate."""
        labels, size = FrameLabels(), SECONDS_AT_ONCE * self.model.config.framing.sample_rate
        device = self._progress.state.frontend.samples.device
        for begin in range(0, len(waveform), size):
            piece = torch.from_numpy(np.ascontiguousarray(waveform[begin : begin + size]))
            logits, state = self.model.step(piece[None].to(device), self._progress.state)
            self._progress = replace(self._progress, state=state)
            labels += self._label(logits[0])
        return labels

    def _label(self, logits: Tensor) -> FrameLabels:
        """Return the labels that are final after the next frames' logits [m, C]."""
        log_probs = logits.log_softmax(-1, dtype=widened(logits.dtype))
        if self._paths is None or self._progress.paths is None:
            return self._rows(log_probs.argmax(-1), log_probs)
        classes, paths = self._paths.step(log_probs, self._progress.paths)
        if self._progress.pending is not None:
            log_probs = torch.cat((self._progress.pending, log_probs))
        self._progress = replace(self._progress, paths=paths, pending=log_probs[len(classes) :].clone())
        return self._rows(classes, log_probs)

    def _rows(self, classes: Tensor, log_probs: Tensor) -> FrameLabels:
        """Return the labels of the next frames, of the given classes [m]; log_probs [m or more, C] begin with them."""
        first, last = self._progress.num_labels, self._progress.last_class
        rows = label_rows(self.model, classes, log_probs, first, last)
        last = int(classes[-1]) if len(classes) else last
        self._progress = replace(self._progress, num_labels=first + len(classes), last_class=last)
        return rows

    @property
    def _dtype(self) -> Any:
        return np.float64 if self._progress.state.frontend.samples.dtype == torch.float64 else np.float32
