"""The dtype and device that a module computes in, and the check of input in another dtype.

A quantised, pruned or parametrised layer, or one that an adapter wraps, has no tensor `weight`: nothing here uses
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


def like(module: nn.Module) -> Tensor:
    """Return an empty tensor of the dtype and on the device that `module` computes in.

    They are those of its first floating parameter or buffer. Without any, as in dynamically quantised layers, it is
    float32, which such layers take.

    Examples:
        >>> like(nn.Sequential(nn.SiLU(), nn.Linear(2, 2).half())).dtype
        torch.float16
    """
    device = torch.device("cpu")
    for tensor in _tensors(module):
        if tensor.is_floating_point():
            return torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        device = tensor.device
    return torch.empty(0, dtype=torch.float32, device=device)


def packed_entry(module: nn.Module) -> str | None:
    """Return the name of the first entry of a module's state that is no tensor, as packed int8 weights are, or None."""
    return next((name for name, value in module.state_dict().items() if not isinstance(value, Tensor)), None)


def widened(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype for sums over values of `dtype`: float64 stays, half precision becomes float32."""
    return torch.promote_types(dtype, torch.float32)


def fitting(input: Any, module: nn.Module, name: str) -> Tensor:
    """Return `input` in a dtype that `module` takes; messages call the module `name`.

    It is returned unchanged, save under autocast, which casts every float but float64: that one is cast here.

    Raises:
        TypeError: input is no floating tensor, or of a dtype that no parameter of the module has.
    """
    check_floating(input)
    dtype = like(module).dtype
    if input.dtype == dtype:
        return input  # type: ignore[no-any-return]
    if torch.is_autocast_enabled(input.device.type):
        return input.to(dtype) if torch.float64 in (input.dtype, dtype) else input  # type: ignore[no-any-return]
    if any(tensor.dtype == input.dtype for tensor in _tensors(module)):  # of several dtypes: its layers know
        return input  # type: ignore[no-any-return]
    raise TypeError(
        f"input must be {dtype} as the {name} is, got {input.dtype}: use input.to({dtype}) or {name}.to({input.dtype})."
    )


def check_floating(input: Any) -> None:
    """Raise TypeError unless `input` is a tensor of floats."""
    if not isinstance(input, Tensor):
        raise TypeError(f"input must be a floating tensor, got {type(input).__name__}: use torch.as_tensor(input).")
    if not input.is_floating_point():
        raise TypeError(f"input must be a floating tensor, got {input.dtype}: use input.float().")


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Yield parameters and buffers, in order of registration: `parameters()` would take half of a short call."""
    for tensor in chain(module._parameters.values(), module._buffers.values()):
        if tensor is not None:
            yield tensor
    for child in module._modules.values():
        if child is not None:
            yield from _tensors(child)
