"""Utterance classification: written by the branch `utterance`, which replaces this file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from speechattn.data.labelled_corpus import Corpus, LabelledUtterance
from speechattn.data.recordings import Recordings
from speechattn.framing import Framing
from speechattn.training.tasks.task import Scores


@dataclass(frozen=True)
class UtteranceTask:
    """Targets, loss and metrics of a classifier of utterances."""

    name: ClassVar[str] = "utterance"
    recipe: ClassVar[str] = "utterance_classifier"
    head: ClassVar[str] = "utterance"
    per_frame: ClassVar[bool] = False
    whole_utterances: ClassVar[bool] = False

    classes: tuple[str, ...]

    @staticmethod
    def recordings(root: Path, subset: str, labels: str, layout: str) -> Recordings | None:
        """Return the recordings of a subset with classes in their paths; None for the usual ones, labels speakers."""
        raise NotImplementedError

    @classmethod
    def of(cls, utterances: Sequence[LabelledUtterance], labels: str) -> UtteranceTask:
        """Return the task whose classes are those of the utterances."""
        raise NotImplementedError

    @classmethod
    def evaluation(
        cls, classes: tuple[str, ...], root: Path, subset: str, layout: str, max_bad: float, sample_rate: int
    ) -> tuple[UtteranceTask, Corpus]:
        """Return the task of a saved model's classes, and the utterances of a folder with labels for it."""
        raise NotImplementedError

    def targets(self, item: LabelledUtterance, framing: Framing) -> Tensor:
        """Return the class of an utterance as labels [1]."""
        raise NotImplementedError

    def num_targets(self, labels: Tensor) -> Tensor:
        """Return the number of rows with a label."""
        raise NotImplementedError

    def loss(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats of logits [B, C]."""
        raise NotImplementedError

    def accuracy(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Return the share of correct rows."""
        raise NotImplementedError

    def scores(self) -> Scores:
        """Return empty scores."""
        raise NotImplementedError

    def majority(self, labels: Iterable[Tensor]) -> int | None:
        """Return the most frequent class."""
        raise NotImplementedError
