"""Frame classification: one class for every frame, such as phones, words, or speech and silence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segments import IGNORE
from speechattn.framing import Framing
from speechattn.models.heads import FrameClassifier
from speechattn.training.metrics import ClassScores, most_frequent


@dataclass(frozen=True)
class FrameTask:
    """Targets, loss and metrics of a classifier of frames.

    Args:
        classes: names of the C classes, in the order of the logits.
    """

    name: ClassVar[str] = "frames"
    recipe: ClassVar[str] = "frame_classifier"
    head: ClassVar[str] = "frames"
    per_frame: ClassVar[bool] = True
    whole_utterances: ClassVar[bool] = False

    classes: tuple[str, ...]

    def targets(self, item: LabelledUtterance, framing: Framing) -> Tensor:
        """Return the labels [T] of the frames of an utterance, -100 where no segment lies.

        Raises:
            DataError: segments overlap, or a label is no class.
        """
        return frame_labels(item.segments, item.num_samples, framing, self.classes)

    def num_targets(self, labels: Tensor) -> Tensor:
        """Return how many frames of `labels` [B, T] have a label."""
        return (labels != IGNORE).sum()

    def loss(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of logits [B, T, C], over the frames that have a label [B, T]."""
        return FrameClassifier.loss(logits, labels)

    def accuracy(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Return the share of the frames with a label [B, T] whose highest logit [B, T, C] is that label."""
        return (logits.argmax(2) == labels).sum() / self.num_targets(labels).clamp(min=1)

    def scores(self) -> FrameScores:
        """Return empty scores, to be filled batch by batch."""
        return FrameScores(self.classes)

    def majority(self, labels: Iterable[Tensor]) -> int:
        """Return the most frequent class of labels [T]."""
        return most_frequent(labels, len(self.classes))


class FrameScores:
    """Accuracy of frames, with and without silence, and a confusion matrix.

    Args:
        classes: names of the C classes; the first is silence.
    """

    def __init__(self, classes: tuple[str, ...]) -> None:
        self.classes = classes
        self._counts = ClassScores(len(classes))

    def update(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> None:
        """Count a batch of logits [B, T, C] and labels [B, T]."""
        self._counts.update(logits, labels)

    @property
    def count(self) -> int:
        """Frames with a label."""
        return self._counts.count

    @property
    def accuracy(self) -> float:
        """Share of frames with the correct label."""
        return self._counts.accuracy

    def curve(self) -> dict[str, float]:
        """Return accuracy, and accuracy without silence."""
        return {"accuracy": self.accuracy, "accuracy_no_sil": self._counts.accuracy_no_sil}

    def summary(self) -> dict[str, Any]:
        """Return accuracies, the number of frames, the recall of each class and the confusion matrix."""
        return {
            **self.curve(),
            "frames": self.count,
            "always_sil": self._counts.always_silence,
            "per_class": self._counts.per_class(self.classes),
            "confusion": self._counts.confusion.tolist(),
        }
