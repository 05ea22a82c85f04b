"""The private functions of torch that profiling needs.

tests/profiling/test_torch_internals.py is their canary: if torch changes one of them, adapt this file only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import DeviceType
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["DeviceType", "TorchDispatchMode"]

ACCUMULATE_GRAD = 2**64 - 1
"""Autograd's sequence number of a node that adds a gradient to a weight."""


def storage_address(tensor: Tensor) -> int:
    """Return the address of a tensor's storage, equal for all views of it."""
    address: int = tensor.untyped_storage()._cdata
    return address


def operator_name(operator: Any) -> str:
    """Return the name of an operator in a dispatch mode, as "aten::add"."""
    name: str = operator._schema.name
    return name


def running_backward_node() -> Any:
    """Return autograd's node that is computing a gradient now, or None outside the backward pass."""
    return torch._C._current_autograd_node()


def sequence_number(node: Any) -> int:
    """Return the number that a backward node got in the forward pass."""
    number: int = node._sequence_nr()
    return number


def last_sequence_number() -> int:
    """Return the number of the newest backward node."""
    return torch._C._autograd._get_sequence_nr() - 1
