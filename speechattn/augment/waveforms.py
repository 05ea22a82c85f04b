"""Training-time changes of waveforms [B, N] with lengths: another speed, and noise at a known ratio. By torchaudio.

torchaudio resamples and mixes; what it leaves to the caller is done here. It reckons lengths in float32 and drops a
last sample now and then, in rows of a minute or more: ours are whole numbers. A NaN in the padding poisons its mix:
here the padding is never heard, and comes back as 0. Nothing is drawn here: factors, ratios and noise are given. Not
for frames, whose changes are in frames.py and specaugment.py; labels move along in seconds, divided by the factor.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from speechattn.errors import UserError
from speechattn.frontend.logmel import check_waveform, first_fault, is_sound
from speechattn.lengths import check_lengths, zero_padding
from speechattn.system.optional_imports import require_torchaudio

SLOWEST, FASTEST = 0.1, 10.0
FINEST = 100
"""Largest denominator of a speed: the resampler makes so many filters, and nobody asks for more than two decimals."""
EXACT_SAMPLES = 2**24
"""Counts above this are no longer whole in the float32 that torchaudio reckons them in."""


def change_speed(waveform: Tensor, factor: float, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Waveforms [B, M] played `factor` times as fast, and their lengths [B] int64: n samples become ceil(n / factor).

    Pitch and formants move as well, as when a tape runs faster (Ko et al. 2015, "Audio augmentation for speech
    recognition"). It is torchaudio.functional.speed, whatever the sample rate. A time in seconds becomes
    seconds / factor. Samples at and past a row's length are 0.

    Raises:
        TypeError, ValueError: waveform is not [B, N] of float32 or float64, a length is outside [0, N], or factor is
            no speed with at most two decimals (see `speed_ratio`).
        UserError: a valid sample is NaN, infinite or beyond 100, or torchaudio cannot be imported.

    Example:
        >>> faster, lengths = change_speed(torch.randn(2, 1100), 1.1, torch.tensor([1100, 12]))
        >>> faster.shape, lengths.tolist()
        (torch.Size([2, 1000]), [1000, 11])
    """
    ratio = speed_ratio(factor)
    waveform, checked = _heard(waveform, lengths)
    batch_size, num_samples = waveform.shape
    new_samples = samples_at_speed(num_samples, factor)
    if checked is None:
        new_lengths = torch.full((batch_size,), new_samples, dtype=torch.int64, device=waveform.device)
    else:
        new_lengths = (checked * ratio.denominator + ratio.numerator - 1) // ratio.numerator
    if ratio == 1:
        return waveform, new_lengths
    if waveform.numel() == 0:
        return waveform.new_zeros(batch_size, new_samples), new_lengths
    torchaudio = require_torchaudio("Changing the speed of a waveform")
    if num_samples * ratio.denominator > EXACT_SAMPLES:  # silence after the end, lest torchaudio stops too early
        waveform = torch.nn.functional.pad(waveform, (0, ratio.numerator * (1 + num_samples // EXACT_SAMPLES) * 8))
    faster = torchaudio.functional.resample(waveform, ratio.numerator, ratio.denominator)[:, :new_samples]
    return zero_padding(faster, new_lengths), new_lengths


def samples_at_speed(num_samples: int, factor: float) -> int:
    """How many samples `change_speed` makes of `num_samples`."""
    ratio = speed_ratio(factor)
    return -(-num_samples * ratio.denominator // ratio.numerator)


def speed_ratio(factor: float) -> Fraction:
    """`factor` as the ratio of two whole numbers, the second at most 100.

    Raises:
        ValueError: there is none within 1e-6, or factor is outside [0.1, 10].

    Example:
        >>> speed_ratio(1.1), speed_ratio(1 / 1.1)
        (Fraction(11, 10), Fraction(10, 11))
    """
    if not SLOWEST <= factor <= FASTEST:
        raise ValueError(f"a speed must be {SLOWEST} to {FASTEST:g} (1.1 is 10 percent faster), got {factor}.")
    ratio = Fraction(factor).limit_denominator(FINEST)
    if abs(ratio - Fraction(factor)) > 1e-6:
        raise ValueError(f"a speed has at most two decimals, got {factor}: use {round(factor, 2):g}.")
    return ratio


def mix_noise(waveform: Tensor, noise: Tensor, snr_db: Tensor | float, lengths: Tensor | None = None) -> Tensor:
    """Waveforms [B, N] with `noise` [B, N] scaled and added, `snr_db` [B] (or one number) decibels below each row.

    It is torchaudio.functional.add_noise: the ratio compares the energies of a row's valid samples, pauses
    included. Samples at and past `lengths` [B] are 0. A row that is silent, or whose noise is, comes back as it was,
    for it has no ratio.

    Raises:
        TypeError, ValueError: waveform or noise is not [B, N] of float32 or float64, a length is outside [0, N], or
            snr_db is not finite or not one number a row.
        UserError: a valid sample is NaN, infinite or beyond 100, or torchaudio cannot be imported.
    """
    waveform, _ = _heard(waveform, lengths)
    if isinstance(noise, Tensor) and noise.shape != waveform.shape:
        raise ValueError(f"noise must have the waveform's shape {list(waveform.shape)}, got {list(noise.shape)}.")
    noise, _ = _heard(noise, lengths)
    ratio = torch.as_tensor(snr_db, dtype=waveform.dtype, device=waveform.device)
    if ratio.ndim == 0:
        ratio = ratio.expand(len(waveform))
    if ratio.shape != (len(waveform),) or not bool(ratio.isfinite().all()):
        raise ValueError(f"snr_db must be one finite number of decibels, or one a row, got {snr_db}.")
    if waveform.numel() == 0:
        return waveform
    torchaudio = require_torchaudio("Mixing noise into a waveform")
    mixed: Tensor = torchaudio.functional.add_noise(waveform, noise.to(waveform), ratio)
    return torch.where(mixed.isfinite().all(1, keepdim=True), mixed, waveform)


def _heard(waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """`waveform` [B, N] with zeros for padding, and checked lengths; what is left must be finite."""
    check_waveform(waveform)
    checked = check_lengths(lengths, waveform.shape[0], waveform.shape[1], what="sample")
    checked = None if checked is None else checked.to(waveform.device)
    waveform = zero_padding(waveform, checked)
    if not is_sound(waveform):
        row = next(row for row, samples in enumerate(waveform) if not is_sound(samples))
        first, reason = first_fault(waveform[row]) or (0, "")
        value = waveform[row, first].item()
        raise UserError(f"waveform row {row} holds {value:g} at sample {first}; {reason or 'audio must be finite.'}")
    return waveform, checked
