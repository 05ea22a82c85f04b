"""One readable loop: a model, its batches, and a directory it can be killed in at any moment.

Step k uses nothing but the weights, the optimisers and random numbers seeded by (seed, k), so a run that
continues from its newest whole checkpoint ends with the weights of a run that was never interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from speechattn.augment.frames import Augment
from speechattn.data.labels.segments import IGNORE
from speechattn.errors import UserError
from speechattn.models.heads import FrameClassifier
from speechattn.models.speech_model import SpeechModel
from speechattn.system.progress import progress_bar
from speechattn.system.stop_signal import StopSignal
from speechattn.training.checkpoint import load_checkpoint, save_checkpoint
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import Example, Piece, TrainingBatches
from speechattn.training.evaluate import score_examples
from speechattn.training.muon import Muon
from speechattn.training.optimizer_state import pack_optimizer, unpack_optimizer
from speechattn.training.run_log import RunLog

MAX_BAD_STEPS = 10
GRADIENT_NORM = 1.0
RECORD_EVERY = 10


@dataclass
class Progress:
    """Where a run stands: all that a checkpoint holds besides tensors."""

    step: int = 0
    bad_steps: int = 0
    bad_in_a_row: int = 0
    seconds: float = 0.0
    frames: int = 0
    unrecorded: int = 0
    """Steps with a finite loss since the last record, with the sums of their losses and accuracies."""
    loss_sum: float = 0.0
    accuracy_sum: float = 0.0

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


def train(
    model: SpeechModel,
    batches: TrainingBatches,
    valid: Sequence[Example],
    config: TrainConfig,
    *,
    directory: Path,
    name: str,
    log: RunLog,
    stop: StopSignal,
) -> Progress:
    """Train `model` in place for `config.epochs`; `name` is what it is called in the log and the progress bar.

    Checkpoints go to `directory`/checkpoints; the newest whole one there is continued.

    Raises:
        Interrupted: a signal came; everything up to the last finished step is saved.
        UserError: ten steps in a row had a loss that is not finite.
    """
    run = _Run(model, config, directory / "checkpoints")
    schedule = [batches.epoch(epoch) for epoch in range(config.epochs)]
    total = sum(len(epoch) for epoch in schedule)
    progress = run.resume()
    log.rewind(name, progress.step)
    done_before = 0
    with progress_bar(total=total, initial=progress.step, desc=name, unit="step") as bar:
        for epoch, epoch_batches in enumerate(schedule):
            for batch in epoch_batches[max(0, progress.step - done_before) :]:
                loss, accuracy = _timed_step(run, batches, batch, total, progress)
                text = f"loss {loss:.3f}, accuracy {accuracy:.3f}, {run.speed(progress):,.0f} frames/s"
                bar.set_postfix_str(text, refresh=False)
                bar.update()
                if progress.step % RECORD_EVERY == 0 or progress.step == total:
                    log.train(name, progress.step, epoch, *progress.take_means(), run.speed(progress))
                run.save_if_due(progress, force=stop.received is not None)
                stop.poll()
            done_before += len(epoch_batches)
            last = epoch + 1 == config.epochs
            if done_before >= progress.step and (last or (epoch + 1) % config.valid_every == 0):
                loss, scores = score_examples(model, valid, stop)
                log.valid(name, progress.step, epoch, loss, scores)
                bar.write(f"{name}: epoch {epoch + 1}/{config.epochs}, validation accuracy {scores.accuracy:.4f}")
    run.save_if_due(progress, force=True)
    return progress


def learning_rate(step: int, total: int, config: TrainConfig) -> float:
    """Rises to the peak over `warmup_steps` equal stairs, then falls to 0 at step `total` along half a cosine."""
    warmup = min(config.warmup_steps, total // 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def make_optimizers(model: SpeechModel, config: TrainConfig) -> dict[str, torch.optim.Optimizer]:
    """Muon for the matrices inside the encoder, AdamW for everything else; both at one learning rate."""
    matrices = [matrix for layer in model.encoder.modules() for matrix in layer_matrices(layer)]
    others = {id(parameter): parameter for parameter in model.parameters()}
    for matrix in matrices:
        del others[id(matrix)]
    return {
        "muon": Muon(matrices, lr=config.learning_rate, weight_decay=config.weight_decay),
        "adamw": torch.optim.AdamW(others.values(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    }


def layer_matrices(layer: nn.Module) -> list[Tensor]:
    """Weights of one layer, not of its children, that map features to features: no tables, no depthwise filters."""
    if isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv1d) and layer.groups == 1):
        return [layer.weight]
    if isinstance(layer, nn.GRU):
        return [parameter for parameter in layer.parameters() if parameter.ndim == 2]
    return []


def _timed_step(
    run: _Run, batches: TrainingBatches, batch: Sequence[Piece], total: int, progress: Progress
) -> tuple[float, float]:
    begin = time.perf_counter()
    frames, lengths, labels = batches.load(batch)
    loss, accuracy = run.update(frames, lengths, labels, total, progress)
    progress.add(loss, accuracy)
    progress.step += 1
    progress.frames += int(lengths.sum())
    progress.seconds += time.perf_counter() - begin
    return loss, accuracy


class _Run:
    """The model with its optimisers and its checkpoints."""

    def __init__(self, model: SpeechModel, config: TrainConfig, directory: Path) -> None:
        self.model, self.config, self.directory = model, config, directory
        self.device = next(model.parameters()).device
        self.optimizers = make_optimizers(model, config)
        self.augment = Augment.for_features(config.features, model.normalize.mean) if config.augment else None
        self.saved_at = time.monotonic()

    def update(
        self, frames: Tensor, lengths: Tensor, labels: Tensor, total: int, progress: Progress
    ) -> tuple[float, float]:
        """One step on one batch; returns its loss in nats and its accuracy."""
        seed = int(np.random.SeedSequence([self.config.seed, progress.step]).generate_state(1)[0])
        torch.manual_seed(seed)  # dropout
        if self.augment is not None:
            frames = self.augment(frames, lengths, torch.Generator().manual_seed(seed))
        frames, lengths, labels = frames.to(self.device), lengths.to(self.device), labels.to(self.device)
        rate = learning_rate(progress.step, total, self.config)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = rate
        self.model.train()
        logits, _ = self.model.classify(frames, lengths)
        loss = FrameClassifier.loss(logits, labels)
        accuracy = (logits.detach().argmax(2) == labels).sum() / (labels != IGNORE).sum().clamp(min=1)
        self.model.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_NORM)
        if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
            self._count_bad_step(progress)
            return float(loss.detach()), float(accuracy)
        progress.bad_in_a_row = 0
        for optimizer in self.optimizers.values():
            optimizer.step()
        return float(loss.detach()), float(accuracy)

    def _count_bad_step(self, progress: Progress) -> None:
        progress.bad_steps += 1
        progress.bad_in_a_row += 1
        if progress.bad_in_a_row >= MAX_BAD_STEPS:
            raise UserError(
                f"the loss was not finite in {MAX_BAD_STEPS} steps in a row (step {progress.step}). Start again in "
                f"another --output with a smaller --learning-rate than {self.config.learning_rate:g}."
            )

    def speed(self, progress: Progress) -> float:
        """Frames per second of training."""
        return progress.frames / max(progress.seconds, 1e-9)

    def save_if_due(self, progress: Progress, force: bool = False) -> None:
        """Write a checkpoint when the last one is old enough."""
        if not force and time.monotonic() - self.saved_at < self.config.checkpoint_seconds:
            return
        tensors = {"model": self.model.state_dict()}
        state: dict[str, Any] = {"progress": vars(progress)}
        for name, optimizer in self.optimizers.items():
            tensors[name], state[name] = pack_optimizer(optimizer)
        save_checkpoint(self.directory, progress.step, tensors, state)
        self.saved_at = time.monotonic()

    def resume(self) -> Progress:
        """Continue from the newest whole checkpoint, if there is one."""
        checkpoint = load_checkpoint(self.directory)
        if checkpoint is None:
            return Progress()
        self.model.load_state_dict(checkpoint.tensors["model"])
        for name, optimizer in self.optimizers.items():
            unpack_optimizer(optimizer, checkpoint.tensors[name], checkpoint.state[name])
        return Progress(**checkpoint.state["progress"])
