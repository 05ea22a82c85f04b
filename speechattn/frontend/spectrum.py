"""The arithmetic of log-mel in its two flavors: framed samples [n, window] to log-mel [n, num_mels].

Rounding is magnified in a quiet band next to a loud one, so the order of operations is the reference's, and the librosa
flavor transforms in float64 as librosa does. Another order would differ by 3e-4 in the logarithm.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from speechattn.frontend.mel import kaldi_filterbank, slaney_filterbank

PREEMPHASIS = 0.97
LOW_HZ = {"kaldi": 20.0, "librosa": 0.0}
"""Default lower end of the mel bands."""
FLOOR = {"kaldi": torch.finfo(torch.float32).eps, "librosa": 1e-10}
"""Smallest mel energy; the logarithm of less would only measure rounding."""


def fft_size(flavor: str, window: int) -> int:
    """Return the points of the FFT of a window: the next power of two (kaldi), or the window itself (librosa)."""
    return 1 << (window - 1).bit_length() if flavor == "kaldi" else window


def make_window(flavor: str, window: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the window function [window]: Povey's in `dtype` (kaldi), or the periodic Hann in float64 (librosa)."""
    if flavor == "kaldi":
        return torch.hann_window(window, periodic=False, dtype=dtype, device="cpu").pow(0.85).to(device)
    wide = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    return torch.hann_window(window, dtype=torch.float64, device="cpu").to(wide).to(device)


def make_filterbank(flavor: str, num_mels: int, window: int, sample_rate: int, low_hz: float, high_hz: float) -> Tensor:
    """Return the mel filterbank [n_fft//2 + 1, num_mels] of a flavor."""
    build = kaldi_filterbank if flavor == "kaldi" else slaney_filterbank
    return build(num_mels, fft_size(flavor, window), sample_rate, low_hz, high_hz)


def log_mel(framed: Tensor, flavor: str, window: Tensor, filterbank: Tensor) -> Tensor:
    """Return the log-mel [n, num_mels] (natural logarithm) of framed samples [n, window]."""
    if flavor == "kaldi":
        window = window.to(framed.dtype)
        x = framed - framed.mean(-1, keepdim=True)
        # The Povey window is 0 at the first sample, so its pre-emphasis does not matter.
        x = (x[:, 1:] - PREEMPHASIS * x[:, :-1]).mul_(window[1:])
        x = F.pad(x, (1, fft_size(flavor, len(window)) - len(window)))
    else:
        x = framed.to(window.dtype) * window
    x = torch.view_as_real(torch.fft.rfft(x)).square()
    power = (x[..., 0] + x[..., 1]).to(framed.dtype)
    return (power @ filterbank.to(framed.dtype)).clamp(min=FLOOR[flavor]).log()
