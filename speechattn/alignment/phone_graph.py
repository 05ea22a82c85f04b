"""The phones that a transcript allows, as a graph of states for the Viterbi algorithm.

A phone is a chain of states, one a frame, whose last one may repeat: its length is the minimum duration. Silence is
optional before, between and after words, and a word may have several pronunciations::

    (SIL) -> word 0, one of its pronunciations -> (SIL) -> word 1 -> (SIL)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speechattn.data.labels.classes import PHONES

MIN_FRAMES = 3
"""Shortest phone and shortest silence, in frames."""

ALTERNATIVE_COST = 8.0
"""Price, in nats, of every pronunciation of a word but its first, the most usual one: without it, the noise of the
scores chooses rare ones. docs/alignment.md has the measurement."""

MAX_PRONUNCIATIONS = 100
"""Most pronunciations of a word: forced_alignment.py stores which one a path comes from in 7 bits."""

Pronunciations = Sequence[tuple[str, ...]]
"""The pronunciations of one word, each a tuple of phones."""

_INDEX = {phone: index for index, phone in enumerate(PHONES)}
_SILENT_WORD = -1


@dataclass(frozen=True)
class PhoneGraph:
    """States [S] in an order in which every path rises, but for states that repeat.

    A path enters state s from state s - 1 where `chained[s]`, else from one of `jumps[s]`, and may stay where
    `repeats[s]`. It begins in one of `starts` and ends in one of `ends`.
    """

    classes: NDArray[np.int64]
    """Class of each state, an index of PHONES."""
    units: NDArray[np.int64]
    """Number of the phone that a state belongs to, from 0: two equal phones in a row are two units."""
    words: NDArray[np.int64]
    """Index of the word that a state belongs to, -1 in silence."""
    chained: NDArray[np.bool_]
    repeats: NDArray[np.bool_]
    jumps: dict[int, tuple[int, ...]]
    costs: dict[int, float]
    """Price in nats of entering a state by a jump, or of beginning in it; 0 for those that are not here."""
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    min_frames: int
    """Frames of the shortest path."""

    def __len__(self) -> int:
        return len(self.classes)


def phone_graph(words: Sequence[Pronunciations], min_frames: int = MIN_FRAMES) -> PhoneGraph:
    """Return the graph of a sentence, given the pronunciations of each of its words.

    Of more than MAX_PRONUNCIATIONS of a word the first are used.

    Raises:
        ValueError: there are no words, a word has no pronunciation, or a pronunciation no phone.
        KeyError: a phone is none of PHONES.

    Examples:
        >>> graph = phone_graph([[("G", "OW")], [("AA", "N"), ("AO", "N")]], min_frames=1)
        >>> [PHONES[index] for index in graph.classes]
        ['SIL', 'G', 'OW', 'SIL', 'AA', 'N', 'AO', 'N', 'SIL']
        >>> graph.starts, graph.jumps[4], graph.ends
        ((0, 1), (2, 3), (5, 7, 8))
    """
    if not words or not all(words) or not all(phones for word in words for phones in word):
        raise ValueError("a sentence needs words, a word a pronunciation, and a pronunciation a phone.")
    rows: list[tuple[int, int, int]] = []  # class, unit, word
    jumps: dict[int, tuple[int, ...]] = {}
    costs: dict[int, float] = {}

    def add(phones: Sequence[str], word: int, before: tuple[int, ...]) -> int:
        """Add the states of `phones`, entered from `before`; return the last one."""
        if before:
            jumps[len(rows)] = before
        for phone in phones:
            unit = rows[-1][1] + 1 if rows else 0
            rows.extend([(_INDEX[phone], unit, word)] * min_frames)
        return len(rows) - 1

    last: tuple[int, ...] = ()  # states in which the word before may end
    starts: list[int] = [0]
    shortest = 0
    for index, given in enumerate(words):
        pronunciations = list(dict.fromkeys(given))[:MAX_PRONUNCIATIONS]
        silence = add((PHONES[0],), _SILENT_WORD, last)
        entries = (*last, silence)
        ends = []
        for rank, phones in enumerate(pronunciations):
            if rank:
                costs[len(rows)] = ALTERNATIVE_COST
            if index == 0:
                starts.append(len(rows))
            ends.append(add(phones, index, entries))
        shortest += min_frames * min(map(len, pronunciations))
        last = tuple(ends)
    last = (*last, add((PHONES[0],), _SILENT_WORD, last))
    classes, units, word_of = np.array(rows, dtype=np.int64).T
    first = np.append(True, units[1:] != units[:-1])
    entered = np.zeros(len(rows), dtype=bool)
    entered[[*jumps, *starts]] = True
    return PhoneGraph(
        classes=classes,
        units=units,
        words=word_of,
        chained=~entered,
        repeats=np.append(first[1:], True),
        jumps=jumps,
        costs=costs,
        starts=tuple(starts),
        ends=last,
        min_frames=shortest,
    )
