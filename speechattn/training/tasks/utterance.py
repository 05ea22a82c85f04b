"""Utterance classification: one class for a whole recording, such as the digit that is spoken, or who speaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from speechattn.data.class_folder import AUTO, ClassFolder
from speechattn.data.labelled_corpus import Corpus, LabelledUtterance, load_corpus
from speechattn.data.labels.segments import IGNORE
from speechattn.data.recordings import Recordings
from speechattn.errors import DataError
from speechattn.framing import Framing
from speechattn.models.heads import UtteranceClassifier
from speechattn.training.metrics import ClassScores, most_frequent

MAX_NAMES = 10
"""Classes that a message lists."""


@dataclass(frozen=True)
class UtteranceTask:
    """Targets, loss and metrics of a classifier of utterances.

    Args:
        classes: names of the C classes, in the order of the logits.
        labels: "classes", which the paths of the recordings have, or "speakers".
    """

    name: ClassVar[str] = "utterance"
    recipe: ClassVar[str] = "utterance_classifier"
    head: ClassVar[str] = "utterance"
    per_frame: ClassVar[bool] = False
    whole_utterances: ClassVar[bool] = False

    classes: tuple[str, ...]
    labels: str = "classes"

    @staticmethod
    def recordings(root: Path, subset: str, labels: str, layout: str = AUTO) -> Recordings | None:
        """Return the recordings of a subset with classes in their paths; None for the usual ones, labels speakers.

        Raises:
            DataError: the folder, its layout or its classes cannot be used.
        """
        if labels == "speakers":
            return None
        folder = ClassFolder(root / subset if subset not in ("", ".") else root, layout)
        folder.warn_of_sample_rates()
        return folder

    @classmethod
    def of(cls, utterances: Sequence[LabelledUtterance], labels: str) -> UtteranceTask:
        """Return the task whose classes are those of the utterances; numbers are in their order, then other names.

        Raises:
            DataError: they have fewer than two classes.
        """
        task = cls((), labels)
        names = sorted({task.label(item) for item in utterances}, key=_order)
        if len(names) < 2:
            found = f"{len(names)} ({names[0]})" if names else "none"
            what = "speakers" if labels == "speakers" else "classes"
            raise DataError(f"a classifier of utterances needs two {what} or more, and the recordings have {found}.")
        return cls(tuple(names), labels)

    @classmethod
    def evaluation(
        cls, classes: tuple[str, ...], root: Path, subset: str, layout: str, max_bad: float, sample_rate: int
    ) -> tuple[UtteranceTask, Corpus]:
        """Return the task of a saved model's classes, and the utterances of a folder with labels for it.

        A folder in LibriSpeech's layout is labelled with its speakers. Utterances of classes that the model does not
        have are left out and counted; a line names the model's classes that the folder does not have.

        Raises:
            DataError: the folder cannot be read, or has no class of the model.
        """
        task = cls(classes, "speakers" if _is_librispeech(root, subset) else "classes")
        recordings = cls.recordings(root, subset, task.labels, layout)
        corpus = load_corpus(
            root, subset, None, (), max_bad, sample_rate=sample_rate, recordings=recordings, needs_words=False
        )
        present = {task.label(item) for item in corpus.utterances}
        if present.isdisjoint(classes):
            raise DataError(
                f"no recording of {corpus.subset} has a class of the model: the folder has {_listed(present)}, the "
                f"model {_listed(classes)}."
            )
        if unknown := [item for item in corpus.utterances if task.label(item) not in classes]:
            known = [item for item in corpus.utterances if task.label(item) in classes]
            corpus.utterances = []  # else `skip` searches all of them for each
            for item in unknown:
                corpus.skip(item.id, f"{task.label(item)!r} is no class of the model")
            corpus.utterances = known
        if missing := [name for name in classes if name not in present]:
            count = f"{len(missing)} of the model's {len(classes)} classes"
            print(f"{corpus.subset}: {count} do not occur: {_listed(missing)}")
        return task, corpus

    def label(self, item: LabelledUtterance) -> str:
        """Return the name of the class of an utterance."""
        return item.speaker if self.labels == "speakers" else item.utterance.label

    def check_training(self, utterances: Sequence[LabelledUtterance]) -> None:
        """Raise DataError if a class has no utterance to train on."""
        counts = Counter(self.label(item) for item in utterances)
        if empty := [name for name in self.classes if not counts[name]]:
            verb = "has" if len(empty) == 1 else "have"
            raise DataError(
                f"{_listed(empty)} {verb} no training example, only held-out ones: a model cannot learn such a class. "
                "Remove its recordings, or hold out other speakers (--valid-speakers, --valid-fraction, --split-seed)."
            )

    def targets(self, item: LabelledUtterance, framing: Framing) -> Tensor:
        """Return the class of an utterance as labels [1].

        Raises:
            DataError: its class is not among those of the training data.
        """
        name = self.label(item)
        if name not in self.classes:
            raise DataError(f"utterance {item.id} has the class {name!r}, which the training data do not have.")
        return torch.tensor([self.classes.index(name)])

    def num_targets(self, labels: Tensor) -> Tensor:
        """Return how many rows of labels [B, 1] have a label."""
        return (labels != IGNORE).sum()

    def loss(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of logits [B, C], over the rows of labels [B, 1] that have one."""
        return UtteranceClassifier.loss(logits, labels[:, 0])

    def accuracy(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Return the share of the rows with a label [B, 1] whose highest logit [B, C] is that label."""
        return (logits.argmax(1) == labels[:, 0]).sum() / self.num_targets(labels).clamp(min=1)

    def scores(self) -> UtteranceScores:
        """Return empty scores, to be filled batch by batch."""
        return UtteranceScores(self.classes)

    def majority(self, labels: Iterable[Tensor]) -> int:
        """Return the most frequent class of labels [1]."""
        return most_frequent(labels, len(self.classes))


class UtteranceScores:
    """Accuracy of utterances and a confusion matrix.

    Args:
        classes: names of the C classes.

    Examples:
        >>> scores = UtteranceScores(("no", "yes"))
        >>> scores.update(torch.tensor([[2.0, 1.0], [0.0, 1.0]]), torch.tensor([9, 8]), torch.tensor([[0], [0]]))
        >>> scores.accuracy, scores.summary()["confusion"]
        (0.5, [[1, 1], [0, 0]])
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._counts = ClassScores(len(classes))

    def update(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> None:
        """Count a batch of logits [B, C] and labels [B, 1]."""
        self._counts.update(logits, labels[:, 0])

    @property
    def count(self) -> int:
        """Utterances with a label."""
        return self._counts.count

    @property
    def accuracy(self) -> float:
        """Share of utterances with the correct label."""
        return self._counts.accuracy

    def curve(self) -> dict[str, float]:
        """Return the accuracy."""
        return {"accuracy": self.accuracy}

    def summary(self) -> dict[str, Any]:
        """Return the accuracy, that of a guess, the number of utterances, recall of each class, and the confusion."""
        return {
            **self.curve(),
            "chance": 1 / len(self.classes),
            "utterances": self.count,
            "per_class": self._counts.per_class(self.classes),
            "confusion": self._counts.confusion.tolist(),
        }


def _order(name: str) -> tuple[bool, int, str]:
    """Return a sort key that puts numbers first, in their order."""
    number = name.isdecimal() and name.isascii()
    return not number, int(name) if number else 0, name


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names, key=_order)
    return ", ".join(ordered[:MAX_NAMES]) + (", ..." if len(ordered) > MAX_NAMES else "")


def _is_librispeech(root: Path, subset: str) -> bool:
    """Return whether a subset, "" for `root` itself, has LibriSpeech's transcripts."""
    bases = [root / subset, root / "LibriSpeech" / subset] if subset not in ("", ".") else [root]
    return any(next(base.glob("*/*/*.trans.txt"), None) is not None for base in bases)
