"""The result of `speechattn attention`: what is printed, written as JSON and drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from speechattn.analysis.heads import HeadAnalysis
from speechattn.analysis.recording import Recording
from speechattn.cli.spoken import Spoken
from speechattn.data.labels.segments import Segment

STRIP_S = 3.0
"""Seconds of attention over time that are drawn: in more, a frame would be less than two pixels wide."""


@dataclass(frozen=True)
class Result:
    """Everything that is printed or drawn."""

    recording: Recording
    model_name: str
    spoken: Spoken
    analysis: HeadAnalysis
    beginning: Tensor
    """The first frames of the frontend, [n, F], for pictures."""
    segments: tuple[Segment, ...]
    """The reference, in seconds of the part; empty if there is none."""
    notes: tuple[str, ...]
    """What a reader should know: the part that was read, silence."""

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON types."""
        return {
            "file": str(self.recording.path),
            "model": self.model_name,
            "start_s": self.recording.start_s,
            "seconds": self.recording.seconds,
            "transcript": self.spoken.text,
            "speaker": self.spoken.speaker,
            "notes": list(self.notes),
            **self.analysis.to_dict(),
        }
