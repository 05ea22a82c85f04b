"""What is done to each frame by itself is done to some frames at a time, where no gradient needs what lies between.

A feed-forward layer makes four numbers of one: over an hour of frames that is memory of many times the input, written
and read back past every cache. Of a thousand frames it stays in a cache.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from speechattn.heuristics import frames_at_once


def framewise(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(*inputs)` for inputs [B, T, ...] and a function of each frame by itself: [B, T, D].

    Example:
        >>> framewise(torch.add, torch.ones(2, 5000, 3), torch.ones(2, 5000, 3)).shape
        torch.Size([2, 5000, 3])
    """
    batch, num_frames = inputs[0].shape[:2]
    whole = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch._C._is_tracing()
    if whole or (most := frames_at_once(batch, num_frames, inputs[0].device.type == "cpu")) >= num_frames:
        return function(*inputs)
    first = function(*(x[:, :most] for x in inputs))
    output = first.new_empty(batch, num_frames, first.shape[2])
    output[:, :most] = first
    del first  # it would stay alive beside every later part
    for begin in range(most, num_frames, most):
        output[:, begin : begin + most] = function(*(x[:, begin : begin + most] for x in inputs))
    return output
