"""Labels of a stream as segments with a beginning and an end, each as soon as it has ended: what a listener prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from speechattn.streaming.stream import FrameLabels


@dataclass(frozen=True)
class Heard:
    """A segment that is known to have ended: `label` from `start_s` to `stop_s`, with the mean of its probabilities."""

    start_s: float
    stop_s: float
    label: str
    probability: float

    def line(self, as_json: bool) -> str:
        """For a person, or one JSON object."""
        if as_json:
            return json.dumps({name: round(x, 4) if isinstance(x, float) else x for name, x in vars(self).items()})
        return f"{self.start_s:9.3f} {self.stop_s:9.3f}  {self.label:<6} {self.probability:.2f}"


class Segments:
    """Rows of labels -> segments, each as soon as it has ended.

    Neighbours with one label are one segment, unless `whole` says that every row is one, as with CTC. What is kept does
    not grow.

    Example:
        >>> segments = Segments()
        >>> first = FrameLabels((0.0, 0.01), (0.01, 0.02), ("SIL", "AA"), (0.5, 0.5))
        >>> [each.label for each in segments.add(first)], [each.label for each in segments.end()]
        (['SIL'], ['AA'])
    """

    def __init__(self, whole: bool = False) -> None:
        self._whole = whole
        self._start_s, self._stop_s, self._label, self._sum, self._count = 0.0, 0.0, "", 0.0, 0

    def add(self, labels: FrameLabels) -> Iterator[Heard]:
        """The segments that have ended with these rows."""
        rows = zip(labels.start_s, labels.stop_s, labels.labels, labels.probabilities, strict=True)
        for start_s, stop_s, label, probability in rows:
            if label != self._label or self._whole:
                yield from self.end()
                self._start_s, self._label = start_s, label
            self._stop_s, self._sum, self._count = stop_s, self._sum + probability, self._count + 1
            if self._whole:
                yield from self.end()

    def end(self) -> Iterator[Heard]:
        """The segment that nothing follows, if there is one."""
        if self._count:
            yield Heard(self._start_s, self._stop_s, self._label, self._sum / self._count)
        self._label, self._sum, self._count = "", 0.0, 0
