"""Training-time changes of waveforms [B, N] with lengths: another speed, and noise at a given ratio. By torchaudio.

Two faults of torchaudio's are corrected: it computes lengths in float32, which drops the last sample of some rows of a
minute or more (here they are whole numbers), and NaN in the padding spoils its mix (here padding is never read and is
returned as 0). Nothing is random: factors, ratios and noise are arguments. Changes of frames are in frames.py and
specaugment.py. Labels in seconds are divided by the factor.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from speechattn.errors import UserError
from speechattn.frontend.waveform_checks import all_in_range, check_waveform, first_fault
from speechattn.lengths import check_lengths, zero_padding
from speechattn.system.optional_imports import require_torchaudio

MIN_SPEED, MAX_SPEED = 0.1, 10.0
MAX_DENOMINATOR = 100
"""Of a speed as a fraction: two decimals, for the resampler makes as many filters as the denominator says."""
EXACT_SAMPLES = 2**24
"""Larger whole numbers are not exact in the float32 in which torchaudio computes lengths."""


def change_speed(waveform: Tensor, factor: float, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return waveforms [B, M] played `factor` times as fast, and lengths [B] int64: n samples become ceil(n / factor).

    Pitch and formants are scaled too, as in "Audio augmentation for speech recognition" (Ko et al. 2015). It equals
    torchaudio.functional.speed, at any sample rate. A time in seconds becomes seconds / factor. Samples at and past a
    row's length are 0.

    Raises:
        TypeError, ValueError: waveform is not [B, N] of float32 or float64, a length is outside [0, N], or factor is
            not a speed with at most two decimals (see `speed_ratio`).
        UserError: a valid sample is NaN, infinite or beyond 100, or torchaudio cannot be imported.

    Examples:
        >>> faster, lengths = change_speed(torch.randn(2, 1100), 1.1, torch.tensor([1100, 12]))
        >>> faster.shape, lengths.tolist()
        (torch.Size([2, 1000]), [1000, 11])
    """
    ratio = speed_ratio(factor)
    waveform, checked = _checked(waveform, lengths)
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
    if num_samples * ratio.denominator > EXACT_SAMPLES:  # zeros after the end: torchaudio may stop too early
        waveform = torch.nn.functional.pad(waveform, (0, ratio.numerator * (1 + num_samples // EXACT_SAMPLES) * 8))
    faster = torchaudio.functional.resample(waveform, ratio.numerator, ratio.denominator)[:, :new_samples]
    return zero_padding(faster, new_lengths), new_lengths


def samples_at_speed(num_samples: int, factor: float) -> int:
    """Return the number of samples that `change_speed` makes of `num_samples`."""
    ratio = speed_ratio(factor)
    return -(-num_samples * ratio.denominator // ratio.numerator)


def speed_ratio(factor: float) -> Fraction:
    """Return `factor` as the ratio of two whole numbers, the second at most 100.

    Raises:
        ValueError: there is none within 1e-6, or factor is outside [0.1, 10].

    Examples:
        >>> speed_ratio(1.1), speed_ratio(1 / 1.1)
        (Fraction(11, 10), Fraction(10, 11))
    """
    if not MIN_SPEED <= factor <= MAX_SPEED:
        raise ValueError(f"a speed must be {MIN_SPEED} to {MAX_SPEED:g} (1.1 is 10 percent faster), got {factor}.")
    ratio = Fraction(factor).limit_denominator(MAX_DENOMINATOR)
    if abs(ratio - Fraction(factor)) > 1e-6:
        raise ValueError(f"a speed has at most two decimals, got {factor}: use {round(factor, 2):g}.")
    return ratio


def mix_noise(waveform: Tensor, noise: Tensor, snr_db: Tensor | float, lengths: Tensor | None = None) -> Tensor:
    """Return waveforms [B, N] with `noise` [B, N] scaled and added, `snr_db` [B] (or one number) decibels below each.

    It is torchaudio.functional.add_noise: the ratio compares the energies of a row's valid samples, pauses
    included. Samples at and past `lengths` [B] are 0. A row that is silent, or whose noise is, is returned unchanged,
    because its ratio is not defined.

    Raises:
        TypeError, ValueError: waveform or noise is not [B, N] of float32 or float64, a length is outside [0, N], or
            snr_db is not finite or not one number a row.
        UserError: a valid sample is NaN, infinite or beyond 100, or torchaudio cannot be imported.
    """
    waveform, _ = _checked(waveform, lengths)
    if isinstance(noise, Tensor) and noise.shape != waveform.shape:
        raise ValueError(f"noise must have the waveform's shape {list(waveform.shape)}, got {list(noise.shape)}.")
    noise, _ = _checked(noise, lengths)
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


def _checked(waveform: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return `waveform` [B, N] with zeros for padding, and checked lengths; raise UserError for an invalid sample."""
    check_waveform(waveform)
    checked = check_lengths(lengths, waveform.shape[0], waveform.shape[1], what="sample")
    checked = None if checked is None else checked.to(waveform.device)
    waveform = zero_padding(waveform, checked)
    if not all_in_range(waveform):
        row = next(row for row, samples in enumerate(waveform) if not all_in_range(samples))
        first, reason = first_fault(waveform[row]) or (0, "")
        value = waveform[row, first].item()
        raise UserError(f"waveform row {row} holds {value:g} at sample {first}; {reason or 'audio must be finite.'}")
    return waveform, checked
