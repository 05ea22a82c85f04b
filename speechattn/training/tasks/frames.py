"""Frame classification: one class for every frame, such as phones, words, or speech and silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segments import IGNORE, Segment
from speechattn.framing import Framing
from speechattn.models.heads import FrameClassifier
from speechattn.training.metrics import FrameScores


@dataclass(frozen=True)
class FrameTask:
    """Targets, loss and metrics of a classifier of frames; the training loop takes them from here.

    Args:
        classes: names of the C classes, in the order of the logits.
    """

    head: ClassVar[str] = "frames"
    """The head that the model needs, as ModelConfig names it."""

    classes: tuple[str, ...]

    def targets(self, segments: Sequence[Segment], num_samples: int, framing: Framing) -> Tensor:
        """Return the labels [T] of the frames of `num_samples` samples, -100 where no segment lies.

        Raises:
            DataError: segments overlap, or a label is no class.
        """
        return frame_labels(segments, num_samples, framing, self.classes)

    def num_targets(self, labels: Tensor) -> Tensor:
        """Return how many frames of `labels` [B, T] have a label."""
        return (labels != IGNORE).sum()

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of logits [B, T, C], over the frames that have a label [B, T]."""
        return FrameClassifier.loss(logits, labels)

    def accuracy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the share of the frames with a label [B, T] whose highest logit [B, T, C] is that label."""
        return (logits.argmax(2) == labels).sum() / self.num_targets(labels).clamp(min=1)

    def scores(self) -> FrameScores:
        """Return empty scores, to be filled batch by batch."""
        return FrameScores(len(self.classes))
