"""Log-mel features: waveform [B, N] becomes frames [B, T, num_mels], one per hop of `Framing`.

Two flavors, each equal to a reference: "kaldi" is torchaudio.compliance.kaldi.fbank without dither, "librosa" is the
logarithm of librosa.feature.melspectrogram. Both work with every alignment. Audio is read in slabs of overlapping
views, so an hour takes the memory of its frames and a few megabytes. A stream gives the same frames, each as soon as
its last sample has arrived. There is no dither, no energy column and no per-utterance normalisation, which could not
stream.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechattn.context import Context
from speechattn.framing import Framing
from speechattn.frontend.spectrum import LOW_HZ, fft_size, log_mel, make_filterbank, make_window
from speechattn.frontend.waveform_checks import check_samples, check_waveform
from speechattn.lengths import check_lengths
from speechattn.model_config import FLAVORS, NUM_MELS
from speechattn.system.renamed_arguments import renamed
from speechattn.system.serialization import whole

SLAB_FRAMES = 128
"""Frames computed at once: larger temporaries leave the cache and are mapped and unmapped for every slab."""


class FrontendState(NamedTuple):
    """State of a stream: samples that later frames will read again, and frames that wait for their deltas."""

    samples: Tensor  # [B, n], n < window + hop
    num_samples: int  # that have arrived
    waiting: tuple[Tensor, ...]  # [B, n, F] for each order of deltas


@renamed(nan="nan_policy")
class LogMel(nn.Module):
    """Log-mel energies (natural logarithm) of waveforms in [-1, 1].

    The values are those of the reference on the *same* samples: nothing is scaled to 16-bit integers, so
    Kaldi's own binaries, which read integers, give 2 ln 32768 = 20.8 more.

    Args:
        num_mels: mel bands of a frame.
        framing: sample rate, window, hop and alignment. The audio is padded with zeros on both sides.
        flavor: "kaldi" (DC removal, pre-emphasis 0.97, Povey window, FFT of the next power of two, HTK mel,
            floor 1.2e-7) or "librosa" (FFT of the window, periodic Hann, Slaney mel and norm, floor 1e-10).
        low_hz: lower end of the mel bands; None is 20 Hz (kaldi) or 0 Hz (librosa).
        high_hz: upper end of the mel bands; None is half the sample rate.
        nan_policy: "error" raises for a valid sample that is NaN, infinite or beyond 2^31, "zero" reads it as 0.
            Samples beyond 100 are integers that were not scaled: always an error.
        slab_frames: frames computed at once; it changes speed and memory, not the result.

    Shape:
        waveform [B, N] float32 or float64, lengths [B] int64 samples -> frames [B, T, num_mels] of the same
        dtype, lengths [B] int64 frames, T = framing.num_frames(N). Frames at and past a row's length are exactly 0,
        and padding is never read; less than one hop of audio is 0 frames.

    Raises:
        ValueError: a number is out of range, or flavor or nan_policy is unknown.

    Examples:
        >>> frames, lengths = LogMel()(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
        >>> frames.shape, lengths.tolist()
        (torch.Size([2, 100, 80]), [100, 50])
    """

    window: Tensor
    filterbank: Tensor

    def __init__(
        self,
        num_mels: int = NUM_MELS,
        framing: Framing | None = None,
        flavor: str = "kaldi",
        *,
        low_hz: float | None = None,
        high_hz: float | None = None,
        nan_policy: str = "error",
        slab_frames: int = SLAB_FRAMES,
    ) -> None:
        super().__init__()
        if flavor not in FLAVORS:
            raise ValueError(f'flavor must be "kaldi" or "librosa", got {flavor!r}.')
        if nan_policy not in ("error", "zero"):
            raise ValueError(f'nan_policy must be "error" or "zero", got {nan_policy!r}.')
        num_mels, slab_frames = whole("num_mels", num_mels), whole("slab_frames", slab_frames)
        self.num_mels, self.flavor, self.nan_policy, self.slab_frames = num_mels, flavor, nan_policy, slab_frames
        self.framing = Framing() if framing is None else framing
        nyquist = self.framing.sample_rate / 2
        self.low_hz = LOW_HZ[flavor] if low_hz is None else low_hz
        self.high_hz = nyquist if high_hz is None else high_hz
        if not 0 <= self.low_hz < self.high_hz <= nyquist:
            raise ValueError(
                f"mel bands need 0 <= low_hz < high_hz <= {nyquist:g} (half the sample rate), "
                f"got low_hz={self.low_hz:g} and high_hz={self.high_hz:g}."
            )
        self.n_fft = fft_size(flavor, self.framing.window)
        window, filterbank = self._constants(torch.get_default_dtype(), torch.device("cpu"))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filterbank", filterbank, persistent=False)
        empty = int((filterbank.sum(0) == 0).sum())
        if empty:
            warnings.warn(
                f"{empty} of {num_mels} mel bands hold no FFT bin and would never change: use fewer num_mels.",
                stacklevel=2,
            )

    @property
    def num_features(self) -> int:
        """Features of a frame."""
        return self.num_mels

    @property
    def contexts(self) -> tuple[Context, ...]:
        """Contexts that mix neighbouring frames, nearest to the waveform first: none."""
        return ()

    def to_log_mel(self, frames: Tensor) -> Tensor:
        """Return the log-mel [..., num_mels] that `frames` [..., num_features] describe: here, themselves."""
        return frames

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return frames [B, T, num_features] and lengths [B] in frames; see the class for shapes.

        Raises:
            TypeError: waveform is not a float32 or float64 tensor, or lengths is not an integer one.
            ValueError: waveform is not [B, N], or a length is outside [0, N].
            UserError: a valid sample is NaN or infinite, and nan_policy="error", or beyond 100.
        """
        check_waveform(waveform)
        batch_size, num_samples = waveform.shape
        lengths = check_lengths(lengths, batch_size, num_samples, what="sample")
        samples = [num_samples] * batch_size if lengths is None else lengths.tolist()
        counts = [self.framing.num_frames(n) for n in samples]
        with torch.autocast(waveform.device.type, enabled=False):
            rows = [self._checked(waveform[b, :n], b) for b, n in enumerate(samples)]
            frames = self._gather(rows, counts, self.framing.num_frames(num_samples), like=waveform)
        return frames, torch.tensor(counts, dtype=torch.int64, device=waveform.device)

    def initial_state(self, batch_size: int = 1) -> FrontendState:
        """Return the state of `batch_size` streams in lock-step before the first sample, in the filterbank's dtype.

        Raises:
            ValueError: frames are centred, so that they need samples that have not arrived.
        """
        self.framing.require_streamable()
        batch_size = whole("batch_size", batch_size)
        return FrontendState(self.filterbank.new_empty(batch_size, 0), 0, ())

    def step(self, waveform: Tensor, state: FrontendState) -> tuple[Tensor, FrontendState]:
        """Return the frames [B, m, num_features] that the next samples [B, n], n >= 0, complete, and the new state.

        Raises:
            TypeError, ValueError, UserError: as `forward`; and a waveform of another dtype or batch than the state.
        """
        return self._step(waveform, state, final=False)

    def flush(self, state: FrontendState) -> Tensor:
        """Return the pending frames [B, m, num_features] at the end of the samples; a part of a frame is dropped."""
        return self._step(state.samples[:, :0], state, final=True)[0]

    @torch.no_grad()
    def _step(self, waveform: Tensor, state: FrontendState, final: bool) -> tuple[Tensor, FrontendState]:
        check_waveform(waveform)
        kept = state.samples
        if (waveform.dtype, waveform.device, len(waveform)) != (kept.dtype, kept.device, len(kept)):
            raise ValueError(
                f"waveform is {waveform.dtype} [{len(waveform)}, n] on {waveform.device}, the stream is {kept.dtype} "
                f"[{len(kept)}, n] on {kept.device}: begin with initial_state(batch_size) of a frontend of that dtype."
            )
        first, origin = state.num_samples, state.num_samples - kept.shape[1]
        waveform = torch.stack([self._checked(row, b, first) for b, row in enumerate(waveform)])
        available, total = torch.cat((kept, waveform), 1), first + waveform.shape[1]
        done, ready = self.framing.num_frames(first), self.framing.num_frames(total)
        none = kept.new_empty(0, self.num_mels)
        with torch.autocast(kept.device.type, enabled=False):
            rows = [torch.cat([none, *self._windows(row, done, ready, origin)]) for row in available]
        keep = max(0, max(0, self.framing.span_samples(ready)[0]) - origin)
        frames, waiting = self._from_log_mel(torch.stack(rows), state.waiting, final)
        return frames, FrontendState(available[:, keep:].clone(), total, waiting)

    def _from_log_mel(
        self, log_mel: Tensor, waiting: tuple[Tensor, ...], final: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the frames [B, m, num_features] that log-mel [B, n, num_mels] completes, and those that wait."""
        return log_mel, waiting

    def _gather(self, rows: list[Tensor], counts: list[int], num_frames: int, like: Tensor) -> Tensor:
        """Join the slabs of all rows in one [B, num_frames, num_features] tensor, zeros after each row's count."""
        if rows and torch.is_grad_enabled() and like.requires_grad:
            # Writing slabs into one tensor would send the gradient of all of it through every slab.
            zeros = like.new_zeros(num_frames, self.num_features)
            pairs = zip(rows, counts, strict=True)
            return torch.stack([torch.cat([*self._slabs(row, count), zeros[count:]]) for row, count in pairs])
        frames = like.new_empty(len(rows), num_frames, self.num_features)
        for out, row, count in zip(frames, rows, counts, strict=True):
            start = 0
            for slab in self._slabs(row, count):
                out[start : start + len(slab)] = slab
                start += len(slab)
            out[count:] = 0
        return frames

    def _slabs(self, row: Tensor, count: int) -> Iterator[Tensor]:
        """Yield the features [n, num_features] of `count` frames of one row, slab by slab."""
        return self._windows(row, 0, count)

    def _windows(self, row: Tensor, first: int, stop: int, origin: int = 0) -> Iterator[Tensor]:
        """Yield the log-mel [n, num_mels] of the frames [first, stop), slab by slab; `row` begins with sample `origin`.

        Only a slab at an edge is copied.
        """
        for start in range(first, stop, self.slab_frames):
            last = min(start + self.slab_frames, stop) - 1
            begin, end = self.framing.span_samples(start)[0] - origin, self.framing.span_samples(last)[1] - origin
            samples = row[max(begin, 0) : end]
            if begin < 0 or end > len(row):
                samples = F.pad(samples, (max(-begin, 0), max(end - len(row), 0)))
            yield self._log_mel(samples.unfold(0, self.framing.window, self.framing.hop))

    def _log_mel(self, framed: Tensor) -> Tensor:
        return log_mel(framed, self.flavor, self.window, self.filterbank)

    def _checked(self, row: Tensor, b: int, origin: int = 0) -> Tensor:
        return check_samples(row, b, origin, self.framing.sample_rate, self.nan_policy, type(self).__name__)

    def _constants(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return window [window] and filterbank [n_fft//2 + 1, num_mels], in float32 at least."""
        dtype = torch.promote_types(dtype, torch.float32)
        size, rate = self.framing.window, self.framing.sample_rate
        filterbank = make_filterbank(self.flavor, self.num_mels, size, rate, self.low_hz, self.high_hz)
        return make_window(self.flavor, size, dtype, device), filterbank.to(device, dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Compute the constants again after .to() instead of casting them, so that .double() is exact."""
        self.window = self.window.float()  # Apple's GPUs have no float64
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.window, self.filterbank = self._constants(self.filterbank.dtype, self.filterbank.device)
        return self

    def extra_repr(self) -> str:
        """Return the settings that `repr` shows."""
        f = self.framing
        bands = f"{self.num_mels} mels {self.low_hz:g}-{self.high_hz:g} Hz, {self.flavor}, n_fft={self.n_fft}"
        return f"{bands}, {f.align}, {f.sample_rate} Hz, window={f.window}, hop={f.hop} ({f.hop_ms:g} ms)"
