"""Log-mel features: waveform [B, N] becomes frames [B, T, num_mels], one per hop of `Framing`.

Two flavors, each equal to someone else's answer: "kaldi" is torchaudio.compliance.kaldi.fbank without dither,
"librosa" is the log of librosa.feature.melspectrogram. Both work with every alignment. Audio is read in
slabs of overlapping views, so an hour costs its output and a few megabytes. A stream gives the same frames, each as
soon as its last sample is there. There is no dither, no energy column and no per-utterance normalisation, which
could not stream.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechattn.amplitude import MAX_AMPLITUDE, MAX_INTEGER, SCALED, unscaled
from speechattn.context import Context
from speechattn.errors import UserError
from speechattn.framing import Framing
from speechattn.frontend.mel import kaldi_filterbank, slaney_filterbank
from speechattn.lengths import check_lengths
from speechattn.system.serialization import whole

PREEMPHASIS = 0.97
LOW_HZ = {"kaldi": 20.0, "librosa": 0.0}
FLOOR = {"kaldi": torch.finfo(torch.float32).eps, "librosa": 1e-10}
"""Least mel energy; below it the logarithm would only measure rounding."""
SLAB_FRAMES = 128
"""Frames computed at once: larger temporaries leave the cache and are mapped and unmapped for every slab."""


class FrontendState(NamedTuple):
    """What a stream keeps of a frontend: samples that frames to come will hear again, and frames that still wait."""

    samples: Tensor  # [B, n], n < window + hop
    num_samples: int  # that have come in
    waiting: tuple[Tensor, ...]  # [B, n, F] for each order of deltas


class LogMel(nn.Module):
    """Log-mel energies (natural logarithm) of waveforms in [-1, 1].

    The values are those of the reference on the *same* samples: nothing is scaled to 16-bit integers, so
    Kaldi's own binaries, which read integers, give 2 ln 32768 = 20.8 more.

    Args:
        num_mels: bands per frame.
        framing: sample rate, window, hop and alignment. Around the audio stand zeros.
        flavor: "kaldi" (DC removal, pre-emphasis 0.97, Povey window, FFT of the next power of two, HTK mel,
            floor 1.2e-7) or "librosa" (FFT of the window, periodic Hann, Slaney mel and norm, floor 1e-10).
        low_hz, high_hz: ends of the mel bands; None is 20 Hz (kaldi) or 0 (librosa), and half the sample rate.
        nan_policy: "error" refuses a valid sample that is NaN, infinite or beyond 2^31, "zero" reads it as 0. Samples
            beyond 100 are integers that were not scaled: always refused.
        slab_frames: frames computed at once; it changes speed and memory, not the result.

    Shape:
        waveform [B, N] float32 or float64, lengths [B] int64 samples -> frames [B, T, num_mels] of the same
        dtype, lengths [B] int64 frames, T = framing.num_frames(N). Frames at and past a row's length are
        exactly 0, and what the padding holds is never read; less than one hop of audio is 0 frames.

    Example:
        >>> frames, lengths = LogMel()(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
        >>> frames.shape, lengths.tolist()
        (torch.Size([2, 100, 80]), [100, 50])
    """

    window: Tensor
    filterbank: Tensor

    def __init__(
        self,
        num_mels: int = 80,
        framing: Framing | None = None,
        flavor: str = "kaldi",
        *,
        low_hz: float | None = None,
        high_hz: float | None = None,
        nan_policy: str = "error",
        slab_frames: int = SLAB_FRAMES,
    ) -> None:
        super().__init__()
        if flavor not in FLOOR:
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
        size = self.framing.window
        self.n_fft = 1 << (size - 1).bit_length() if flavor == "kaldi" else size
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
        """What mixes neighbouring frames, next to the waveform first: nothing here."""
        return ()

    def to_log_mel(self, frames: Tensor) -> Tensor:
        """The log-mel [..., num_mels] that `frames` [..., num_features] describe, to be drawn: here, themselves."""
        return frames

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames [B, T, num_features] and lengths [B] in frames; see the class for shapes.

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
            rows = [self._sound(waveform[b, :n], b) for b, n in enumerate(samples)]
            frames = self._gather(rows, counts, self.framing.num_frames(num_samples), like=waveform)
        return frames, torch.tensor(counts, dtype=torch.int64, device=waveform.device)

    def initial_state(self, batch_size: int = 1) -> FrontendState:
        """The state of `batch_size` streams in lock-step that have not begun; its dtype is that of the filterbank.

        Raises:
            ValueError: frames are centred, so that they hear samples that are not there yet.
        """
        self.framing.require_streamable()
        batch_size = whole("batch_size", batch_size)
        return FrontendState(self.filterbank.new_empty(batch_size, 0), 0, ())

    def step(self, waveform: Tensor, state: FrontendState) -> tuple[Tensor, FrontendState]:
        """The frames [B, m, num_features] that the next samples [B, n], n >= 0, complete, and the new state.

        Raises:
            TypeError, ValueError, UserError: as `forward`; and a waveform of another dtype or batch than the state.
        """
        return self._step(waveform, state, final=False)

    def flush(self, state: FrontendState) -> Tensor:
        """The frames [B, m, num_features] still owed when no more samples will come: a part of a frame is none."""
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
        waveform = torch.stack([self._sound(row, b, first) for b, row in enumerate(waveform)])
        heard, total = torch.cat((kept, waveform), 1), first + waveform.shape[1]
        done, ready = self.framing.num_frames(first), self.framing.num_frames(total)
        none = kept.new_empty(0, self.num_mels)
        with torch.autocast(kept.device.type, enabled=False):
            rows = [torch.cat([none, *self._windows(row, done, ready, origin)]) for row in heard]
        keep = max(0, max(0, self.framing.span_samples(ready)[0]) - origin)
        frames, waiting = self._waited_for(torch.stack(rows), state.waiting, final)
        return frames, FrontendState(heard[:, keep:].clone(), total, waiting)

    def _waited_for(
        self, log_mel: Tensor, waiting: tuple[Tensor, ...], final: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Frames [B, m, num_features] after the next log-mel [B, n, num_mels], and those that wait: here, none."""
        return log_mel, waiting

    def _gather(self, rows: list[Tensor], counts: list[int], num_frames: int, like: Tensor) -> Tensor:
        """The slabs of all rows in one [B, num_frames, num_features] tensor, zeros after each row's count."""
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
        """Features [n, num_features] of `count` frames of one row, slab by slab."""
        return self._windows(row, 0, count)

    def _windows(self, row: Tensor, first: int, stop: int, origin: int = 0) -> Iterator[Tensor]:
        """Log-mel [n, num_mels] of the frames [first, stop), slab by slab; `row` begins with the sample `origin`.

        Only a slab at an edge is copied.
        """
        for start in range(first, stop, self.slab_frames):
            last = min(start + self.slab_frames, stop) - 1
            begin, end = self.framing.span_samples(start)[0] - origin, self.framing.span_samples(last)[1] - origin
            heard = row[max(begin, 0) : end]
            if begin < 0 or end > len(row):
                heard = F.pad(heard, (max(-begin, 0), max(end - len(row), 0)))
            yield self._log_mel(heard.unfold(0, self.framing.window, self.framing.hop))

    def _log_mel(self, framed: Tensor) -> Tensor:
        """Framed samples [n, window] -> log-mel [n, num_mels]: the arithmetic, written once.

        A quiet band beside a loud one magnifies rounding: the order of operations is the reference's, and
        the librosa flavor transforms in float64 as librosa does. Another order would differ by 3e-4.
        """
        if self.flavor == "kaldi":
            window = self.window.to(framed.dtype)
            x = framed - framed.mean(-1, keepdim=True)
            # The Povey window is 0 at the first sample: what pre-emphasis makes of that sample is never heard.
            x = (x[:, 1:] - PREEMPHASIS * x[:, :-1]).mul_(window[1:])
            x = F.pad(x, (1, self.n_fft - len(window)))
        else:
            x = framed.to(self.window.dtype) * self.window
        x = torch.view_as_real(torch.fft.rfft(x)).square()
        power = (x[..., 0] + x[..., 1]).to(framed.dtype)
        return (power @ self.filterbank.to(framed.dtype)).clamp(min=FLOOR[self.flavor]).log()

    def _sound(self, row: Tensor, b: int, origin: int = 0) -> Tensor:
        """Return `row` [n] with zeros for NaN if nan_policy="zero"; raise for it, or for integers.

        Messages count samples from `origin`.
        """
        if torch.compiler.is_compiling() or is_sound(row):
            return row
        if self.nan_policy == "zero":
            row = torch.where(row.detach().abs() <= MAX_INTEGER, row, row.new_zeros(()))
        if fault := first_fault(row):
            at = origin + fault[0]
            fix = f'Repair it, or use {type(self).__name__}(nan_policy="zero") to read such samples as silence.'
            raise UserError(
                f"waveform row {b} holds {row[fault[0]].item():g} at sample {at} "
                f"({at / self.framing.sample_rate:.3f} s); {fault[1] or f'audio must be finite. {fix}'}"
            )
        return row

    def _constants(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Window [window] and filterbank [n_fft//2 + 1, num_mels], in float32 at least."""
        dtype = torch.promote_types(dtype, torch.float32)
        size, bands = self.framing.window, (self.num_mels, self.n_fft, self.framing.sample_rate)
        if self.flavor == "kaldi":
            window = torch.hann_window(size, periodic=False, dtype=dtype, device="cpu").pow(0.85)
            filterbank = kaldi_filterbank(*bands, self.low_hz, self.high_hz)
        else:
            wide = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
            window = torch.hann_window(size, dtype=torch.float64, device="cpu").to(wide)
            filterbank = slaney_filterbank(*bands, self.low_hz, self.high_hz)
        return window.to(device), filterbank.to(device, dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Constants are computed again after .to(), never cast: .double() is exact and .half() does no harm."""
        self.window = self.window.float()  # Apple's GPUs refuse float64
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.window, self.filterbank = self._constants(self.filterbank.dtype, self.filterbank.device)
        return self

    def extra_repr(self) -> str:
        f = self.framing
        bands = f"{self.num_mels} mels {self.low_hz:g}-{self.high_hz:g} Hz, {self.flavor}, n_fft={self.n_fft}"
        return f"{bands}, {f.align}, {f.sample_rate} Hz, window={f.window}, hop={f.hop} ({f.hop_ms:g} ms)"


def check_waveform(waveform: Tensor) -> None:
    """Raise TypeError or ValueError when `waveform` is no float32 or float64 tensor [B, N]."""
    if not isinstance(waveform, Tensor):
        raise TypeError(f"waveform must be a tensor [B, N], got {type(waveform).__name__}. Use torch.as_tensor(...).")
    if waveform.dtype not in (torch.float32, torch.float64):
        fix = SCALED.get(str(waveform.dtype).removeprefix("torch."))
        next_step = f": use {fix}." if fix else "."
        raise TypeError(f"waveform must be float32 or float64 in [-1, 1], got {waveform.dtype}{next_step}")
    if waveform.ndim != 2:
        fix = {1: " One recording is waveform[None].", 3: " Average the channels first."}.get(waveform.ndim, "")
        raise ValueError(f"waveform must be [B, N], one recording a row, got {list(waveform.shape)}.{fix}")


def is_sound(samples: Tensor) -> bool:
    """Return whether all samples, of any shape, are finite and at most MAX_AMPLITUDE, in one pass.

    Example:
        >>> is_sound(torch.tensor([0.5, -1.2])), is_sound(torch.tensor([0.5, torch.nan])), is_sound(torch.tensor([1e4]))
        (True, False, False)
    """
    if not samples.numel():
        return True
    least, most = samples.detach().aminmax()
    return torch.maximum(-least, most).item() <= MAX_AMPLITUDE  # False for NaN, which aminmax keeps


def first_fault(samples: Tensor) -> tuple[int, str] | None:
    """Return (index, what it is) of the first of samples [n] that is no sample, or None; "" stands for not finite."""
    sizes = samples.detach().abs()
    wrong = (sizes <= MAX_AMPLITUDE).logical_not()
    if not bool(wrong.any()):
        return None
    first = int(wrong.nonzero()[0])
    if not sizes[first].item() <= MAX_INTEGER:
        return first, ""
    reason = unscaled(sizes[sizes <= MAX_INTEGER].max().item())
    return first, f"it {reason}: waveform / {reason.split()[-1]}."
