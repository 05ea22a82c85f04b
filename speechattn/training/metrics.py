"""Accuracy of labels of frames or utterances. Nothing here trains, draws or prints.

Conventions of every function:

- labels are [B, T] int64 (any leading shape), -100 marks a frame that does not count: padding, or no label;
- a confusion matrix is [C, C] int64, **reference in rows**, prediction in columns;
- accuracies are shares in [0, 1] of the frames that count; over 0 frames they are NaN, never 0 or 1;
- "without silence" leaves out frames whose *reference* is silence, so predicting silence in speech still costs.

The structure of the file (conventions, validate, metric) follows mir_eval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from speechattn.data.labels.segments import IGNORE
from speechattn.errors import UserError


def validate(predicted: Tensor, labels: Tensor, num_classes: int) -> None:
    """Check the arguments of `ClassScores.update`: predictions of the labels' shape, classes in [0, num_classes).

    Raises:
        TypeError: predictions or labels are not integers.
        ValueError: shapes differ, or a class that counts is outside [0, num_classes).
    """
    for name, value in (("predictions", predicted), ("labels", labels)):
        if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
            raise TypeError(f"{name} must be integer classes, got {value.dtype}.")
    if predicted.shape != labels.shape:
        raise ValueError(
            f"predictions {list(predicted.shape)} and labels {list(labels.shape)} must have the same shape; "
            "logits have one axis more, the classes."
        )
    counted = labels != IGNORE
    for name, value in (("labels", labels[counted]), ("predictions", predicted[counted])):
        wrong = value[(value < 0) | (value >= num_classes)]
        if wrong.numel():
            raise ValueError(f"{name} must be in [0, {num_classes}), or {IGNORE} to ignore; got {int(wrong[0])}.")


class ClassScores:
    """A confusion matrix that grows batch by batch, and the accuracies read from it.

    Args:
        num_classes: C.
        silence: the class that `accuracy_no_sil` leaves out and `always_silence` predicts.

    Examples:
        >>> scores = ClassScores(num_classes=3)
        >>> scores.update(torch.tensor([[0, 1, 2, 2]]), torch.tensor([[0, 1, 1, -100]]))
        >>> scores.count, round(scores.accuracy, 3), scores.accuracy_no_sil
        (3, 0.667, 0.5)
    """

    def __init__(self, num_classes: int, silence: int = 0) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be 1 or more, got {num_classes}.")
        if not 0 <= silence < num_classes:
            raise ValueError(f"silence must be a class in [0, {num_classes}), got {silence}.")
        self.num_classes = num_classes
        self.silence = silence
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count a batch: `predicted` is logits [B, T, C] or classes [B, T]; `labels` is [B, T], -100 ignored.

        Predictions at ignored frames may hold anything, NaN included. If it raises, nothing is counted.

        Raises:
            TypeError, ValueError: see `validate`; logits with another number of classes; NaN at a frame that counts.
        """
        if predicted.ndim == labels.ndim + 1:
            predicted = self._best_classes(predicted, labels)
        validate(predicted, labels, self.num_classes)
        counted = labels != IGNORE
        pairs = labels[counted].long() * self.num_classes + predicted[counted].long()
        counts = torch.bincount(pairs, minlength=self.num_classes**2)
        self.confusion += counts.view(self.num_classes, self.num_classes).cpu()

    def _best_classes(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the classes [B, T] with the highest logit. NaN is an error, because argmax would choose it."""
        if logits.shape[-1] != self.num_classes:
            raise ValueError(f"logits must have {self.num_classes} classes on the last axis, got {list(logits.shape)}.")
        if logits.shape[:-1] == labels.shape and bool(logits.isnan().any(-1)[labels != IGNORE].any()):
            raise UserError("logits hold NaN at frames that count: the model has diverged, or its input holds NaN.")
        return logits.argmax(-1)

    @property
    def count(self) -> int:
        """Labels counted."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Share of frames with the correct label."""
        return _share(int(self.confusion.diagonal().sum()), self.count)

    @property
    def accuracy_no_sil(self) -> float:
        """Share of correct labels among the frames whose reference is not silence."""
        right = int(self.confusion.diagonal().sum() - self.confusion[self.silence, self.silence])
        return _share(right, self.count - int(self.confusion[self.silence].sum()))

    @property
    def always_silence(self) -> float:
        """Accuracy of a model that predicts silence at every frame."""
        return constant_accuracy(self.confusion.sum(1), self.silence, self.silence)[0]

    def per_class(self, classes: Sequence[str]) -> dict[str, tuple[float, int]]:
        """Return class name -> (recall, reference frames)."""
        return per_class(self.confusion, classes)

    def __repr__(self) -> str:
        return f"ClassScores({self.count} labels, accuracy {self.accuracy:.3f}, no sil {self.accuracy_no_sil:.3f})"


def per_class(confusion: Tensor, classes: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Return class name -> (recall, reference frames) of a confusion matrix [C, C]; recall is NaN for 0 frames.

    Examples:
        >>> per_class(torch.tensor([[3, 1], [0, 2]]), ["SIL", "AA"])
        {'SIL': (0.75, 4), 'AA': (1.0, 2)}
    """
    if confusion.shape != (len(classes), len(classes)):
        raise ValueError(f"a confusion matrix of {len(classes)} classes is square, got {list(confusion.shape)}.")
    right, total = confusion.diagonal().tolist(), confusion.sum(1).tolist()
    return {name: (_share(hit, count), int(count)) for name, hit, count in zip(classes, right, total, strict=True)}


def constant_accuracy(counts: Tensor, label: int, silence: int = 0) -> tuple[float, float]:
    """Return (accuracy, accuracy without silence) of a model that gives `label` to every frame.

    `counts` [C] is the reference: frames of each class.

    Examples:
        >>> constant_accuracy(torch.tensor([4, 6, 2]), 1)
        (0.5, 0.75)
    """
    right, total, silent = int(counts[label]), int(counts.sum()), int(counts[silence])
    return _share(right, total), _share(0 if label == silence else right, total - silent)


def most_frequent(labels: Iterable[Tensor], num_classes: int) -> int:
    """Return the most frequent class in tensors of labels; frames of -100 do not count."""
    counts = torch.zeros(num_classes, dtype=torch.int64)
    for row in labels:
        counts += torch.bincount(row[row != IGNORE], minlength=num_classes)
    return int(counts.argmax())


def _share(part: int, whole: int) -> float:
    """Return part / whole, NaN for a whole of 0."""
    return part / whole if whole else math.nan
