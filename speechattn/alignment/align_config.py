"""The settings of an alignment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from speechattn.errors import ConfigError
from speechattn.system.serialization import check_choice, take_numbers, whole


@dataclass(frozen=True)
class AlignConfig:
    """The settings of an alignment.

    Raises:
        ConfigError: a setting has no such value.
    """

    rounds: int = 3
    """Rounds of alignment and training after the start."""
    steps: int = 700
    """Training steps of the start and of each round, 20 s of audio each."""
    start: Literal["synthetic", "flat"] = "synthetic"
    """"synthetic": a model trained on speech of espeak-ng gives the first labels. "flat": the phones of a transcript
    are spread evenly over its loud frames; this needs no espeak-ng, and more rounds."""
    train_hours: float = 2.0
    """Largest amount of audio to train on, in hours, drawn evenly from all speakers."""
    min_score: float = -2.1
    """Lowest score of an utterance that is kept, in nats per frame: right transcripts of LibriSpeech have -2 or more,
    those of another utterance less; see AlignedUtterance.score and docs/alignment.md."""
    seed: int = 0
    """Seed of weights, batches, augmentation and the drawing of recordings."""
    threads: int | None = None
    """Threads of torch; None leaves them as they are."""

    def __post_init__(self) -> None:
        take_numbers(self)
        check_choice("AlignConfig", "start", self.start, ("synthetic", "flat"))
        for name, least in (("rounds", 0), ("steps", 1), ("seed", 0)):
            whole(f"AlignConfig.{name}", getattr(self, name), least)
        if self.threads is not None:
            whole("AlignConfig.threads", self.threads)
        if not self.train_hours > 0:
            raise ConfigError(f"AlignConfig.train_hours must be positive, got {self.train_hours!r}.")
