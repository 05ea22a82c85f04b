"""Mel filterbanks: the weights that sum FFT bins into bands, in the two formulas that are called "mel".

Kaldi's triangles are straight on the mel axis (HTK's 1127 ln(1 + f/700)) and peak at 1; librosa's are straight on the
Hz axis (Slaney's scale: linear to 1 kHz, logarithmic above) and have equal area. Both are implemented here, so that
features need neither torchaudio nor librosa; the tests compare with both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SLANEY_BREAK_HZ = 1000.0
SLANEY_HZ_PER_MEL = 200.0 / 3
SLANEY_LOG_STEP = math.log(6.4) / 27
"""Above the break 27 mels multiply the frequency by 6.4 (Slaney's Auditory Toolbox, 1998)."""


def kaldi_filterbank(num_mels: int, n_fft: int, sample_rate: int, low_hz: float, high_hz: float) -> Tensor:
    """Return weights [n_fft//2 + 1, num_mels] float32: triangles of height 1, equally spaced on the HTK mel axis.

    Source: Kaldi's mel-computations.cc, in float32 as there: in a narrow low band whose only FFT bin lies near the
    triangle's foot, rounding changes the logarithm by 2e-4. The Nyquist bin lies on the last foot.

    Examples:
        >>> kaldi_filterbank(80, 512, 16000, 20.0, 8000.0).shape
        torch.Size([257, 80])
    """
    edges = _kaldi_edges(num_mels, low_hz, high_hz)
    bins = 1127 * (1 + _bins_hz(n_fft, sample_rate, torch.float32) / 700).log()
    return _triangles(bins, edges)


def slaney_filterbank(num_mels: int, n_fft: int, sample_rate: int, low_hz: float, high_hz: float) -> Tensor:
    """Return weights [n_fft//2 + 1, num_mels] float64: triangles of area 1 in Hz, equally spaced on Slaney's mel axis.

    The transpose of ``librosa.filters.mel`` with its defaults.
    """
    edges = _slaney_edges_hz(num_mels, low_hz, high_hz)
    area = (edges[2:] - edges[:-2]) / 2
    return _triangles(_bins_hz(n_fft, sample_rate, torch.float64), edges) / area


def band_centres_hz(flavor: str, num_mels: int, low_hz: float, high_hz: float) -> Tensor:
    """Return the frequencies [num_mels] at which the bands of a flavor ("kaldi" or "librosa") peak, in Hz.

    Examples:
        >>> [round(hz) for hz in band_centres_hz("kaldi", 3, 20.0, 8000.0).tolist()]
        [642, 1803, 3966]
    """
    if flavor == "kaldi":
        return 700 * torch.expm1(_kaldi_edges(num_mels, low_hz, high_hz)[1:-1].double() / 1127)
    return _slaney_edges_hz(num_mels, low_hz, high_hz)[1:-1]


def _kaldi_edges(num_mels: int, low_hz: float, high_hz: float) -> Tensor:
    """Return feet and peaks [num_mels + 2] of the triangles, in HTK's mels, float32."""
    low, high = (1127 * math.log(1 + hz / 700) for hz in (low_hz, high_hz))
    return low + torch.arange(num_mels + 2, dtype=torch.float32, device="cpu") * ((high - low) / (num_mels + 1))


def _slaney_edges_hz(num_mels: int, low_hz: float, high_hz: float) -> Tensor:
    """Return feet and peaks [num_mels + 2] of the triangles, in Hz, float64."""
    low, high = _slaney_mel(low_hz), _slaney_mel(high_hz)
    mels = torch.linspace(low, high, num_mels + 2, dtype=torch.float64, device="cpu")
    break_mel = SLANEY_BREAK_HZ / SLANEY_HZ_PER_MEL
    above = SLANEY_BREAK_HZ * torch.exp(SLANEY_LOG_STEP * (mels - break_mel))
    return torch.where(mels < break_mel, SLANEY_HZ_PER_MEL * mels, above)


def _triangles(bins: Tensor, edges: Tensor) -> Tensor:
    """Return weights [bins, len(edges) - 2]: triangle j rises from edges[j] to 1 at edges[j+1], falls to edges[j+2]."""
    width = edges.diff()
    rise = (bins[:, None] - edges[:-2]) / width[:-1]
    fall = (edges[2:] - bins[:, None]) / width[1:]
    return torch.minimum(rise, fall).clamp(min=0)


def _bins_hz(n_fft: int, sample_rate: int, dtype: torch.dtype) -> Tensor:
    """Return the frequencies of the FFT bins from 0 to Nyquist, in Hz."""
    return torch.arange(n_fft // 2 + 1, dtype=dtype, device="cpu") * (sample_rate / n_fft)


def _slaney_mel(hz: float) -> float:
    if hz < SLANEY_BREAK_HZ:
        return hz / SLANEY_HZ_PER_MEL
    return SLANEY_BREAK_HZ / SLANEY_HZ_PER_MEL + math.log(hz / SLANEY_BREAK_HZ) / SLANEY_LOG_STEP
