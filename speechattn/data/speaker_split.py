"""Training and validation sides that share no speaker."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from speechattn.errors import DataError


class HasSpeaker(Protocol):
    """Anything with a speaker: Utterance, LabelledUtterance."""

    @property
    def speaker(self) -> str:
        """The speaker's id."""


S = TypeVar("S", bound=HasSpeaker)


def split_by_speaker(utterances: Sequence[S], fraction: float = 0.1, seed: int = 0) -> tuple[list[S], list[S]]:
    """Return (train, valid): about `fraction` of the speakers, with all their utterances, are in valid.

    A hash of its id and the seed alone decides the side of a speaker, so more data never moves a speaker to the other
    side; a side that would be empty gets the speaker nearest to it.

    Raises:
        ValueError: fraction is not between 0 and 1.
        DataError: there are fewer than two speakers.

    Examples:
        >>> from pathlib import Path
        >>> from speechattn.data.labels.segments import Utterance
        >>> utterances = [Utterance(f"{speaker}-1", speaker, Path("x.flac")) for speaker in "ab"]
        >>> [len(side) for side in split_by_speaker(utterances)]
        [1, 1]
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}.")
    place = {speaker: hash_place(speaker, seed) for speaker in {item.speaker for item in utterances}}
    if set(place) == {""}:
        raise DataError(
            "the layout of the recordings names no speakers: use --split utterances, or give a --layout with {speaker}."
        )
    if len(place) < 2:
        found = f"{len(place)}" + "".join(f" ({speaker})" for speaker in place)
        raise DataError(
            f"a split by speaker needs at least 2 speakers, got {found}: add speakers to the subset. In a folder of "
            "your own each folder with recordings is one speaker; of one person alone, make two, such as two sessions."
        )
    ranked = sorted(place, key=lambda speaker: (place[speaker], speaker))
    chosen = {speaker for speaker in ranked[1:-1] if place[speaker] < fraction} | {ranked[0]}
    train = [item for item in utterances if item.speaker not in chosen]
    return train, [item for item in utterances if item.speaker in chosen]


def split_off_speakers(utterances: Sequence[S], speakers: Sequence[str]) -> tuple[list[S], list[S]]:
    """Return (train, valid): all utterances of `speakers` are in valid.

    Raises:
        DataError: one of them has no utterance, or they are all speakers.
    """
    present = sorted({item.speaker for item in utterances})
    if missing := sorted(set(speakers) - set(present)):
        found = ", ".join(present[:10]) + (", ..." if len(present) > 10 else "")
        raise DataError(f"there is no speaker {missing[0]} to hold out: the speakers are {found}.")
    train = [item for item in utterances if item.speaker not in speakers]
    if not train:
        raise DataError(f"all {len(present)} speakers are held out: none is left to train on.")
    return train, [item for item in utterances if item.speaker in speakers]


def check_disjoint(train: Iterable[HasSpeaker], test: Iterable[HasSpeaker]) -> None:
    """Raise DataError, naming the speakers, if any speaker is on both sides."""
    shared = sorted({item.speaker for item in train} & {item.speaker for item in test})
    if shared:
        names = ", ".join(shared[:10]) + (", ..." if len(shared) > 10 else "")
        raise DataError(
            f"{len(shared)} speakers are in both training and test data: {names}. Use another subset, "
            "or split_by_speaker."
        )


def hash_place(name: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on this id of a speaker or an utterance and the seed alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") / 2**64
