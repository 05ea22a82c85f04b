"""The words of the data: a segment of time with a label, an utterance with a speaker, and lines of text.

Not frames: seconds become frames in `alignments`, through `Framing`. The names follow lhotse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from speechattn.errors import DataError

IGNORE = -100
"""The label of a frame that no loss and no score counts: torch's `ignore_index`."""


@dataclass(frozen=True)
class Segment:
    """`label` holds from `start` until just before `stop`, both in seconds (half-open).

    Raises:
        ValueError: a time is negative or not finite, or stop lies before start.

    Example:
        >>> Segment(0.5, 0.75, "AH").duration
        0.25
    """

    start: float
    stop: float
    label: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.stop)):
            raise ValueError(f"Segment times must be finite seconds, got {self.start} to {self.stop}.")
        if self.start < 0:
            raise ValueError(f"Segment must start at 0 s or later, got {self.start}.")
        if self.stop < self.start:
            raise ValueError(f"Segment must not stop before it starts, got {self.start} to {self.stop}.")

    @property
    def duration(self) -> float:
        """Seconds from start to stop."""
        return self.stop - self.start


@dataclass(frozen=True)
class Utterance:
    """One recording of one speaker: where it lies, and what was said if that is known."""

    id: str
    speaker: str
    path: Path
    transcript: str | None = None
    subset: str = ""
    chapter: str = ""


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file as people really have them: a byte-order mark and CRLF do no harm.

    Raises:
        DataError: the file is missing, is no file, cannot be read, or is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return [line.rstrip("\n") for line in file]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
