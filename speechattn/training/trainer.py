"""One training step, and the state that a checkpoint keeps between steps."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from speechattn.errors import UserError
from speechattn.models.speech_model import SpeechModel
from speechattn.training.augmentation import make_augment
from speechattn.training.batch_parts import own_rows, take_rows
from speechattn.training.checkpoint import load_checkpoint, save_checkpoint
from speechattn.training.config import TrainConfig
from speechattn.training.consistency import join_views
from speechattn.training.distributed import Ranks
from speechattn.training.moving_average import MovingAverage
from speechattn.training.objective import Objective
from speechattn.training.optimizer_state import pack_optimizer, unpack_optimizer
from speechattn.training.optimizers import learning_rate, make_optimizers, stage_of
from speechattn.training.tasks.task import Task

MAX_BAD_STEPS = 10
"""Steps in a row whose loss or gradient is not finite, after which a run stops."""
GRADIENT_NORM = 1.0
"""Gradients are scaled down to this norm."""
Augmentation = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""Frames [B, T, F], lengths [B] and the only source of random numbers -> frames [B, T, F]."""


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
        model: trained in place; the newest whole checkpoint in `directory` is loaded into it. Weights without gradients
            stay as they are, and an encoder without any computes as in evaluation.
        task: loss and accuracy.
        config: learning rate, augmentation and seed.
        stage_ends: steps after which the stages of the learning rate end; the last one is that of the whole run.
        directory: folder of the checkpoints.
        ranks: the processes of the run; every one has a Trainer.
        augment: changes the frames of a batch, in place of the augmentation that `config` names.

    Raises:
        UserError: a rank has found another checkpoint than rank 0.
    """

    def __init__(
        self,
        model: SpeechModel,
        task: Task,
        config: TrainConfig,
        stage_ends: Sequence[int],
        directory: Path,
        ranks: Ranks,
        augment: Augmentation | None = None,
    ) -> None:
        self.model, self.task, self.config, self.stage_ends, self.directory = model, task, config, stage_ends, directory
        self.ranks = ranks
        self.device = next(model.parameters()).device
        self.optimizers = make_optimizers(model, config)
        if augment is None and config.augment:
            augment = make_augment(config, model.normalize.mean)
        self.augment = augment
        self.objective = Objective(task, config, model)
        self.average = MovingAverage(model, config.ema) if config.ema else None
        self.progress = Progress()
        self.saved_at = time.monotonic()
        self._resume()
        ranks.check_equal("the checkpoints", lambda: str(self.progress.step).encode())
        self.logits: nn.Module = _Logits(model)
        if ranks.size > 1:
            # Buffers are constants, equal on all ranks. Blocks that layer dropout skips have gradients of 0.
            self.logits = DistributedDataParallel(
                self.logits,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )

    def step(self, frames: Tensor, lengths: Tensor, labels: Tensor) -> tuple[float, float]:
        """Train on frames [B, T, F] with lengths [B] and labels [B, L]; return loss in nats and accuracy.

        Each rank gets the whole batch and takes its rows; loss and accuracy are those of the whole batch.

        Raises:
            UserError: the last ten steps had a loss or a gradient that is not finite.
        """
        entropy = [self.config.seed, self.progress.step]
        if self.augment is not None:  # of the whole batch: the random numbers do not depend on the number of ranks
            generator = torch.Generator().manual_seed(_seed(entropy))
            view = self.augment(frames, lengths, generator)
            more = self.objective.has_views
            frames = join_views(view, self.augment(frames, lengths, generator)) if more else view
        rank = self.ranks.rank
        torch.manual_seed(_seed([*entropy, rank] if rank else entropy))  # dropout
        self.model.zero_grad(set_to_none=True)
        loss, accuracy = self.ranks.sum(self._add_gradients(frames, lengths, labels))
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        if math.isfinite(loss) and bool(torch.isfinite(norm)):
            self.progress.bad_in_a_row = 0
            self._update_weights()
        else:
            self._count_bad_step()
        self.progress.add(loss, accuracy)
        self.progress.step += 1
        self.progress.frames += int(lengths.sum())
        return loss, accuracy

    def _add_gradients(self, frames: Tensor, lengths: Tensor, labels: Tensor) -> tuple[float, float]:
        """Compute the gradients of the batch's mean loss; return this rank's share of loss and accuracy.

        DistributedDataParallel exchanges gradients in the backward pass of a rank's last part. It divides their sum by
        the number of ranks. A rank without rows takes the first row with weight 0, because all have to exchange.
        """
        self._set_training_mode()
        rows = own_rows(len(frames), self.ranks.rank, self.ranks.size, self.config.accumulate)
        targets, loss_sum, accuracy_sum = int(self.task.num_targets(labels)), 0.0, 0.0
        for index, part in enumerate(rows or [slice(1)]):
            part_frames, part_lengths, part_labels = take_rows((frames, lengths, labels), part, self.task.per_frame)
            share = int(self.task.num_targets(part_labels)) / max(1, targets) if rows else 0.0
            part_frames, part_labels = part_frames.to(self.device), part_labels.to(self.device)
            part_frames, part_lengths, part_labels = self.objective.inputs(part_frames, part_lengths, part_labels)
            last = index + 1 == max(1, len(rows))
            with contextlib.nullcontext() if last else _unsynchronized(self.logits):
                with self._autocast():
                    soft_targets = self.objective.targets(part_frames, part_lengths.to(self.device))
                    logits, part_lengths = self.logits(part_frames, part_lengths.to(self.device))
                loss = self.objective.loss(logits, part_lengths, part_labels, soft_targets)
                (loss * (share * self.ranks.size)).backward()  # type: ignore[no-untyped-call]
            loss_sum += float(loss.detach()) * share
            accuracy_sum += float(self.task.accuracy(logits.detach(), part_lengths, part_labels)) * share
        return loss_sum, accuracy_sum

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")

    def _set_training_mode(self) -> None:
        self.model.train()
        if not any(parameter.requires_grad for parameter in self.model.encoder.parameters()):
            self.model.encoder.eval()

    def save_if_due(self, force: bool = False) -> None:
        """Write a checkpoint on rank 0 if the last one is older than `config.checkpoint_seconds`, or if `force`."""
        if not self.ranks.is_main:
            return
        if not force and time.monotonic() - self.saved_at < self.config.checkpoint_seconds:
            return
        tensors = {"model": self.model.state_dict()}
        if self.average is not None:
            tensors["average"] = self.average.tensors
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
        if self.average is not None:
            self.average.load(checkpoint.tensors["average"])
        for name, optimizer in self.optimizers.items():
            unpack_optimizer(optimizer, checkpoint.tensors[name], checkpoint.state[name])
        self.progress = Progress(**checkpoint.state["progress"])

    def _update_weights(self) -> None:
        start, end = stage_of(self.progress.step, self.stage_ends)
        rate = learning_rate(self.progress.step - start, end - start, self.config)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
            with self._autocast():  # Muon's products of matrices
                optimizer.step()
        if self.average is not None:
            self.average.update(self.progress.step)

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the model has the weights to validate: their average, if the run keeps one."""
        return contextlib.nullcontext() if self.average is None else self.average.swapped()

    def finish(self) -> None:
        """Give the model the weights to save, at the end of the run."""
        if self.average is not None:
            self.average.copy_to_model()

    def _count_bad_step(self) -> None:
        self.progress.bad_steps += 1
        self.progress.bad_in_a_row += 1
        if self.progress.bad_in_a_row >= MAX_BAD_STEPS:
            raise UserError(
                f"the loss was not finite in {MAX_BAD_STEPS} steps in a row (step {self.progress.step}). Start again "
                f"in another --out with a smaller --learning-rate than {self.config.learning_rate:g}."
            )


class _Logits(nn.Module):
    """`SpeechModel.classify` as the forward of a module, because DistributedDataParallel wraps only that."""

    def __init__(self, model: SpeechModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits of the head, and lengths [B] in frames of the encoder."""
        return self.model.classify(frames, lengths)


def _unsynchronized(module: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Return a context in which a backward pass only adds to the gradients of this rank."""
    return module.no_sync() if isinstance(module, DistributedDataParallel) else contextlib.nullcontext()


def _seed(entropy: Sequence[int]) -> int:
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])
