"""The settings of the synthetic corpus."""

from __future__ import annotations

from dataclasses import dataclass, fields

from speechattn.system.serialization import take_numbers, whole

SUBSETS = ("train", "test")


@dataclass(frozen=True)
class SyntheticConfig:
    """Numbers of utterances and speakers. Equal configs give equal corpora, with one version of the engine.

    Raises:
        ValueError: a field is not a whole number, or not positive (a seed may be 0).
    """

    train_utterances: int = 440
    """Utterances of the training subset, 3.9 s long on average."""
    test_utterances: int = 52
    """Utterances of the test subset."""
    train_speakers: int = 40
    """Speakers of the training subset, no more than its utterances."""
    test_speakers: int = 26
    """Speakers of the test subset, none of them in training."""
    seed: int = 0
    """Seed of sentences, speakers and rooms."""

    def __post_init__(self) -> None:
        take_numbers(self)
        for field in fields(self):
            whole(f"SyntheticConfig.{field.name}", getattr(self, field.name), 0 if field.name == "seed" else 1)
