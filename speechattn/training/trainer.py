"""One training step, and the state that a checkpoint keeps between steps."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechattn.augment.frames import Augment
from speechattn.errors import UserError
from speechattn.models.speech_model import SpeechModel
from speechattn.training.checkpoint import load_checkpoint, save_checkpoint
from speechattn.training.config import TrainConfig
from speechattn.training.optimizer_state import pack_optimizer, unpack_optimizer
from speechattn.training.optimizers import learning_rate, make_optimizers
from speechattn.training.tasks.frames import FrameTask

MAX_BAD_STEPS = 10
"""Steps in a row whose loss or gradient is not finite, after which a run stops."""
GRADIENT_NORM = 1.0
"""Gradients are scaled down to this norm."""


@dataclass
class Progress:
    """Counters of a run: everything that a checkpoint holds besides tensors."""

    step: int = 0
    bad_steps: int = 0
    bad_in_a_row: int = 0
    seconds: float = 0.0
    frames: int = 0
    unrecorded: int = 0
    """Steps with a finite loss since the last record; their losses and accuracies are summed below."""
    loss_sum: float = 0.0
    accuracy_sum: float = 0.0

    @property
    def frames_per_s(self) -> float:
        """Training speed, in frames per second."""
        return self.frames / max(self.seconds, 1e-9)

    def add(self, loss: float, accuracy: float) -> None:
        """Count a step for the next record, if its loss is finite."""
        if math.isfinite(loss):
            self.unrecorded += 1
            self.loss_sum += loss
            self.accuracy_sum += accuracy

    def take_means(self) -> tuple[float, float]:
        """Return mean loss and accuracy of the steps since the last record, NaN without any, and begin again."""
        count = self.unrecorded or math.nan
        means = self.loss_sum / count, self.accuracy_sum / count
        self.unrecorded, self.loss_sum, self.accuracy_sum = 0, 0.0, 0.0
        return means


class Trainer:
    """A model with its optimizers, its progress and its checkpoints.

    Args:
        model: trained in place; the newest whole checkpoint in `directory` is loaded into it.
        task: loss and accuracy.
        config: learning rate, augmentation and seed.
        total: steps of the whole run.
        directory: folder of the checkpoints.
    """

    def __init__(self, model: SpeechModel, task: FrameTask, config: TrainConfig, total: int, directory: Path) -> None:
        self.model, self.task, self.config, self.total, self.directory = model, task, config, total, directory
        self.device = next(model.parameters()).device
        self.optimizers = make_optimizers(model, config)
        self.augment = Augment.for_features(config.features, model.normalize.mean) if config.augment else None
        self.progress = Progress()
        self.saved_at = time.monotonic()
        self._resume()

    def step(self, frames: Tensor, lengths: Tensor, labels: Tensor) -> tuple[float, float]:
        """Train on frames [B, T, F] with lengths [B] and labels [B, T]; return loss in nats and accuracy.

        Raises:
            UserError: the last ten steps had a loss or a gradient that is not finite.
        """
        seed = int(np.random.SeedSequence([self.config.seed, self.progress.step]).generate_state(1)[0])
        torch.manual_seed(seed)  # dropout
        if self.augment is not None:
            frames = self.augment(frames, lengths, torch.Generator().manual_seed(seed))
        frames, lengths, labels = frames.to(self.device), lengths.to(self.device), labels.to(self.device)
        self.model.train()
        logits, _ = self.model.classify(frames, lengths)
        loss = self.task.loss(logits, labels)
        self.model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        if bool(torch.isfinite(loss) & torch.isfinite(norm)):
            self.progress.bad_in_a_row = 0
            self._update_weights()
        else:
            self._count_bad_step()
        accuracy = float(self.task.accuracy(logits.detach(), labels))
        self.progress.add(float(loss.detach()), accuracy)
        self.progress.step += 1
        self.progress.frames += int(lengths.sum())
        return float(loss.detach()), accuracy

    def save_if_due(self, force: bool = False) -> None:
        """Write a checkpoint if the last one is older than `config.checkpoint_seconds`, or if `force`."""
        if not force and time.monotonic() - self.saved_at < self.config.checkpoint_seconds:
            return
        tensors = {"model": self.model.state_dict()}
        state: dict[str, Any] = {"progress": asdict(self.progress)}
        for name, optimizer in self.optimizers.items():
            tensors[name], state[name] = pack_optimizer(optimizer)
        save_checkpoint(self.directory, self.progress.step, tensors, state)
        self.saved_at = time.monotonic()

    def _resume(self) -> None:
        checkpoint = load_checkpoint(self.directory)
        if checkpoint is None:
            return
        self.model.load_state_dict(checkpoint.tensors["model"])
        for name, optimizer in self.optimizers.items():
            unpack_optimizer(optimizer, checkpoint.tensors[name], checkpoint.state[name])
        self.progress = Progress(**checkpoint.state["progress"])

    def _update_weights(self) -> None:
        rate = learning_rate(self.progress.step, self.total, self.config)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()

    def _count_bad_step(self) -> None:
        self.progress.bad_steps += 1
        self.progress.bad_in_a_row += 1
        if self.progress.bad_in_a_row >= MAX_BAD_STEPS:
            raise UserError(
                f"the loss was not finite in {MAX_BAD_STEPS} steps in a row (step {self.progress.step}). Start again "
                f"in another --out with a smaller --learning-rate than {self.config.learning_rate:g}."
            )
