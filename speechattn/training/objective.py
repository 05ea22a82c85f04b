"""What a training step minimizes: the task's loss, and the terms that settings of the run add to it."""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.data.labels.segments import IGNORE
from speechattn.lengths import valid_mask
from speechattn.models.speech_model import SpeechModel
from speechattn.training.config import TrainConfig
from speechattn.training.consistency import split_views, symmetric_kl
from speechattn.training.distillation import Teachers, distillation_loss
from speechattn.training.tasks.task import Task


class Objective:
    """The loss of a part of a batch: of the labels, of the teachers' posteriors, and of two views that differ.

    Args:
        task: loss of the labels.
        config: weights of the terms, and the teachers.
        model: the model to train.

    Raises:
        UserError: a teacher does not fit the model.
    """

    def __init__(self, task: Task, config: TrainConfig, model: SpeechModel) -> None:
        self.task, self.config = task, config
        self.has_views = config.consistency > 0
        self.teachers = Teachers(config.teachers, model) if config.teachers else None

    def inputs(self, frames: Tensor, lengths: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the rows that the model computes: each twice, if the frames are two views [B, T, 2 F]."""
        return split_views(frames, lengths, labels) if self.has_views else (frames, lengths, labels)

    @torch.no_grad()
    def targets(self, frames: Tensor, lengths: Tensor) -> Tensor | None:
        """Return the teachers' log posteriors [B, T, C], None without teachers."""
        return None if self.teachers is None else self.teachers.log_posteriors(frames, lengths)

    def loss(self, logits: Tensor, lengths: Tensor, labels: Tensor, targets: Tensor | None) -> Tensor:
        """Return the mean loss in nats of logits [B, T, C] or [B, C]; `targets` are those of the teachers."""
        loss = self.task.loss(logits, lengths, labels)
        if targets is None and not self.has_views:
            return loss
        if logits.ndim == 2:  # of an utterance: one frame
            logits, targets = logits[:, None], None if targets is None else targets[:, None]
        mask = valid_mask(lengths.to(logits.device), logits.shape[1])
        if self.task.per_frame or logits.shape[1] == labels.shape[1] == 1:
            mask = labels != IGNORE
        if targets is not None:
            weight = self.config.teacher_weight
            loss = (1 - weight) * loss + weight * distillation_loss(logits, targets, mask)
        if self.has_views:
            loss = loss + self.config.consistency * symmetric_kl(logits, mask)
        return loss
