"""The training loop: a model, its batches, and a directory of checkpoints from which a killed run continues.

Step k depends only on the weights, the optimizers and random numbers seeded by (seed, k), so a run that continues
from its newest whole checkpoint ends with the weights of a run that was never interrupted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from speechattn.models.speech_model import SpeechModel
from speechattn.system.progress import progress_bar
from speechattn.system.stop_signal import StopSignal
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import Example, TrainingBatches
from speechattn.training.evaluate import score_examples
from speechattn.training.run_log import RunLog
from speechattn.training.tasks.frames import FrameTask
from speechattn.training.trainer import Progress, Trainer

RECORD_EVERY = 10
"""Steps from one record of the training loss to the next."""


def train(
    model: SpeechModel,
    task: FrameTask,
    batches: TrainingBatches,
    valid: Sequence[Example],
    config: TrainConfig,
    *,
    directory: Path,
    name: str,
    log: RunLog,
    stop: StopSignal,
) -> Progress:
    """Train `model` in place for `config.epochs`; return the counters of the run.

    Checkpoints go to `directory`/checkpoints; the newest whole one there is continued. `name` stands for the model in
    the log and in the progress bar.

    Raises:
        Interrupted: a signal came; everything up to the last finished step is saved.
        UserError: ten steps in a row had a loss that is not finite.
    """
    schedule = [batches.epoch(epoch) for epoch in range(config.epochs)]
    total = sum(map(len, schedule))
    trainer = Trainer(model, task, config, total, directory / "checkpoints")
    progress = trainer.progress
    log.rewind(name, progress.step)
    first = 0  # step of the epoch's first batch
    with progress_bar(total=total, initial=progress.step, desc=name, unit="step") as bar:
        for epoch, epoch_batches in enumerate(schedule):
            for batch in epoch_batches[max(0, progress.step - first) :]:
                begin = time.perf_counter()
                loss, accuracy = trainer.step(*batches.load(batch))
                progress.seconds += time.perf_counter() - begin
                text = f"loss {loss:.3f}, accuracy {accuracy:.3f}, {progress.frames_per_s:,.0f} frames/s"
                bar.set_postfix_str(text, refresh=False)
                bar.update()
                if progress.step % RECORD_EVERY == 0 or progress.step == total:
                    log.train(name, progress.step, epoch, *progress.take_means(), progress.frames_per_s)
                trainer.save_if_due(force=stop.received is not None)
                stop.poll()
            first += len(epoch_batches)
            last = epoch + 1 == config.epochs
            if first >= progress.step and (last or (epoch + 1) % config.valid_every == 0):
                valid_loss, scores = score_examples(model, task, valid, stop)
                log.valid(name, progress.step, epoch, valid_loss, scores)
                bar.write(f"{name}: epoch {epoch + 1}/{config.epochs}, validation accuracy {scores.accuracy:.4f}")
    trainer.save_if_due(force=True)
    return progress
