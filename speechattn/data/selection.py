"""A part of a corpus: some speakers, or some hours that hold as many speakers as possible.

The choice depends on ids and durations alone, so that it is the same on every machine, and nested: more hours hold all
utterances of fewer hours.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from speechattn.errors import ConfigError, DataError


class Selectable(Protocol):
    """Anything with an id, a speaker and a number of samples: LabelledUtterance."""

    @property
    def id(self) -> str:
        """The utterance's id."""

    @property
    def speaker(self) -> str:
        """The speaker's id."""

    @property
    def num_samples(self) -> int:
        """Samples of the recording."""


S = TypeVar("S", bound=Selectable)


def select(
    utterances: Sequence[S], sample_rate: int, *, max_hours: float | None = None, speakers: Sequence[str] = ()
) -> list[S]:
    """Return the utterances of these speakers (none given: of all), at most `max_hours` of them, in their order.

    Hours are shared equally: every speaker has about the same time until a speaker has no more. A hash of the ids
    decides which utterances are taken. At least one utterance is returned if there are any. `sample_rate` is that of
    `num_samples`, in Hz.

    Raises:
        ConfigError: max_hours is not a positive number.
        DataError: a speaker has no utterance here.

    Examples:
        >>> from types import SimpleNamespace as Item
        >>> items = [Item(id=f"{s}-{i}", speaker=s, num_samples=36_000) for s in "abc" for i in range(4)]
        >>> [item.id for item in select(items, 100, max_hours=0.3)]
        ['a-3', 'b-1', 'c-2']
    """
    if max_hours is not None and not 0 < max_hours < math.inf:
        raise ConfigError(f"max_hours must be a positive number of hours, got {max_hours}: half an hour is 0.5.")
    _check_speakers(speakers, (item.speaker for item in utterances))
    if speakers:
        utterances = [item for item in utterances if item.speaker in set(speakers)]
    if max_hours is None:
        return list(utterances)
    left = max_hours * 3600 * sample_rate
    chosen: set[str] = set()
    for item in _shuffled(utterances):
        left -= item.num_samples
        if left < 0 and chosen:
            break  # the next may be shorter, but a choice with gaps would not be nested
        chosen.add(item.id)
    return [item for item in utterances if item.id in chosen]


def _check_speakers(speakers: Iterable[str], present: Iterable[str]) -> None:
    """Raise DataError, with the nearest id, if one of `speakers` is not among those `present`."""
    known = sorted(set(present))
    for speaker in speakers:
        if speaker not in known:
            near = difflib.get_close_matches(speaker, known, n=1)
            names = ", ".join(known[:10]) + (", ..." if len(known) > 10 else "")
            raise DataError(
                f"no utterance of speaker {speaker!r}: "
                + (f"did you mean {near[0]!r}? " if near else "")
                + f"The {len(known)} speakers are {names or 'none'}."
            )


def _shuffled(utterances: Sequence[S]) -> list[S]:
    """Return all utterances in an order of which every beginning is a balanced choice.

    Each speaker's utterances are shuffled. An utterance's place is the time that its speaker has before it, so the
    first utterances of all speakers come first, and then always one of the speaker with the least time.
    """
    by_speaker: dict[str, list[S]] = defaultdict(list)
    for item in sorted(utterances, key=lambda item: (_digest(item.id), item.id)):
        by_speaker[item.speaker].append(item)
    placed = []
    for speaker, items in by_speaker.items():
        before, tie = 0, _digest(speaker)
        for item in items:
            placed.append((before, tie, item.id, item))
            before += item.num_samples
    placed.sort(key=lambda row: row[:3])
    return [item for *_, item in placed]


def _digest(id: str) -> bytes:
    return hashlib.sha256(id.encode("utf-8", "surrogateescape")).digest()
