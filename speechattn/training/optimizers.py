"""Which optimizer updates which weights, and the learning rate of each step."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from speechattn.models.speech_model import SpeechModel
from speechattn.training.config import TrainConfig
from speechattn.training.muon import Muon


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Return the learning rate of `step`: linear warmup to the peak, then half a cosine to 0 at step `total`."""
    warmup = min(config.warmup_steps, total // 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def stage_of(step: int, ends: Sequence[int]) -> tuple[int, int]:
    """Return the first step of the stage that `step` lies in, and the one after its last; `ends` are increasing.

    Examples:
        >>> stage_of(7, [10]), stage_of(10, [10, 30])
        ((0, 10), (10, 30))
    """
    index = bisect.bisect_right(ends, step)
    return ends[index - 1] if index else 0, ends[index]


def make_optimizers(model: SpeechModel, config: TrainConfig) -> dict[str, torch.optim.Optimizer]:
    """Return Muon for the weight matrices of the encoder and AdamW for all other parameters.

    Parameters without gradients, as those of a frozen encoder, are in neither; an optimizer without any is left out.
    """
    others = {id(parameter): parameter for parameter in model.parameters() if parameter.requires_grad}
    matrices = [matrix for layer in model.encoder.modules() for matrix in layer_matrices(layer) if matrix.requires_grad]
    for matrix in matrices:
        del others[id(matrix)]
    optimizers: dict[str, torch.optim.Optimizer] = {}
    if matrices:
        optimizers["muon"] = Muon(matrices, lr=config.learning_rate, weight_decay=config.weight_decay)
    if others:
        optimizers["adamw"] = torch.optim.AdamW(
            others.values(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
        )
    return optimizers


def layer_matrices(layer: nn.Module) -> list[Tensor]:
    """Return the weights of one layer, without its children, that map features to features.

    Embedding tables and depthwise filters are no such matrices.
    """
    if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv1d) and layer.groups == 1):
        return [layer.weight]
    if isinstance(layer, nn.GRU):
        return [parameter for parameter in layer.parameters() if parameter.ndim == 2]
    return []
