"""Error rates of sequences, counted by jiwer: of labels, and for characters of words, too.

An error rate is (substitutions + insertions + deletions) / labels of the reference; it can be above 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jiwer
from torch import Tensor

from speechattn.data.labels.segments import IGNORE
from speechattn.data.labels.text_targets import CHARACTERS, target_text
from speechattn.errors import UserError
from speechattn.models.heads import CTC

MAX_CONFUSIONS = 60
"""Confusions that a summary lists, the most frequent first."""


class Edit(NamedTuple):
    """One column of an alignment: a label of the reference over one of the hypothesis; "" is a gap."""

    reference: str
    hypothesis: str


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Edit]:
    """Return the alignment of two sequences of labels with the fewest errors.

    Examples:
        >>> [tuple(edit) for edit in align(["HH", "AY", "D"], ["HH", "EY", "D", "Z"])]
        [('HH', 'HH'), ('AY', 'EY'), ('D', 'D'), ('', 'Z')]
    """
    columns = []
    for chunk in jiwer.process_words(" ".join(reference), " ".join(hypothesis)).alignments[0]:
        above = reference[chunk.ref_start_idx : chunk.ref_end_idx]
        below = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        for i in range(max(len(above), len(below))):
            columns.append(Edit(above[i] if above else "", below[i] if below else ""))
    return columns


class ErrorCounts:
    """Counts of hits and errors over many pairs of sequences.

    Examples:
        >>> counts = ErrorCounts()
        >>> counts.add(["a", "b", "c", "d"], ["a", "x", "c"])
        >>> counts.labels, counts.substitutions, counts.deletions, counts.error_rate
        (4, 1, 1, 0.5)
    """

    def __init__(self) -> None:
        self.labels = self.substitutions = self.insertions = self.deletions = 0
        self.confusions: Counter[Edit] = Counter()

    def add(self, reference: Sequence[str], hypothesis: Sequence[str]) -> None:
        """Count one pair; an empty reference has insertions only."""
        self.labels += len(reference)
        for edit in align(reference, hypothesis):
            if edit.reference != edit.hypothesis:
                self.confusions[edit] += 1
                self.insertions += not edit.reference
                self.deletions += not edit.hypothesis
                self.substitutions += bool(edit.reference and edit.hypothesis)

    @property
    def errors(self) -> int:
        """Substitutions, insertions and deletions."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def error_rate(self) -> float:
        """Errors per label of the reference; NaN without labels."""
        return self.errors / self.labels if self.labels else math.nan


class CTCScores:
    """Error rates of the best path (greedy decoding), of labels, and of words if the classes are characters.

    Args:
        classes: names of the C classes; the first is the blank.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.tokens = ErrorCounts()
        self.words = ErrorCounts() if self.classes == CHARACTERS else None
        self.utterances = 0

    def update(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> None:
        """Count a batch of log probabilities [B, T, C] with lengths [B], and labels [B, L] padded with -100.

        Raises:
            UserError: there is NaN before a length.
        """
        for row, length in zip(logits, lengths.tolist(), strict=True):
            if bool(row[:length].isnan().any()):
                raise UserError("log probabilities hold NaN: the model has diverged, or its input holds NaN.")
        for best, row in zip(CTC.decode(logits, lengths), labels, strict=True):
            self.add(self._names(row[row != IGNORE].tolist()), self._names(best))

    def add(self, reference: Sequence[str], hypothesis: Sequence[str]) -> None:
        """Count a pair of sequences of class names."""
        self.utterances += 1
        self.tokens.add(reference, hypothesis)
        if self.words is not None:
            self.words.add(target_text(reference).split(), target_text(hypothesis).split())

    @property
    def count(self) -> int:
        """Labels of the references."""
        return self.tokens.labels

    @property
    def accuracy(self) -> float:
        """1 - error rate of labels; NaN without labels, below 0 with more errors than labels."""
        return 1 - self.tokens.error_rate

    def curve(self) -> dict[str, float]:
        """Return accuracy and error rates."""
        rates = {"accuracy": self.accuracy, "error_rate": self.tokens.error_rate}
        return rates if self.words is None else {**rates, "word_error_rate": self.words.error_rate}

    def summary(self) -> dict[str, Any]:
        """Return rates, counts, and the most frequent confusions as [reference, hypothesis, count]; "" is a gap."""
        tokens = self.tokens
        pairs = sorted(tokens.confusions.items(), key=lambda item: (-item[1], item[0]))[:MAX_CONFUSIONS]
        words = {} if self.words is None else {"character_error_rate": tokens.error_rate, "words": self.words.labels}
        return {
            **self.curve(),
            **words,
            "labels": tokens.labels,
            "utterances": self.utterances,
            "substitutions": tokens.substitutions,
            "insertions": tokens.insertions,
            "deletions": tokens.deletions,
            "confusions": [[*edit, count] for edit, count in pairs],
        }

    def _names(self, indices: Sequence[int]) -> list[str]:
        return [self.classes[index] for index in indices]
