"""Apply a per-frame function in chunks of frames when gradients are off, so that intermediate tensors stay small.

A feed-forward layer makes four numbers of one: for an hour of frames the intermediate tensor is many times the input
and exceeds every cache; for a thousand frames it stays in one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from speechattn.heuristics import frames_at_once
from speechattn.transforms import is_traced


def framewise(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return `function(*inputs)` [B, T, D] for inputs [B, T, ...] and a function of each frame by itself.

    Examples:
        >>> framewise(torch.add, torch.ones(2, 5000, 3), torch.ones(2, 5000, 3)).shape
        torch.Size([2, 5000, 3])
    """
    batch, num_frames = inputs[0].shape[:2]
    whole = torch.is_grad_enabled() or torch.compiler.is_compiling() or is_traced()
    if whole or (most := frames_at_once(batch, num_frames, inputs[0].device.type == "cpu")) >= num_frames:
        return function(*inputs)
    first = function(*(x[:, :most] for x in inputs))
    output = first.new_empty(batch, num_frames, first.shape[2])
    output[:, :most] = first
    del first  # or it stays alive during every later chunk
    for begin in range(most, num_frames, most):
        output[:, begin : begin + most] = function(*(x[:, begin : begin + most] for x in inputs))
    return output
