"""The types of the data: a segment of time with a label, an alignment, an utterance with a speaker.

Times are seconds; frame_labels.py converts them to frames through `Framing`. The names follow lhotse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechattn.errors import DataError
from speechattn.framing import Framing
from speechattn.system.renamed_arguments import renamed

IGNORE = -100
"""The label of a frame that losses and scores ignore: torch's `ignore_index`."""

SILENCE = "SIL"
"""The first class of every label set."""

MAX_OVERLAP_S = Framing().hop_ms / 1000
"""Largest overlap of two segments, one frame, that `sort_segments` removes."""

FaultHandler = Callable[[str, DataError], object]
"""What a reader of alignments calls with an utterance that it cannot read, and why."""


@renamed(start="start_s", stop="stop_s")
@dataclass(frozen=True)
class Segment:
    """A label over the half-open span of time [start_s, stop_s), in seconds.

    Raises:
        ValueError: a time is negative or not finite, or stop_s is before start_s.

    Examples:
        >>> Segment(0.5, 0.75, "AH").duration
        0.25
    """

    start_s: float
    stop_s: float
    label: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start_s) and math.isfinite(self.stop_s)):
            raise ValueError(f"Segment times must be finite seconds, got {self.start_s} to {self.stop_s}.")
        if self.start_s < 0:
            raise ValueError(f"Segment must start at 0 s or later, got {self.start_s}.")
        if self.stop_s < self.start_s:
            raise ValueError(f"Segment must not stop before it starts, got {self.start_s} to {self.stop_s}.")

    @property
    def duration(self) -> float:
        """Seconds from start_s to stop_s."""
        return self.stop_s - self.start_s

    if not TYPE_CHECKING:  # a type checker would take every name

        def __getattr__(self, name: str) -> Any:
            hint = f": use {name}_s" if name in ("start", "stop") else ""
            raise AttributeError(f"Segment has no attribute {name!r}{hint}.")


@renamed(stop="stop_s")
@dataclass(frozen=True)
class Alignment:
    """The segments of a recording in order, and `stop_s`, the seconds that the alignment covers.

    Gaps between segments are unlabelled. With `stop_s=None` they are silence, up to the end of the recording: the file
    lists speech only, and not the length of its audio.
    """

    segments: Sequence[Segment]
    stop_s: float | None

    def fits(self, duration: float, tolerance: float) -> bool:
        """Return whether an audio of `duration` seconds can be the one aligned, ends differing by up to `tolerance`."""
        end = self.segments[-1].stop_s if self.segments else 0.0
        if self.stop_s is None:
            return end - duration <= tolerance
        return abs(max(end, self.stop_s) - duration) <= tolerance

    def over(self, duration: float) -> Sequence[Segment]:
        """Return the segments of an audio of `duration` seconds, gaps filled with silence if `stop_s` is None.

        Examples:
            >>> words = Alignment([Segment(0.5, 0.75, "go"), Segment(0.75, 1.0, "on")], stop_s=None)
            >>> [(s.start_s, s.stop_s, s.label) for s in words.over(1.25)]
            [(0.0, 0.5, 'SIL'), (0.5, 0.75, 'go'), (0.75, 1.0, 'on'), (1.0, 1.25, 'SIL')]
        """
        if self.stop_s is not None:
            return self.segments
        filled, end = [], 0.0
        for segment in self.segments:
            if segment.start_s > end:
                filled.append(Segment(end, segment.start_s, SILENCE))
            filled.append(segment)
            end = segment.stop_s
        return [*filled, Segment(end, duration, SILENCE)] if duration > end else filled


@dataclass(frozen=True)
class Utterance:
    """One recording of one speaker: its file, and its transcript or, of a whole recording, its class if it has one."""

    id: str
    speaker: str
    path: Path
    transcript: str | None = None
    subset: str = ""
    chapter: str = ""
    label: str = ""


def cut_segments(segments: Sequence[Segment], duration: float) -> list[Segment]:
    """Return the segments of an audio of `duration` seconds, cut at its end.

    Examples:
        >>> cut_segments([Segment(0, 1, "AH"), Segment(1, 2, "B"), Segment(2, 3, "SIL")], 1.5)
        [Segment(start_s=0, stop_s=1, label='AH'), Segment(start_s=1, stop_s=1.5, label='B')]
    """
    return [replace(s, stop_s=min(s.stop_s, duration)) for s in segments if s.start_s < duration]


def raise_fault(id: str, error: DataError) -> None:
    """Raise `error`: the default `FaultHandler` of a reader of alignments.

    A caller that continues without the utterance passes a function that keeps `id` and `error`.
    """
    raise error


def sort_segments(rows: Iterable[tuple[Segment, int]], path: str | Path) -> list[Segment]:
    """Return segments sorted by time, given (segment, line number); an overlap of at most one frame (10 ms) is removed.

    Raises:
        DataError: two segments overlap by more; file and line are named.
    """
    ordered = sorted(rows, key=lambda row: (row[0].start_s, row[0].stop_s))
    segments = []
    for (segment, _), (following, number) in pairwise(ordered):
        overlap = segment.stop_s - following.start_s
        if overlap > MAX_OVERLAP_S + 1e-9:  # decimal seconds are not exact in binary
            raise DataError(
                f"{path}:{number}: {following.label!r} from {following.start_s:g} s overlaps {segment.label!r}, "
                f"which lasts until {segment.stop_s:g} s."
            )
        segments.append(replace(segment, stop_s=following.start_s) if overlap > 0 else segment)
    return [*segments, *(segment for segment, _ in ordered[-1:])]
