"""Checks of waveforms [B, N]: floats in [-1, 1], finite, and not unscaled integers."""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.amplitude import MAX_AMPLITUDE, MAX_INTEGER, SCALED, unscaled
from speechattn.errors import UserError


def check_waveform(waveform: Tensor) -> None:
    """Raise TypeError or ValueError when `waveform` is not a float32 or float64 tensor [B, N]."""
    if not isinstance(waveform, Tensor):
        raise TypeError(f"waveform must be a tensor [B, N], got {type(waveform).__name__}. Use torch.as_tensor(...).")
    if waveform.dtype not in (torch.float32, torch.float64):
        fix = SCALED.get(str(waveform.dtype).removeprefix("torch."))
        next_step = f": use {fix}." if fix else "."
        raise TypeError(f"waveform must be float32 or float64 in [-1, 1], got {waveform.dtype}{next_step}")
    if waveform.ndim != 2:
        fix = {1: " One recording is waveform[None].", 3: " Average the channels first."}.get(waveform.ndim, "")
        raise ValueError(f"waveform must be [B, N], one recording a row, got {list(waveform.shape)}.{fix}")


def check_samples(row: Tensor, b: int, origin: int, sample_rate: int, nan_policy: str, owner: str) -> Tensor:
    """Return the samples [n] of row `b`, with zeros for samples that are not finite if nan_policy="zero".

    Messages count samples from `origin` and name `owner`, the class that has the nan_policy.

    Raises:
        UserError: a sample is NaN or infinite, and nan_policy="error", or beyond 100.
    """
    if torch.compiler.is_compiling() or all_in_range(row):
        return row
    if nan_policy == "zero":
        row = torch.where(row.detach().abs() <= MAX_INTEGER, row, row.new_zeros(()))
    if fault := first_fault(row):
        at = origin + fault[0]
        fix = f'Repair it, or use {owner}(nan_policy="zero") to read such samples as silence.'
        raise UserError(
            f"waveform row {b} holds {row[fault[0]].item():g} at sample {at} "
            f"({at / sample_rate:.3f} s); {fault[1] or f'audio must be finite. {fix}'}"
        )
    return row


def all_in_range(samples: Tensor) -> bool:
    """Return whether all samples, of any shape, are finite and at most MAX_AMPLITUDE, in one pass.

    Examples:
        >>> [all_in_range(torch.tensor(samples)) for samples in ([0.5, -1.2], [0.5, torch.nan], [1e4])]
        [True, False, False]
    """
    if not samples.numel():
        return True
    lowest, highest = samples.detach().aminmax()
    return torch.maximum(-lowest, highest).item() <= MAX_AMPLITUDE  # False for NaN, which aminmax keeps


def first_fault(samples: Tensor) -> tuple[int, str] | None:
    """Return (index, reason) of the first of samples [n] that is out of range, or None; reason "" is not finite."""
    sizes = samples.detach().abs()
    wrong = (sizes <= MAX_AMPLITUDE).logical_not()
    if not bool(wrong.any()):
        return None
    first = int(wrong.nonzero()[0])
    if not sizes[first].item() <= MAX_INTEGER:
        return first, ""
    reason = unscaled(sizes[sizes <= MAX_INTEGER].max().item())
    return first, f"it {reason}: waveform / {reason.split()[-1]}."
