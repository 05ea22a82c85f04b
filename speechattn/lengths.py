"""Lengths [B] and valid masks [B, T]: the two ways to say which frames of a padded batch are real."""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.transforms import is_transformed


def full_lengths(input: Tensor) -> Tensor:
    """Return lengths [B] int64 by which every frame is valid in `input` [B, T, ...]."""
    return torch.full((input.shape[0],), input.shape[1], dtype=torch.int64, device=input.device)


def lengths_of(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return `lengths`, or the full lengths of `x` [B, T, ...] where it is None."""
    return full_lengths(x) if lengths is None else lengths


def check_lengths(lengths: Tensor | None, batch_size: int, num_frames: int, what: str = "frame") -> Tensor | None:
    """Return `lengths` as int64 [B], or None.

    Values are not checked under compile and export, where reading them would break the graph, nor under torch.func.

    Raises:
        TypeError: lengths is not an integer tensor.
        ValueError: its shape is not [B], or a value is outside [0, num_frames].
    """
    if lengths is None:
        return None
    if not isinstance(lengths, Tensor) or not _counts(lengths.dtype):
        kind = str(lengths.dtype) if isinstance(lengths, Tensor) else type(lengths).__name__
        use = "lengths.long()" if isinstance(lengths, Tensor) else "torch.tensor(lengths)"
        raise TypeError(f"lengths must be an integer tensor of valid {what} counts, got {kind}: use {use}.")
    if lengths.shape != (batch_size,):
        raise ValueError(f"lengths must have shape [{batch_size}], one count a row, got {list(lengths.shape)}.")
    if not torch.compiler.is_compiling() and not is_transformed() and lengths.numel():
        worst = [value for value in lengths.tolist() if not 0 <= value <= num_frames]
        if worst:
            hint = " Did you pass samples? Use framing.num_frames(samples)." if what == "frame" else ""
            raise ValueError(f"lengths must be valid {what} counts in [0, {num_frames}], got {worst[0]}.{hint}")
    return lengths.to(torch.int64)


def _counts(dtype: torch.dtype) -> bool:
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def valid_mask(lengths: Tensor, num_frames: int) -> Tensor:
    """Return bool [B, num_frames], True = real frame.

    Examples:
        >>> valid_mask(torch.tensor([1, 3]), 3).int().tolist()
        [[1, 0, 0], [1, 1, 1]]
    """
    return torch.arange(num_frames, device=lengths.device) < lengths[:, None]


def zero_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return `x` [B, T, ...] with exact zeros at and past `lengths`, whatever it holds there (NaN included)."""
    if lengths is None:
        return x
    valid = valid_mask(lengths.to(x.device), x.shape[1])
    return torch.where(valid.view(*valid.shape, *(1,) * (x.ndim - 2)), x, x.new_zeros(()))
