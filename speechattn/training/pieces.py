"""A piece of an utterance: what a row of a training batch is cut from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """Frames [start, stop) of example `item`, played `speed` times as fast."""

    item: int
    start: int
    stop: int
    speed: float
    epoch: int = 0
    """For examples that change from epoch to epoch."""

    @property
    def num_frames(self) -> int:
        """Frames after the change of speed."""
        return max(1, round((self.stop - self.start) / self.speed))
