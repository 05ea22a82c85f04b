"""The path of an utterance through its graph as phones and words in seconds, with a score.

A phone begins with the window of its first frame, as in the CTM files of Kaldi, the Montreal Forced Aligner and
pocketsphinx: frame t of 25 ms windows every 10 ms begins at t * 10 ms. (Half way between the centres of two windows
is 7.5 ms later.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from speechattn.alignment.phone_graph import PhoneGraph
from speechattn.data.labels.classes import PHONES
from speechattn.data.labels.segments import Segment
from speechattn.framing import Framing


@dataclass(frozen=True)
class AlignedUtterance:
    """The phones and words of one recording, in seconds."""

    id: str
    phones: list[Segment]
    """Classes of PHONES, SIL included, from 0 to the end of the audio without a gap."""
    words: list[Segment]
    """Words of the transcript in lower case; gaps are silence."""
    score: float
    """Mean over the frames of speech of log p(frames | phone of the transcript) - max over phones of the same: 0 or
    less, in nats per frame, and far lower where transcript and audio do not belong together."""


def aligned_utterance(
    id: str,
    words: Sequence[str],
    path: NDArray[np.int64],
    graph: PhoneGraph,
    scores: NDArray[np.float32],
    num_samples: int,
    framing: Framing,
) -> AlignedUtterance:
    """Return the alignment of an utterance of `num_samples` samples, given the state [T] of each frame.

    `scores` are those [T, C] that the path was chosen by.
    """
    edges = [0, *(max(0, framing.span_samples(t)[0]) for t in range(1, len(path))), num_samples]

    def runs(values: NDArray[np.int64]) -> list[tuple[int, float, float]]:
        """Return (first frame, start, stop in seconds) of each run of equal values."""
        found = []
        for _, run in groupby(range(len(values)), key=values.__getitem__):
            frames = list(run)
            span = edges[frames[0]], edges[frames[-1] + 1]
            found.append((frames[0], span[0] / framing.sample_rate, span[1] / framing.sample_rate))
        return found

    phone, word = graph.classes[path], graph.words[path]
    return AlignedUtterance(
        id,
        [Segment(start, stop, PHONES[phone[t]]) for t, start, stop in runs(graph.units[path])],
        [Segment(start, stop, words[word[t]]) for t, start, stop in runs(word) if word[t] >= 0],
        path_score(phone, scores),
    )


def path_score(phones: NDArray[np.int64], scores: NDArray[np.float32]) -> float:
    """Return the score of an alignment, see AlignedUtterance, given its phones [T] and all scores [T, C]."""
    speech = np.flatnonzero(phones)
    if not len(speech):
        return 0.0
    return float((scores[speech, phones[speech]] - scores[speech].max(1)).mean())
