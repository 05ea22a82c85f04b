"""Scores of a model on labelled speech: the numbers of `speechattn evaluate` and of a run's final table."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from speechattn.data.labelled_corpus import load_corpus
from speechattn.data.labels.classes import label_set
from speechattn.dtypes import like
from speechattn.errors import UserError
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.atomic_files import write_json
from speechattn.system.stop_signal import StopSignal
from speechattn.training.dataset import Example, read_examples
from speechattn.training.metrics import FrameScores, constant_accuracy
from speechattn.training.tasks.frames import FrameTask


@dataclass(frozen=True)
class Evaluation:
    """Scores on one labelled subset.

    Accuracies are shares of the `frames` that have a label; `frames_per_s` is the speed of encoder and head on
    frames that are in memory, one utterance at a time.
    """

    accuracy: float
    accuracy_no_sil: float
    always_sil: float
    loss: float
    frames: int
    utterances: int
    frames_per_s: float
    per_class: dict[str, tuple[float, int]]
    confusion: list[list[int]]


@dataclass(frozen=True)
class Baseline:
    """Accuracy of a model that gives `label` to every frame: the lower bound of any useful model."""

    label: str
    accuracy: float
    accuracy_no_sil: float

    @classmethod
    def of(cls, confusion: Sequence[Sequence[int]], classes: Sequence[str], label: int | None = None) -> Baseline:
        """Return the baseline of one class, by default the most frequent, on the reference of a confusion matrix."""
        counts = torch.tensor(confusion).sum(1)
        chosen = int(counts.argmax()) if label is None else label
        return cls(classes[chosen], *constant_accuracy(counts, chosen))


def score_examples(
    model: SpeechModel, task: FrameTask, examples: Iterable[Example], stop: StopSignal | None = None
) -> tuple[float, FrameScores]:
    """Return mean loss in nats over labelled frames, and the scores, of a model in evaluation mode."""
    scored = _score(model, task, examples, stop)
    return scored.loss, scored.scores


def evaluate_examples(
    model: SpeechModel, task: FrameTask, examples: Iterable[Example], stop: StopSignal | None = None
) -> Evaluation:
    """Return the scores of a model; each example is asked for once, and none is kept."""
    scored = _score(model, task, examples, stop)
    scores = scored.scores
    return Evaluation(
        accuracy=scores.accuracy,
        accuracy_no_sil=scores.accuracy_no_sil,
        always_sil=scores.always_silence,
        loss=scored.loss,
        frames=scores.frames,
        utterances=scored.utterances,
        frames_per_s=scored.num_frames / max(scored.seconds, 1e-9),
        per_class=scores.per_class(model.config.classes),
        confusion=scores.confusion.tolist(),
    )


class _Scored(NamedTuple):
    """Scores of a model, and what it took: frames with and without a label, and seconds of the model alone."""

    loss: float
    scores: FrameScores
    utterances: int
    num_frames: int
    seconds: float


@torch.no_grad()
def _score(model: SpeechModel, task: FrameTask, examples: Iterable[Example], stop: StopSignal | None) -> _Scored:
    was_training = model.training
    model.eval()
    device = like(model).device
    scores = task.scores()
    total, seconds, utterances, num_frames = 0.0, 0.0, 0, 0
    for example in examples:
        if stop is not None:
            stop.poll()
        frames, labels = example.frames, example.labels[None]
        begin = time.perf_counter()
        logits = model.classify(frames[None].to(device))[0].cpu()
        total += float(task.loss(logits, labels)) * int(task.num_targets(labels))
        scores.update(logits, labels)
        seconds += time.perf_counter() - begin
        utterances, num_frames = utterances + 1, num_frames + labels.shape[1]
    model.train(was_training)
    return _Scored(total / max(1, scores.frames), scores, utterances, num_frames, seconds)


def evaluate_directory(
    model_directory: str, data: str, subset: str, alignments: str | None, json_path: str | None, max_bad: float = 0.0
) -> dict[str, Any]:
    """Score a saved model on a labelled subset, print it and write it as JSON.

    The classes of the model decide which labels are read. A model of speech and silence needs no alignments: its
    reference is then the detector of energy_vad.py. Utterances without an alignment are counted under "skipped".
    `max_bad` is the share of unusable recordings that is accepted.

    Raises:
        UserError, DataError: the model, the data or the path of the JSON cannot be used.
    """
    if not 0 <= max_bad <= 1:
        raise UserError(f"--max-bad must be a share from 0 to 1, got {max_bad:g}.")
    if json_path is not None:
        _check_writable(Path(json_path))
    model = load(model_directory)
    if model.config.head != FrameTask.head:
        raise UserError(
            f"{model_directory} is a model with head={model.config.head!r}, whose labels have no frames, and evaluate "
            f'scores frames: give it a model with head="{FrameTask.head}". Sequences are compared after sa.CTC.decode.'
        )
    labels = label_set(model.config.classes)
    if alignments is None and labels != "speech":
        raise UserError(
            f"--alignments DIR is missing: {model_directory} labels {labels}, and only speech needs none. "
            "speechattn align makes them from transcripts."
        )
    corpus = load_corpus(
        data, subset, alignments, model.config.classes, max_bad, sample_rate=model.config.framing.sample_rate
    )
    task = FrameTask(model.config.classes)
    scores = evaluate_examples(model, task, read_examples(corpus, model.frontend, task))
    if not scores.frames:
        raise UserError(f"no frame of {subset} has a label: nothing to score. Look at {alignments or data}.")
    baseline = Baseline.of(scores.confusion, task.classes)
    result = {
        **asdict(scores),
        "baseline": asdict(baseline),
        "skipped": corpus.skipped,
        "model": model_directory,
        "subset": subset,
    }
    print(corpus.summary())
    print(
        f"accuracy {result['accuracy']:.4f}   without silence {result['accuracy_no_sil']:.4f}   "
        f"always {baseline.label} {baseline.accuracy:.4f}   frames {result['frames']:,}"
    )
    if json_path is not None:
        write_json(json_path, result)
        print(f"written to {json_path}")
    return result


def _check_writable(path: Path) -> None:
    """Raise UserError before the work, not after it, if the result could not be written."""
    folder = path.resolve().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--json-out {path}: {folder} cannot be made ({error.strerror}).") from error
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise UserError(f"--json-out {path} cannot be written: give the path of a file in a folder you may write to.")
