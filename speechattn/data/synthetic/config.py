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
    test_utterances: int = 52
    train_speakers: int = 40
    test_speakers: int = 26
    seed: int = 0

    def __post_init__(self) -> None:
        take_numbers(self)
        for field in fields(self):
            whole(f"SyntheticConfig.{field.name}", getattr(self, field.name), 0 if field.name == "seed" else 1)
