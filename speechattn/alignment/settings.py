"""Settings of an alignment, as one frozen dataclass. Standard library only."""

from __future__ import annotations

import math
import posixpath
from dataclasses import dataclass
from typing import Literal

from speechattn.alignment.align_config import AlignConfig
from speechattn.errors import ConfigError
from speechattn.system.serialization import take_numbers, whole

MAX_BAD = 0.2
"""Share of a subset that may be left out unless the user gives one. What is left out is listed, so that a few missing
transcripts do not stop the work; a fifth of the data points to a wrong folder, language or lexicon."""

MAY_CHANGE = ("data", "out", "subset", "max_hours", "speakers", "lexicon", "textgrids", "max_bad", "threads")
"""Settings that may differ between two alignments in one folder; inputs of a subset are compared on their own."""


@dataclass(frozen=True)
class AlignSettings:
    """What `align_subsets` aligns, with which model, and where it writes.

    Raises:
        ConfigError: a setting has no such value.
    """

    data: str
    """Folder in LibriSpeech layout, or of sound files with a <name>.txt each."""
    out: str
    """Folder for the alignments; the same command continues there."""
    subset: tuple[str, ...] = (".",)
    """Subsets to align, for example train-clean-100; "." is the folder `data` itself, of sound files. The acoustic
    model is trained on the first, and aligns all."""
    max_hours: float | None = None
    """Largest part of the first subset to align, in hours, shared equally by its speakers; None is all of it. Further
    subsets are aligned whole."""
    speakers: tuple[str, ...] = ()
    """Ids of the speakers of the first subset to align; none is all."""
    lexicon: str | None = None
    """Pronunciation dictionary in ARPAbet (CMUdict's format, or word<TAB>phones); espeak-ng reads other words."""
    model: str | None = None
    """Folder of an earlier alignment, or small-en-phones: its acoustic model is used, and none is trained."""
    start: Literal["synthetic", "flat"] = AlignConfig.start
    """First labels: of a model trained on synthetic speech, or each transcript's phones spread evenly (flat)."""
    rounds: int = AlignConfig.rounds
    """Rounds of alignment and training."""
    steps: int = AlignConfig.steps
    """Training steps of a round, 20 s of audio each."""
    train_hours: float = AlignConfig.train_hours
    """Largest amount of audio to train on, in hours."""
    min_score: float = AlignConfig.min_score
    """Lowest score of an utterance that is kept, in nats per frame; 0 is the best."""
    max_bad: float = MAX_BAD
    """Share of a subset's utterances that may be left out, at least one; beyond it the command ends with an error."""
    textgrids: bool = False
    """Write a TextGrid for each utterance, too: <out>/<subset>/<speaker>/<chapter>/<utterance>.TextGrid."""
    seed: int = AlignConfig.seed
    """Seed of everything random."""
    threads: int = 0
    """Threads of torch; 0 is torch's own choice."""

    def __post_init__(self) -> None:
        take_numbers(self)
        object.__setattr__(
            self, "subset", tuple(dict.fromkeys(name and posixpath.normpath(name) for name in self.subset))
        )
        for name in self.subset:  # the names of the tables begin with it
            if "/" in name or name == "..":
                raise ConfigError(
                    f"AlignSettings.subset names folders directly below data, got {name!r}: give its parent as --data, "
                    f"and --subset {posixpath.basename(name)}."
                )
        whole("AlignSettings.threads", self.threads, 0)
        self.align_config()
        if self.max_hours is not None and not 0 < self.max_hours < math.inf:
            raise ConfigError(f"AlignSettings.max_hours must be positive, got {self.max_hours}: half an hour is 0.5.")
        if not self.min_score <= 0:
            raise ConfigError(f"AlignSettings.min_score must be 0 or less, got {self.min_score}: scores are negative.")
        if not 0 <= self.max_bad <= 1:
            raise ConfigError(f"AlignSettings.max_bad must be a share from 0 to 1, got {self.max_bad}: 5 % is 0.05.")
        trained = [
            name
            for name in ("start", "rounds", "steps", "train_hours")
            if getattr(self, name) != getattr(AlignConfig, name)
        ]
        if self.model is not None and trained:
            raise ConfigError(
                f"AlignSettings.{trained[0]} has no effect with model={self.model!r}, which is not trained: leave one "
                "of them out."
            )
        if not self.subset:
            raise ConfigError("AlignSettings.subset names no subset, for example train-clean-100.")

    def align_config(self) -> AlignConfig:
        """Return the settings of the aligner itself."""
        return AlignConfig(
            rounds=self.rounds,
            steps=self.steps,
            start=self.start,
            train_hours=self.train_hours,
            min_score=self.min_score,
            seed=self.seed,
            threads=self.threads or None,
        )
