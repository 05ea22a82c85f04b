"""The words of the data: a segment of time with a label, an alignment, an utterance with a speaker, lines of text.

Not frames: seconds become frames in `framelabels`, through `Framing`. The names follow lhotse.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from speechattn.errors import DataError
from speechattn.framing import Framing

IGNORE = -100
"""The label of a frame that no loss and no score counts: torch's `ignore_index`."""

SILENCE = "SIL"
"""The first class of every label set."""

ONE_FRAME_S = Framing().hop_ms / 1000


@dataclass(frozen=True)
class Segment:
    """`label` holds from `start` until just before `stop`, both in seconds (half-open).

    Raises:
        ValueError: a time is negative or not finite, or stop lies before start.

    Example:
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
        """Seconds from start to stop."""
        return self.stop_s - self.start_s


@dataclass(frozen=True)
class Alignment:
    """What was said when: segments in order, and `stop`, the seconds that the alignment covers.

    Between segments nobody knows. With `stop_s=None` it is the other way round: the file lists only what was
    spoken, so every gap is silence, up to the end of an audio whose length the file does not say.
    """

    segments: Sequence[Segment]
    stop_s: float | None

    def fits(self, duration: float, tolerance: float) -> bool:
        """Whether an audio of `duration` seconds may be the one that was aligned, give or take `tolerance`."""
        end = self.segments[-1].stop_s if self.segments else 0.0
        if self.stop_s is None:
            return end - duration <= tolerance
        return abs(max(end, self.stop_s) - duration) <= tolerance

    def over(self, duration: float) -> list[Segment]:
        """The segments of an audio of `duration` seconds, with the silences that go without saying.

        Example:
            >>> words = Alignment([Segment(0.5, 0.75, "go"), Segment(0.75, 1.0, "on")], stop_s=None)
            >>> [(s.start_s, s.stop_s, s.label) for s in words.over(1.25)]
            [(0.0, 0.5, 'SIL'), (0.5, 0.75, 'go'), (0.75, 1.0, 'on'), (1.0, 1.25, 'SIL')]
        """
        if self.stop_s is not None:
            return list(self.segments)
        filled, at = [], 0.0
        for segment in self.segments:
            if segment.start_s > at:
                filled.append(Segment(at, segment.start_s, SILENCE))
            filled.append(segment)
            at = segment.stop_s
        return [*filled, Segment(at, duration, SILENCE)] if duration > at else filled


@dataclass(frozen=True)
class Utterance:
    """One recording of one speaker: where it lies, and what was said if that is known."""

    id: str
    speaker: str
    path: Path
    transcript: str | None = None
    subset: str = ""
    chapter: str = ""


def cut_segments(segments: Sequence[Segment], duration: float) -> list[Segment]:
    """Return the segments of an audio of `duration` seconds, without what reaches past its end.

    Example:
        >>> cut_segments([Segment(0, 1, "AH"), Segment(1, 2, "B"), Segment(2, 3, "SIL")], 1.5)
        [Segment(start_s=0, stop_s=1, label='AH'), Segment(start_s=1, stop_s=1.5, label='B')]
    """
    return [replace(s, stop_s=min(s.stop_s, duration)) for s in segments if s.start_s < duration]


def raise_fault(id: str, error: DataError) -> None:
    """Raise `error`: what a reader of alignments does with an utterance that it cannot read, unless given another way.

    A caller that goes on without the utterance passes a function that keeps `id` and `error`.
    """
    raise error


def in_order(rows: Iterable[tuple[Segment, int]], path: str | Path) -> list[Segment]:
    """Segments sorted by time, from (segment, line number); an overlap of at most one frame (10 ms) is cut.

    Raises:
        DataError: two segments overlap by more; file and line are named.
    """
    ordered = sorted(rows, key=lambda row: (row[0].start_s, row[0].stop_s))
    segments = []
    for (segment, _), (following, number) in pairwise(ordered):
        overlap = segment.stop_s - following.start_s
        if overlap > ONE_FRAME_S + 1e-9:  # decimal seconds are not exact in binary
            raise DataError(
                f"{path}:{number}: {following.label!r} from {following.start_s:g} s overlaps {segment.label!r}, "
                f"which lasts until {segment.stop_s:g} s."
            )
        segments.append(replace(segment, stop_s=following.start_s) if overlap > 0 else segment)
    return [*segments, *(segment for segment, _ in ordered[-1:])]


def read_table(path: Path) -> list[str]:
    """Return the lines of a table of which one damaged line costs one utterance: `check_text` refuses such a line.

    Raises:
        DataError: the file is missing, is no file, or cannot be read.
    """
    return read_lines(path, errors="surrogateescape")


def check_text(line: str) -> None:
    """Raise ValueError if a line of `read_table` holds bytes that are not UTF-8."""
    if not line.isascii() and any("\udc80" <= character <= "\udcff" for character in line):
        raise ValueError("this line is not UTF-8 text: save the file as UTF-8.")


def refuse_device(path: Path) -> None:
    """Raise DataError for a pipe or a device: reading one may wait, or fill the memory, without end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{path} is a pipe or a device, not a text file.")


def read_lines(path: Path, errors: str = "strict") -> list[str]:
    """The lines of a UTF-8 text file as people really have them: a byte-order mark and CRLF do no harm.

    Accents come composed (NFC), so that ids equal those of file names, which macOS writes decomposed.

    Raises:
        DataError: the file is missing, is no file, cannot be read, or is not UTF-8.
    """
    try:
        refuse_device(path)
        with open(path, encoding="utf-8-sig", errors=errors) as file:
            return [unicodedata.normalize("NFC", line.rstrip("\n")) for line in file]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
