"""Log-mel features: waveform [B, N] becomes frames [B, T, num_mels], one per hop of `Framing`.

Two flavors, each equal to someone else's answer: "kaldi" is torchaudio.compliance.kaldi.fbank without dither,
"librosa" is the log of librosa.feature.melspectrogram. Both work with every alignment. Audio is read in
slabs of overlapping views, so an hour costs its output and a few megabytes; there is no dither, no energy
column and no per-utterance normalisation, which could not stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from speechattn.errors import UserError
from speechattn.framing import Framing
from speechattn.frontend.mel import kaldi_filterbank, slaney_filterbank
from speechattn.lengths import check_lengths

PREEMPHASIS = 0.97
KALDI_FLOOR = torch.finfo(torch.float32).eps
LIBROSA_FLOOR = 1e-10
"""Least mel energy, below which the logarithm would only measure rounding."""


class LogMel(nn.Module):
    """Log-mel energies, natural logarithm, of waveforms in [-1, 1].

    The values are those of the reference on the *same* samples: nothing is scaled to 16-bit integers, so
    Kaldi's own binaries, which read integers, are higher by 2 ln 32768 = 20.8.

    Args:
        num_mels: bands per frame.
        framing: sample rate, window, hop and alignment; what stands outside the audio is zeros.
        flavor: "kaldi" (DC removal, pre-emphasis 0.97, Povey window, FFT of the next power of two, HTK mel,
            floor 1.2e-7) or "librosa" (FFT of the window, periodic Hann, Slaney mel and norm, floor 1e-10).
        low_hz, high_hz: ends of the mel bands; None is 20 Hz (kaldi) or 0 (librosa), and half the sample rate.
        nan: "error" refuses a valid sample that is NaN or infinite, "zero" hears it as 0.
        slab_frames: frames computed at once; changes speed and memory, not the result.

    Shape:
        waveform [B, N] float32 or float64, lengths [B] int64 samples -> frames [B, T, num_mels] of the same
        dtype, lengths [B] int64 frames. T is `framing.num_frames(N)`. Frames at and past a row's length are
        exactly 0 and what the padding holds is never read; less than one hop of audio is 0 frames.

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
        flavor: Literal["kaldi", "librosa"] = "kaldi",
        *,
        low_hz: float | None = None,
        high_hz: float | None = None,
        nan: Literal["error", "zero"] = "error",
        slab_frames: int = 512,
    ) -> None:
        super().__init__()
        framing = Framing() if framing is None else framing
        nyquist = framing.sample_rate / 2
        self.low_hz = low_hz if low_hz is not None else 20.0 if flavor == "kaldi" else 0.0
        self.high_hz = nyquist if high_hz is None else high_hz
        if flavor not in ("kaldi", "librosa"):
            raise ValueError(f'flavor must be "kaldi" or "librosa", got {flavor!r}.')
        if nan not in ("error", "zero"):
            raise ValueError(f'nan must be "error" or "zero", got {nan!r}.')
        if num_mels < 1 or slab_frames < 1:
            raise ValueError(f"num_mels and slab_frames must be 1 or more, got {num_mels} and {slab_frames}.")
        if not 0 <= self.low_hz < self.high_hz <= nyquist:
            raise ValueError(
                f"mel bands must lie in 0 <= low_hz < high_hz <= {nyquist:g} (half the sample rate), "
                f"got low_hz={self.low_hz:g} and high_hz={self.high_hz:g}."
            )
        self.num_mels, self.framing, self.flavor = num_mels, framing, flavor
        self.nan, self.slab_frames = nan, slab_frames
        self.n_fft = 1 << (framing.window - 1).bit_length() if flavor == "kaldi" else framing.window
        window, filterbank = self._constants()
        dtype = torch.get_default_dtype()
        self.register_buffer("window", window.to(dtype), persistent=False)
        self.register_buffer("filterbank", filterbank.to(dtype), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Frames [B, T, num_mels] and lengths [B] in frames; see the class for shapes.

        Raises:
            TypeError: waveform is not a float32 or float64 tensor, or lengths is not an integer one.
            ValueError: waveform is not [B, N], or a length is outside [0, N].
            UserError: a valid sample is NaN or infinite, and nan="error".
        """
        _check_waveform(waveform)
        batch_size, num_samples = waveform.shape
        lengths = check_lengths(lengths, batch_size, num_samples, what="sample")
        samples = [num_samples] * batch_size if lengths is None else lengths.tolist()
        counts = [self.framing.num_frames(n) for n in samples]
        with torch.autocast(waveform.device.type, enabled=False):
            rows = [self._finite(waveform[b, :n], b) for b, n in enumerate(samples)]
            frames = self._gather(rows, counts, self.framing.num_frames(num_samples), like=waveform)
        return frames, torch.tensor(counts, dtype=torch.int64, device=waveform.device)

    def _gather(self, rows: list[Tensor], counts: list[int], num_frames: int, like: Tensor) -> Tensor:
        """All rows' slabs in one [B, num_frames, num_mels] tensor, zeros after each row's count."""
        if torch.is_grad_enabled() and like.requires_grad:  # writing slabs into one tensor would chain their gradients
            padded = [
                torch.cat([*self._slabs(row, count), like.new_zeros(num_frames - count, self.num_mels)])
                for row, count in zip(rows, counts, strict=True)
            ]
            return torch.stack(padded) if padded else like.new_zeros(0, num_frames, self.num_mels)
        frames = like.new_empty(len(rows), num_frames, self.num_mels)
        for out, row, count in zip(frames, rows, counts, strict=True):
            start = 0
            for slab in self._slabs(row, count):
                out[start : start + len(slab)] = slab
                start += len(slab)
            out[count:] = 0
        return frames

    def _slabs(self, row: Tensor, count: int) -> Iterator[Tensor]:
        """Log-mel [n, num_mels] of the row's frames, `slab_frames` at a time; only the edges are copied to be padded."""
        for start in range(0, count, self.slab_frames):
            last = min(start + self.slab_frames, count) - 1
            begin, end = self.framing.span_samples(start)[0], self.framing.span_samples(last)[1]
            heard = row[max(begin, 0) : end]
            if begin < 0 or end > len(row):
                heard = F.pad(heard, (max(-begin, 0), max(end - len(row), 0)))
            yield self._log_mel(heard.unfold(0, self.framing.window, self.framing.hop))

    def _log_mel(self, framed: Tensor) -> Tensor:
        """Framed samples [n, window] -> log-mel [n, num_mels]: the arithmetic, written once for whole files and streams."""
        window, filterbank = self.window.to(framed.dtype), self.filterbank.to(framed.dtype)
        if self.flavor == "kaldi":
            # Kaldi's window is 0 at its first sample, so that sample's special pre-emphasis cannot be heard, and
            # dropping it shifts the frame by one sample, which no power spectrum shows.
            centered = framed - framed.mean(-1, keepdim=True)
            emphasised = torch.sub(centered[:, 1:], centered[:, :-1], alpha=PREEMPHASIS)
            spectrum = torch.fft.rfft(emphasised.mul_(window[1:]), n=self.n_fft)
        else:
            spectrum = torch.fft.rfft(framed * window)
        power = spectrum.real.square() + spectrum.imag.square()
        return (power @ filterbank).clamp(min=KALDI_FLOOR if self.flavor == "kaldi" else LIBROSA_FLOOR).log()

    def _finite(self, row: Tensor, b: int) -> Tensor:
        """`row` when every sample is finite, else an error, or zeros in their place."""
        # A sum reads once and allocates nothing; it may overflow on finite samples, so the exact look decides.
        if torch.compiler.is_compiling() or bool(row.detach().sum().isfinite()):
            return row
        finite = row.detach().isfinite()
        if bool(finite.all()):
            return row
        if self.nan == "zero":
            return torch.where(finite, row, row.new_zeros(()))
        first = int(finite.logical_not().nonzero()[0])
        raise UserError(
            f"waveform row {b} holds {row[first].item()} at sample {first} ({first / self.framing.sample_rate:.3f} s), "
            f"the first of {int((~finite).sum())} such samples: audio must be finite. "
            'Repair the audio, or use LogMel(nan="zero") to hear such samples as silence.'
        )

    def _constants(self) -> tuple[Tensor, Tensor]:
        """Window [window] and filterbank [n_fft//2 + 1, num_mels], float64 on the CPU."""
        size, kaldi = self.framing.window, self.flavor == "kaldi"
        window = torch.hann_window(size, periodic=not kaldi, dtype=torch.float64, device="cpu")
        bands = (self.num_mels, self.n_fft, self.framing.sample_rate, self.low_hz, self.high_hz)
        return (window**0.85, kaldi_filterbank(*bands)) if kaldi else (window, slaney_filterbank(*bands))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Constants are recomputed after a move, never cast: .double() is then exact and .half() harmless."""
        module = super()._apply(fn, recurse)
        dtype = torch.promote_types(self.window.dtype, torch.float32)
        window, filterbank = self._constants()
        self.window = window.to(self.window.device, dtype)
        self.filterbank = filterbank.to(self.filterbank.device, dtype)
        return module

    def extra_repr(self) -> str:
        framing = self.framing
        return (
            f"{self.num_mels} mels {self.low_hz:g}-{self.high_hz:g} Hz, {self.flavor}, {framing.sample_rate} Hz, "
            f"window {framing.window}, hop {framing.hop} ({framing.hop_ms:g} ms), {framing.align}, n_fft {self.n_fft}"
        )


def _check_waveform(waveform: Tensor) -> None:
    if not isinstance(waveform, Tensor):
        raise TypeError(f"waveform must be a tensor [B, N], got {type(waveform).__name__}. Use torch.as_tensor(...).")
    if waveform.dtype not in (torch.float32, torch.float64):
        fix = {torch.int16: " Divide 16-bit samples by 32768."}.get(waveform.dtype, " Use waveform.float().")
        raise TypeError(f"waveform must be float32 or float64 in [-1, 1], got {waveform.dtype}.{fix}")
    if waveform.ndim != 2:
        fix = {1: " One recording is waveform[None].", 3: " Average the channels first."}.get(waveform.ndim, "")
        raise ValueError(f"waveform must be [B, N], one recording a row, got {list(waveform.shape)}.{fix}")
