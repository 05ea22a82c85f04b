"""Training and validation sides that share speakers and no utterance: as in corpora whose test speakers are known.

A model hears every validation speaker in training, so its accuracy is higher than on new speakers (speaker_split.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from speechattn.data.speaker_split import HasSpeaker, hash_place
from speechattn.errors import DataError


class HasId(HasSpeaker, Protocol):
    """Anything with an id and a speaker: Utterance, LabelledUtterance."""

    @property
    def id(self) -> str:
        """The utterance's id, which no other has."""


U = TypeVar("U", bound=HasId)


def split_by_utterance(utterances: Sequence[U], fraction: float = 0.1, seed: int = 0) -> tuple[list[U], list[U]]:
    """Return (train, valid): about `fraction` of all utterances are in valid, each of a speaker who is in train too.

    Only speakers with several utterances give any to valid, and at least one utterance of each speaker stays in train:
    valid is smaller than `fraction` if few speakers have several. A hash of its id and the seed orders the utterances.

    Raises:
        ValueError: fraction is not between 0 and 1.
        DataError: no speaker has two utterances.

    Examples:
        >>> from pathlib import Path
        >>> from speechattn.data.labels.segments import Utterance
        >>> utterances = [Utterance(f"{speaker}-{i}", speaker, Path("x.flac")) for speaker in "ab" for i in range(5)]
        >>> train, valid = split_by_utterance(utterances, fraction=0.2)
        >>> len(train), len(valid), {item.speaker for item in valid} <= {item.speaker for item in train}
        (8, 2, True)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}.")
    left: dict[str, int] = {}
    for item in utterances:
        left[item.speaker] = left.get(item.speaker, 0) + 1
    if max(left.values(), default=0) < 2:
        raise DataError(
            f"a split by utterance needs a speaker with at least 2 utterances, and each of the {len(left)} has one: "
            "use --split speakers."
        )
    wanted = max(1, round(fraction * len(utterances)))
    chosen: set[str] = set()
    for item in sorted(utterances, key=lambda item: (hash_place(item.id, seed), item.id)):
        if len(chosen) < wanted and left[item.speaker] > 1:
            chosen.add(item.id)
            left[item.speaker] -= 1
    train = [item for item in utterances if item.id not in chosen]
    return train, [item for item in utterances if item.id in chosen]
