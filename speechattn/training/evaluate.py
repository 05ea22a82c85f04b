"""Scores of a model on labelled speech: the numbers of `speechattn evaluate` and of a run's final table."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from speechattn.dtypes import like
from speechattn.errors import UserError
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.atomic_files import write_json
from speechattn.system.stop_signal import StopSignal
from speechattn.training.dataset import Example, read_examples
from speechattn.training.labelled_subset import TASKS, labelled_subset
from speechattn.training.metrics import constant_accuracy
from speechattn.training.result_columns import UNITS, score_columns
from speechattn.training.speaker_scores import update_scores
from speechattn.training.tasks.ctc_targets import UnknownCharacters
from speechattn.training.tasks.task import Scores, Task


@dataclass(frozen=True)
class Evaluation:
    """Scores on one labelled subset, and the mean loss in nats.

    `frames_per_s` is the speed of encoder and head on frames that are in memory, one utterance at a time.
    """

    scores: Scores
    loss: float
    utterances: int
    frames_per_s: float
    by_speaker: dict[str, list[float]]
    """Speaker -> [what was right, what was counted]: frames, utterances, or labels less errors of sequences."""

    def row(self) -> dict[str, Any]:
        """Return all of it as plain JSON types."""
        return {
            **self.scores.summary(),
            "loss": self.loss,
            "utterances": self.utterances,
            "frames_per_s": self.frames_per_s,
            "by_speaker": self.by_speaker,
        }


def majority_baseline(
    classes: Sequence[str], summary: Mapping[str, Any], label: int | None = None
) -> dict[str, Any] | None:
    """Return the accuracy of a model that always gives one class, by default the most frequent, from its `summary`.

    None for a task without a confusion matrix of classes: sequences.
    """
    if "confusion" not in summary:
        return None
    counts = torch.tensor(summary["confusion"]).sum(1)
    chosen = int(counts.argmax()) if label is None else label
    accuracy, without_silence = constant_accuracy(counts, chosen)
    found = {"label": classes[chosen], "accuracy": accuracy}
    return {**found, "accuracy_no_sil": without_silence} if "accuracy_no_sil" in summary else found


@torch.no_grad()
def evaluate_examples(
    model: SpeechModel, task: Task, examples: Iterable[Example], stop: StopSignal | None = None
) -> Evaluation:
    """Return the scores of a model in evaluation mode; each example is asked for once, and none is kept."""
    was_training = model.training
    model.eval()
    device = like(model).device
    scores = task.scores()
    by_speaker: dict[str, list[float]] = {}
    total, seconds, utterances, num_frames, num_targets = 0.0, 0.0, 0, 0, 0
    for example in examples:
        if stop is not None:
            stop.poll()
        frames, labels = example.frames, example.labels[None]
        begin = time.perf_counter()
        logits, lengths = (found.cpu() for found in model.classify(frames[None].to(device)))
        seconds += time.perf_counter() - begin
        weight = int(task.num_targets(labels))
        total += float(task.loss(logits, lengths, labels)) * weight
        update_scores(scores, by_speaker, example.speaker, logits, lengths, labels)
        utterances, num_frames, num_targets = utterances + 1, num_frames + len(frames), num_targets + weight
    model.train(was_training)
    speed = num_frames / max(seconds, 1e-9)
    return Evaluation(scores, total / max(1, num_targets), utterances, speed, by_speaker)


def evaluate_directory(
    model_directory: str,
    data: str,
    subset: str,
    alignments: str | None,
    json_path: str | None,
    max_bad: float = 0.0,
    *,
    task: str | None = None,
    layout: str = "auto",
    lexicon: str | None = None,
    unknown_characters: UnknownCharacters = "stop",
) -> dict[str, Any]:
    """Score a saved model on a labelled subset, print it and write it as JSON.

    Head and classes of the model decide which labels are read. A model of speech and silence needs no alignments: its
    reference is then the detector of energy_vad.py. Utterances without an alignment are counted under "skipped".
    `max_bad` is the share of unusable recordings that is accepted, `task` the only task that is.

    Raises:
        UserError, DataError: the model, the data or the path of the JSON cannot be used.
    """
    if not 0 <= max_bad <= 1:
        raise UserError(f"--max-bad must be a share from 0 to 1, got {max_bad:g}.")
    if json_path is not None:
        _check_writable(Path(json_path))
    model = load(model_directory)
    _check_task(model_directory, model.config.head, task)
    found, corpus = labelled_subset(
        model, model_directory, data, subset, alignments, max_bad, layout, lexicon, unknown_characters
    )
    evaluation = evaluate_examples(model, found, read_examples(corpus, model.frontend, found))
    if not evaluation.scores.count:
        raise UserError(f"nothing of {subset} has a label: nothing to score. Look at {alignments or data}.")
    row = evaluation.row()
    result = {
        **row,
        "baseline": majority_baseline(found.classes, row),
        "skipped": corpus.skipped,
        "model": model_directory,
        "task": found.name,
        "subset": subset,
    }
    print(corpus.summary())
    print(format_scores(found.name, result))
    if json_path is not None:
        write_json(json_path, result)
        print(f"written to {json_path}")
    return result


def format_scores(task: str, result: Mapping[str, Any]) -> str:
    """Return the numbers of an evaluation as one line."""
    parts = [f"{column.title} {column.text(result)}" for column in score_columns(task, [result])]
    if result.get("baseline"):
        parts.append(f"always {result['baseline']['label']} {result['baseline']['accuracy']:.4f}")
    return "   ".join([*parts, f"{UNITS[task]} {result[UNITS[task]]:,}"])


def _check_task(directory: str, head: str, wanted: str | None) -> None:
    """Raise UserError, with the recipe that a model belongs to, if its task is not the wanted one."""
    task = next(task for task in TASKS if task.head == head)
    if wanted not in (None, task.name):
        recipe = next(other.recipe for other in TASKS if other.name == wanted)
        raise UserError(
            f"{directory} is a model of recipes/{task.recipe} (head={head!r}), and this is recipes/{recipe}: use "
            f"recipes/{task.recipe}/evaluate.py, or speechattn evaluate, which takes every model."
        )


def _check_writable(path: Path) -> None:
    """Raise UserError before the work, not after it, if the result could not be written."""
    folder = path.resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--json-out {path}: {folder} cannot be made ({error.strerror}).") from error
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--json-out {path} cannot be written: give the path of a file in a folder you may write to.")
