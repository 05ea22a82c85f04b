"""Exponential moving average of a model's weights (Polyak and Juditsky 1992), which is what is validated and saved.

The last steps of a run move the weights about; their average labels better, at no cost in inference. The average is
part of a checkpoint, so a run that is killed and resumed ends with the same one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class MovingAverage:
    """The average of a model's parameters: ``average = decay * average + (1 - decay) * weights`` after each update.

    Early updates have a smaller decay, (1 + n) / (10 + n) for update n, so that the random initial weights are soon
    forgotten. Buffers are constants and are not averaged.

    Args:
        model: its current parameters are the start.
        decay: in (0, 1); the average is over about the last 1 / (1 - decay) updates.

    Examples:
        >>> model = nn.Linear(1, 1)
        >>> average = MovingAverage(model, 0.9)
        >>> before = model.weight.item()
        >>> _ = model.weight.data.add_(1.0)
        >>> average.update(0)
        >>> round(average.tensors["weight"].item() - before, 4)
        0.9
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must be between 0 and 1, got {decay}.")
        self.decay = decay
        self._parameters = dict(model.named_parameters())
        self.tensors = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Add the current weights; `updates` is the number of updates before."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        for name, parameter in self._parameters.items():
            self.tensors[name].lerp_(parameter.detach(), 1 - decay)

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from the `tensors` of a checkpoint."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @torch.no_grad()
    def copy_to_model(self) -> None:
        """Give the model the averaged weights."""
        for name, parameter in self._parameters.items():
            parameter.copy_(self.tensors[name])

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Give the model the averaged weights inside the block, and its own ones back after it, errors included."""
        own = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self.copy_to_model()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    parameter.copy_(own[name])
