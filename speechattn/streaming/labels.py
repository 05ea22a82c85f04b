"""FrameLabels: the rows of labels that a stream returns, with their times and probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, groupby

from speechattn.data.labels.segments import Segment


@dataclass(frozen=True)
class FrameLabels:
    """Labels that are final, in order: columns of equal length, one row a frame, or with CTC one row a label."""

    start_s: tuple[float, ...] = ()
    """Where each label begins, in seconds since the first sample."""
    stop_s: tuple[float, ...] = ()
    """Where each label ends, in seconds since the first sample."""
    labels: tuple[str, ...] = ()
    """Names of the classes."""
    probabilities: tuple[float, ...] = ()
    """Probability of each label, in [0, 1]."""

    def __len__(self) -> int:
        return len(self.labels)

    def __add__(self, later: FrameLabels) -> FrameLabels:
        """Return these rows followed by those of a later push."""
        columns = ("start_s", "stop_s", "labels", "probabilities")
        return FrameLabels(*(getattr(self, name) + getattr(later, name) for name in columns))

    @property
    def segments(self) -> list[Segment]:
        """Runs of the same label as segments in seconds. With CTC, whose blanks leave gaps, each label is its own."""
        gaps = accumulate(start > stop for start, stop in zip(self.start_s, (0.0, *self.stop_s), strict=False))
        keys = list(zip(self.labels, gaps, strict=True))
        runs = (list(run) for _, run in groupby(range(len(self)), key=keys.__getitem__))
        return [Segment(self.start_s[run[0]], self.stop_s[run[-1]], self.labels[run[0]]) for run in runs]
