"""Mel filterbanks: the weights that gather FFT bins into bands. The two formulas that speech people mean by "mel".

Kaldi's triangles are straight on the mel axis (HTK's 1127 ln(1 + f/700)) and peak at 1; librosa's are
straight on the Hz axis (Slaney's scale: linear to 1 kHz, logarithmic above) and have equal area. Both are
written out here, in float64: features need neither torchaudio nor librosa installed, the tests compare with both.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor

SLANEY_BREAK_HZ = 1000.0
SLANEY_HZ_PER_MEL = 200.0 / 3
SLANEY_LOG_STEP = math.log(6.4) / 27
"""Above the break 27 mels multiply the frequency by 6.4 (Slaney's Auditory Toolbox, 1998)."""


def kaldi_filterbank(num_mels: int, n_fft: int, sample_rate: int, low_hz: float, high_hz: float) -> Tensor:
    """Weights [n_fft//2 + 1, num_mels] float64, triangles of height 1 on the HTK mel axis.

    Source: Kaldi's mel-computations.cc. The Nyquist bin lies on the last triangle's foot and weighs nothing.

    Example:
        >>> kaldi_filterbank(80, 512, 16000, 20.0, 8000.0).shape
        torch.Size([257, 80])
    """
    edges = torch.linspace(_htk_mel(low_hz), _htk_mel(high_hz), num_mels + 2, dtype=torch.float64, device="cpu")
    bins = 1127 * torch.log1p(_bin_hz(n_fft, sample_rate) / 700)
    return _warn_empty(_triangles(bins, edges))


def slaney_filterbank(num_mels: int, n_fft: int, sample_rate: int, low_hz: float, high_hz: float) -> Tensor:
    """Weights [n_fft//2 + 1, num_mels] float64, triangles of area 1 on the Hz axis, Slaney's mel spacing.

    The same as ``librosa.filters.mel(...).T`` with its defaults.
    """
    mels = torch.linspace(_slaney_mel(low_hz), _slaney_mel(high_hz), num_mels + 2, dtype=torch.float64, device="cpu")
    break_mel = SLANEY_BREAK_HZ / SLANEY_HZ_PER_MEL
    above = SLANEY_BREAK_HZ * torch.exp(SLANEY_LOG_STEP * (mels - break_mel))
    edges = torch.where(mels < break_mel, SLANEY_HZ_PER_MEL * mels, above)
    area = (edges[2:] - edges[:-2]) / 2
    return _warn_empty(_triangles(_bin_hz(n_fft, sample_rate), edges) / area)


def _triangles(bins: Tensor, edges: Tensor) -> Tensor:
    """Triangle j rises from edges[j] to 1 at edges[j+1] and falls to edges[j+2], read at `bins`."""
    width = edges.diff()
    rise = (bins[:, None] - edges[:-2]) / width[:-1]
    fall = (edges[2:] - bins[:, None]) / width[1:]
    return torch.minimum(rise, fall).clamp(min=0)


def _bin_hz(n_fft: int, sample_rate: int) -> Tensor:
    return torch.arange(n_fft // 2 + 1, dtype=torch.float64, device="cpu") * sample_rate / n_fft


def _htk_mel(hz: float) -> float:
    return 1127 * math.log1p(hz / 700)


def _slaney_mel(hz: float) -> float:
    if hz < SLANEY_BREAK_HZ:
        return hz / SLANEY_HZ_PER_MEL
    return SLANEY_BREAK_HZ / SLANEY_HZ_PER_MEL + math.log(hz / SLANEY_BREAK_HZ) / SLANEY_LOG_STEP


def _warn_empty(weights: Tensor) -> Tensor:
    """`weights`, with a warning when a band holds no FFT bin: its feature would be the same in every frame."""
    empty = int((weights.sum(0) == 0).sum())
    if empty:
        warnings.warn(
            f"{empty} of {weights.shape[1]} mel bands hold no FFT bin and will never change; use fewer num_mels.",
            stacklevel=4,
        )
    return weights
