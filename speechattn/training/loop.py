"""The training loop: a model, its batches, and a directory of checkpoints from which a killed run continues.

Step k depends only on the weights, the optimizers and random numbers seeded by (seed, k), so a run that continues
from its newest whole checkpoint ends with the weights of a run that was never interrupted. With several processes the
numbers of dropout are seeded by (seed, k, rank); without dropout the weights do not depend on how many there are.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path

from speechattn.models.speech_model import SpeechModel
from speechattn.system.progress import progress_bar
from speechattn.system.stop_signal import Interrupted, StopSignal
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import Example, TrainingBatches
from speechattn.training.distributed import Ranks
from speechattn.training.evaluate import evaluate_examples
from speechattn.training.initial_weights import fingerprint_weights
from speechattn.training.run_log import RunLog
from speechattn.training.tasks.task import Scores, Task
from speechattn.training.trainer import Augmentation, Progress, Trainer

RECORD_EVERY = 10
"""Steps from one record of the training loss to the next."""


def train(
    model: SpeechModel,
    task: Task,
    batches: TrainingBatches,
    valid: Sequence[Example],
    config: TrainConfig,
    *,
    directory: Path,
    name: str,
    log: RunLog | None,
    stop: StopSignal,
    ranks: Ranks | None = None,
    stages: Sequence[int] = (),
    augment: Augmentation | None = None,
) -> Progress:
    """Train `model` in place for `config.epochs`; return the counters of the run.

    Checkpoints go to `directory`/checkpoints; the newest whole one there is continued. `name` stands for the model in
    the log and in the progress bar. `ranks` are the processes of the run; None is one. Each of them calls this with
    the same arguments, those other than rank 0 without a `log`. `stages` are the epochs at which earlier stages of the
    learning rate ended, if the run was given more epochs. `augment` is as in `Trainer`.

    Raises:
        Interrupted: a signal came; everything up to the last finished step is saved.
        UserError: ten steps in a row had a loss that is not finite; or ranks differ in batches or weights.
    """
    ranks = ranks or Ranks()
    schedule = [batches.epoch(epoch) for epoch in range(config.epochs)]
    ends = list(itertools.accumulate(map(len, schedule)))  # of the epochs, in steps
    ranks.check_equal("the batches", lambda: repr((stages, list(schedule[0]))).encode())
    stage_epochs = [*stages, config.epochs]
    trainer = Trainer(
        model, task, config, [ends[epoch - 1] for epoch in stage_epochs], directory / "checkpoints", ranks, augment
    )
    progress, total = trainer.progress, ends[-1]
    if log is not None:
        log.rewind(name, progress.step)
    with progress_bar(total=total, initial=progress.step, desc=name, unit="step") as bar:
        for epoch, (epoch_batches, end) in enumerate(zip(schedule, ends, strict=True)):
            for batch in epoch_batches[max(0, progress.step - (end - len(epoch_batches))) :]:
                begin = time.perf_counter()
                loss, accuracy = trainer.step(*batches.load(batch))
                progress.seconds += time.perf_counter() - begin
                text = f"loss {loss:.3f}, accuracy {accuracy:.3f}, {progress.frames_per_s:,.0f} frames/s"
                bar.set_postfix_str(text, refresh=False)
                bar.update()
                if log is not None and (progress.step % RECORD_EVERY == 0 or progress.step == total):
                    log.train(name, progress.step, epoch, *progress.take_means(), progress.frames_per_s)
                signal_number = ranks.received(stop)  # the same on every rank, so that all end after the same step
                trainer.save_if_due(force=signal_number is not None)
                if signal_number is not None:
                    raise Interrupted(signal_number)
            due = epoch + 1 in stage_epochs or (epoch + 1) % config.valid_every == 0
            if end >= progress.step and due:
                ranks.check_equal("the weights", lambda: fingerprint_weights(model).encode())
                if log is not None:
                    scores = _validate(trainer, valid, epoch, name, log, stop)
                    bar.write(f"{name}: epoch {epoch + 1}/{config.epochs}, validation accuracy {scores.accuracy:.4f}")
                ranks.barrier()
    trainer.save_if_due(force=True)
    trainer.finish()
    return progress


def _validate(
    trainer: Trainer, valid: Sequence[Example], epoch: int, name: str, log: RunLog, stop: StopSignal
) -> Scores:
    """Score the model on `valid` and record it; if a signal comes, save the steps before it."""
    try:
        with trainer.averaged():
            found = evaluate_examples(trainer.model, trainer.task, valid, stop)
    except Interrupted:
        trainer.save_if_due(force=True)
        raise
    log.valid(name, trainer.progress.step, epoch, found.loss, found.scores)
    return found.scores
