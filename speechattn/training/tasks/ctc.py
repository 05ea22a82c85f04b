"""N -> M: a sequence of phones or characters, shorter than the frames, from transcripts without times (CTC).

Graves et al. 2006, "Connectionist temporal classification". Class 0 is the blank.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from speechattn.data.labelled_corpus import Corpus, LabelledUtterance, load_corpus
from speechattn.data.labels.classes import PHONES
from speechattn.data.labels.segments import IGNORE
from speechattn.data.labels.text_targets import CHARACTERS, PHONE_TARGETS, num_frames_needed
from speechattn.decoding.ngram import NGram
from speechattn.errors import DataError
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.heads import CTC
from speechattn.training.tasks.ctc_scores import CTCScores
from speechattn.training.tasks.ctc_targets import Targets, UnknownCharacters, targets_of

TOO_SHORT = "too short for its targets"
CLASSES = {"phones": PHONE_TARGETS, "characters": CHARACTERS}
"""The classes of TrainConfig.labels."""


class CTCTask:
    """Targets, loss and scores of a model whose output is a sequence.

    Args:
        targets: gives the labels of each utterance.
        stack: frames that the encoder joins to one, which limits the number of labels.
    """

    name: ClassVar[str] = "ctc"
    recipe: ClassVar[str] = "ctc"
    head: ClassVar[str] = "ctc"
    per_frame: ClassVar[bool] = False
    whole_utterances: ClassVar[bool] = True

    def __init__(self, targets: Targets, stack: int = 1) -> None:
        self._targets, self.stack = targets, stack
        self._read: dict[str, dict[str, list[int]]] = {}
        self._index = {name: index for index, name in enumerate(targets.classes)}

    @classmethod
    def of(
        cls,
        utterances: Iterable[LabelledUtterance],
        labels: str,
        alignments: str | None = None,
        lexicon: str | None = None,
        stack: int = 1,
        unknown: UnknownCharacters = "stop",
    ) -> CTCTask:
        """Return the task of a run with `labels` phones or characters; its classes do not depend on the utterances."""
        return cls(targets_of(CLASSES[labels], alignments, lexicon, unknown), stack)

    @classmethod
    def evaluation(
        cls,
        config: ModelConfig,
        root: Path,
        subset: str,
        alignments: str | None = None,
        lexicon: str | None = None,
        max_bad: float = 0.0,
        unknown: UnknownCharacters = "stop",
    ) -> tuple[CTCTask, Corpus]:
        """Return the task of a saved model, and the utterances of a folder with transcripts or alignments.

        Raises:
            UserError: the classes are neither phones nor characters, or phones need espeak-ng or a lexicon.
            DataError: no utterance can be used.
        """
        task = cls(targets_of(config.classes, alignments, lexicon, unknown), config.encoder.stack)
        aligned = alignments is not None and task.classes == PHONE_TARGETS
        corpus = load_corpus(
            root,
            subset,
            alignments if aligned else None,
            PHONES if aligned else (),
            max_bad,
            sample_rate=config.framing.sample_rate,
        )
        task.leave_out_unusable(corpus, config.framing)
        return task, corpus

    @property
    def classes(self) -> tuple[str, ...]:
        """The blank, and the names of the labels."""
        return self._targets.classes

    def leave_out_unusable(self, corpus: Corpus, framing: Framing) -> None:
        """Read the targets of a corpus; move utterances without any, or with too many for their frames, to `skipped`.

        Raises:
            DataError: transcripts have characters outside the alphabet, or no utterance is left.
        """
        missing = self._targets.read(corpus.utterances)
        for item in list(corpus.utterances):
            if item.id in missing:
                corpus.skip(item.id, *missing[item.id])
                continue
            frames = framing.num_frames(item.num_samples) // self.stack
            needed = num_frames_needed(self._targets.labels(item))
            if frames < needed:
                corpus.skip(item.id, TOO_SHORT, f"{frames} frames of the encoder, its targets need {needed}")
        self._read[corpus.subset] = {item.id: self._indices(item) for item in corpus.utterances}
        if not corpus.utterances:
            reasons = "; ".join(f"{reason}: {len(ids)}" for reason, ids in corpus.skipped.items())
            raise DataError(f"no utterance of {corpus.subset} can be used: {reasons or 'it is empty'}.")

    def targets(self, item: LabelledUtterance, framing: Framing) -> Tensor:
        """Return the labels [L] of an utterance, classes from 1 on; its corpus went through `leave_out_unusable`."""
        return torch.tensor(self._indices(item), dtype=torch.int64)

    def ngram(self, subset: str, held_out: Collection[str], order: int) -> NGram:
        """Return an n-gram of the targets of a subset that was read, without the utterances `held_out`, by id."""
        read = self._read[subset]
        sequences = ([self.classes[index] for index in row] for id, row in read.items() if id not in held_out)
        return NGram.estimate(sequences, self.classes[1:], order)

    def num_targets(self, labels: Tensor) -> Tensor:
        """Return the number of rows of `labels` [B, L]: the loss is a mean over utterances."""
        return torch.tensor(len(labels))

    def loss(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over utterances of the negative log likelihood per label, in nats.

        `logits` are the log probabilities [B, T, C] of the head, with `lengths` [B]. An utterance that was played too
        fast for its targets costs 0.
        """
        return self._head.loss(logits, lengths, labels.clamp(min=0), (labels != IGNORE).sum(1))

    def accuracy(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> Tensor:
        """Return 1 - error rate of the best path over the batch, at least 0."""
        scores = self.scores()
        scores.update(logits.nan_to_num(), lengths, labels)
        return torch.tensor(max(0.0, scores.accuracy) if scores.count else 0.0)

    def scores(self) -> CTCScores:
        """Return empty scores."""
        return CTCScores(self.classes)

    def majority(self, labels: Iterable[Tensor]) -> None:
        """Return None: no single label is an answer."""

    def _indices(self, item: LabelledUtterance) -> list[int]:
        return [self._index[label] for label in self._targets.labels(item)]

    @cached_property
    def _head(self) -> CTC:
        """The head of a model with these classes, for its loss; without memory for weights."""
        with torch.device("meta"):
            return CTC(1, len(self.classes))
