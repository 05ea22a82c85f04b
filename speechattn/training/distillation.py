"""Distillation: saved models as teachers, whose mean posteriors are soft targets (Hinton et al. 2015).

Teachers may be larger than the student and see more future. They are given the student's own augmented frames: on clean
training frames, which they have learnt by heart, their posteriors are little more than the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from speechattn.dtypes import widened
from speechattn.errors import UserError
from speechattn.models.speech_model import SpeechModel, load
from speechattn.training.consistency import kl_divergence

SAME = ("head", "classes", "features", "num_mels", "num_ceps", "deltas", "flavor", "framing")
"""Settings that a teacher has in common with the student: the frames that they read, and their classes."""


class Teachers:
    """Saved models with the frames and the classes of the student.

    Args:
        folders: each is a saved model, or a run with one in `model/`.
        student: the model to train.

    Raises:
        UserError: a folder holds no model, or one of other frames or classes.
    """

    def __init__(self, folders: Sequence[str], student: SpeechModel) -> None:
        self.models = [_load(folder, student) for folder in folders]

    @torch.no_grad()
    def log_posteriors(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Return the logarithm of the mean posteriors [B, T, C] of frames [B, T, F] with lengths [B]."""
        each = []
        for model in self.models:
            logits = model.classify(frames, lengths)[0]
            each.append(logits.to(widened(logits.dtype)).log_softmax(-1))
        mean = torch.stack(each).exp().mean(0)
        return mean.clamp(min=torch.finfo(mean.dtype).tiny).log()


def distillation_loss(logits: Tensor, log_targets: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of KL(teachers || student) in nats over the frames of `mask` [B, T].

    Examples:
        >>> logits = torch.randn(1, 3, 5)
        >>> round(float(distillation_loss(logits, logits.log_softmax(-1), torch.ones(1, 3, dtype=torch.bool))), 6)
        0.0
    """
    divergence = kl_divergence(log_targets, logits.to(widened(logits.dtype)).log_softmax(-1))
    return torch.where(mask, divergence, 0).sum() / mask.sum().clamp(min=1)


def _load(folder: str, student: SpeechModel) -> SpeechModel:
    path = Path(folder)
    model = load(path / "model" if (path / "model" / "config.json").exists() else path)
    own, found = student.config, model.config
    differing = [name for name in SAME if getattr(own, name) != getattr(found, name)]
    if own.encoder.stack != found.encoder.stack:
        differing.append("encoder.stack")
    if differing:
        raise UserError(
            f"--teachers {folder} is a model with another {', '.join(differing)} than the model to train: teachers "
            "must read the same frames and have the same classes."
        )
    return model.requires_grad_(False).eval().to(next(student.parameters()).device)
