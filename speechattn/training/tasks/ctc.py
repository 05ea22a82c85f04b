"""CTC: written by the branch `ctc`, which replaces this file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from speechattn.data.labelled_corpus import Corpus, LabelledUtterance
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.training.tasks.task import Scores


@dataclass(frozen=True)
class CTCTask:
    """Targets, loss and metrics of sequences of labels."""

    name: ClassVar[str] = "ctc"
    recipe: ClassVar[str] = "ctc"
    head: ClassVar[str] = "ctc"
    per_frame: ClassVar[bool] = False
    whole_utterances: ClassVar[bool] = True

    classes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        utterances: Sequence[LabelledUtterance],
        labels: str,
        alignments: str | None,
        lexicon: str | None,
        stack: int,
    ) -> CTCTask:
        """Return the task of phones or characters; `stack` frames of the input become one frame of logits."""
        raise NotImplementedError

    def leave_out_unusable(self, corpus: Corpus, framing: Framing) -> None:
        """Move utterances too short for their targets, or with other characters, to `corpus.skipped`."""
        raise NotImplementedError

    @classmethod
    def evaluation(
        cls, config: ModelConfig, root: Path, subset: str, alignments: str | None, lexicon: str | None, max_bad: float
    ) -> tuple[CTCTask, Corpus]:
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
