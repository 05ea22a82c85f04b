"""Segments: the labels of a stream as segments with a start and a stop, each as soon as it has ended."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from speechattn.streaming.labels import FrameLabels


@dataclass(frozen=True)
class LabelledSegment:
    """A segment that has ended: `label` holds from `start_s` until just before `stop_s`."""

    start_s: float
    """Seconds since the first sample."""
    stop_s: float
    """Seconds since the first sample."""
    label: str
    """Name of the class."""
    probability: float
    """Mean of the probabilities of its rows, in [0, 1]."""

    def line(self, as_json: bool) -> str:
        """Return the segment as a line of text, or as one JSON object."""
        if as_json:
            return json.dumps({name: round(x, 4) if isinstance(x, float) else x for name, x in asdict(self).items()})
        return f"{self.start_s:9.3f} {self.stop_s:9.3f}  {self.label:<6} {self.probability:.2f}"


class Segments:
    """A converter from rows of labels to segments, in constant memory.

    Consecutive rows with one label are one segment, unless `whole`: then every row is a segment, as with CTC.

    Examples:
        >>> segments = Segments()
        >>> first = FrameLabels((0.0, 0.01), (0.01, 0.02), ("SIL", "AA"), (0.5, 0.5))
        >>> [each.label for each in segments.add(first)], [each.label for each in segments.end()]
        (['SIL'], ['AA'])
    """

    def __init__(self, whole: bool = False) -> None:
        self._whole = whole
        self._start_s, self._stop_s, self._label, self._sum, self._count = 0.0, 0.0, "", 0.0, 0

    def add(self, labels: FrameLabels) -> list[LabelledSegment]:
        """Return the segments that have ended with these rows."""
        ended: list[LabelledSegment] = []
        rows = zip(labels.start_s, labels.stop_s, labels.labels, labels.probabilities, strict=True)
        for start_s, stop_s, label, probability in rows:
            if label != self._label or self._whole:
                ended += self.end()
                self._start_s, self._label = start_s, label
            self._stop_s, self._sum, self._count = stop_s, self._sum + probability, self._count + 1
            if self._whole:
                ended += self.end()
        return ended

    def end(self) -> list[LabelledSegment]:
        """Return the segment that is still open, if there is one, and close it."""
        ended: list[LabelledSegment] = []
        if self._count:
            ended.append(LabelledSegment(self._start_s, self._stop_s, self._label, self._sum / self._count))
        self._label, self._sum, self._count = "", 0.0, 0
        return ended
