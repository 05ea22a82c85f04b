"""Where two sequences of labelled segments disagree, in seconds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol


class Labelled(Protocol):
    """A label from `start_s` to `stop_s`, in seconds: what `speechattn.data.labels.segments.Segment` is."""

    @property
    def start_s(self) -> float:
        """Beginning, in seconds."""

    @property
    def stop_s(self) -> float:
        """End, in seconds."""

    @property
    def label(self) -> str:
        """Name of the class."""


def disagreements(reference: Sequence[Labelled], predicted: Sequence[Labelled]) -> list[tuple[float, float]]:
    """Return where a prediction differs from the reference: (start, stop) in seconds, neighbours joined.

    Time that only one of the two covers is not compared.
    """
    wrong: list[tuple[float, float]] = []
    for start, stop, truth, guess in overlaps(reference, predicted):
        if truth == guess:
            continue
        if wrong and math.isclose(wrong[-1][1], start, abs_tol=1e-6):
            start = wrong.pop()[0]
        wrong.append((start, stop))
    return wrong


def overlaps(reference: Sequence[Labelled], predicted: Sequence[Labelled]) -> list[tuple[float, float, str, str]]:
    """Return the intervals that both label: (start, stop, reference label, predicted label), in order of time."""
    found = []
    first = sorted(reference, key=lambda segment: segment.start_s)
    second = sorted(predicted, key=lambda segment: segment.start_s)
    i = j = 0
    while i < len(first) and j < len(second):
        start, stop = max(first[i].start_s, second[j].start_s), min(first[i].stop_s, second[j].stop_s)
        if stop - start > 1e-9:
            found.append((start, stop, first[i].label, second[j].label))
        if first[i].stop_s < second[j].stop_s:
            i += 1
        else:
            j += 1
    return found
