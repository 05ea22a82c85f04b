"""The path of an utterance through its graph as phones and words in seconds, with a score.

A phone begins with the window of its first frame, as in the CTM files of Kaldi, the Montreal Forced Aligner and
pocketsphinx: frame t of 25 ms windows every 10 ms begins at t * 10 ms. (Half way between the centres of two windows
is 7.5 ms later.) A model with centred windows is not one of this aligner: it was trained on labels at the centres of
windows, as `frame_labels` gives them, so that its phones begin half way between two centres.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from speechattn.alignment.batch_alignment import AlignedRecording
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


def aligned_utterance(aligned: AlignedRecording, framing: Framing) -> AlignedUtterance:
    """Return the phones and words of an aligned recording in seconds, and its score."""
    recording = aligned.recording
    graph, words = recording.graph, recording.sentence.words
    later = range(1, len(aligned.path))
    if framing.align == "snip":
        starts = [max(0, framing.span_samples(t)[0]) for t in later]
    else:
        starts = [framing.edge_sample(t, recording.num_samples) for t in later]
    edges = [0, *starts, recording.num_samples]

    def runs(values: NDArray[np.int64]) -> Iterator[tuple[int, float, float]]:
        """Yield (first frame, start, stop in seconds) of each run of equal values."""
        for _, run in groupby(range(len(values)), key=values.__getitem__):
            frames = list(run)
            start, stop = edges[frames[0]], edges[frames[-1] + 1]
            yield frames[0], start / framing.sample_rate, stop / framing.sample_rate

    phone, word = aligned.phones, graph.words[aligned.path]
    return AlignedUtterance(
        recording.sentence.id,
        [Segment(start, stop, PHONES[phone[t]]) for t, start, stop in runs(graph.units[aligned.path])],
        [Segment(start, stop, words[word[t]]) for t, start, stop in runs(word) if word[t] >= 0],
        path_score(phone, aligned.scores),
    )


def path_score(phones: NDArray[np.int64], scores: NDArray[np.float32]) -> float:
    """Return the score of an alignment, see AlignedUtterance, given its phones [T] and all scores [T, C]."""
    speech = np.flatnonzero(phones)
    if not len(speech):
        return 0.0
    return float((scores[speech, phones[speech]] - scores[speech].max(1)).mean())
