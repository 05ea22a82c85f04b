"""The path of an utterance in seconds, and its score, on a case written out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from speechattn.alignment.batch_alignment import AlignedRecording, Recording
from speechattn.alignment.sentences import Sentence
from speechattn.alignment.times import aligned_utterance, path_score
from speechattn.data.labels.classes import PHONES
from speechattn.data.labels.segments import Segment, Utterance
from speechattn.framing import Framing

SNIP = Framing(align="snip")


def aligned(path: list[int], num_samples: int) -> AlignedRecording:
    sentence = Sentence(Utterance("a", "a", Path("a.wav"), "GO GO"), ["go", "go"], {"go": [("G", "OW")]})
    recording = Recording(sentence, sentence.graph(), num_samples, torch.zeros(len(path), 40))
    return AlignedRecording(recording, np.array(path), np.zeros((len(path), len(PHONES)), np.float32))


def test_a_phone_begins_with_the_window_of_its_first_frame() -> None:
    # States: SIL 0-2, G 3-5, OW 6-8, SIL 9-11, G 12-14, OW 15-17, SIL 18-20.
    path = [0, 1, 2, 2, *range(3, 9), *range(12, 18), *range(18, 21)]
    num_samples = SNIP.span_samples(len(path) - 1)[1] + 100
    found = aligned_utterance(aligned(path, num_samples), SNIP)
    stop = num_samples / SNIP.sample_rate
    assert [(s.label, s.start_s) for s in found.phones] == [
        ("SIL", 0.0),
        ("G", 0.04),
        ("OW", 0.07),
        ("G", 0.10),
        ("OW", 0.13),
        ("SIL", 0.16),
    ]
    assert found.phones[-1].stop_s == stop
    assert found.words == [Segment(0.04, 0.10, "go"), Segment(0.10, 0.16, "go")]


def test_speech_from_the_first_frame_begins_at_zero_in_any_framing() -> None:
    path = [*range(3, 9), 8, *range(12, 18)]
    for align in ("causal", "snip", "center"):
        framing = Framing(align=align)
        found = aligned_utterance(aligned(path, 3000), framing)
        assert found.phones[0].start_s == found.words[0].start_s == 0
        assert found.phones[-1].stop_s == found.words[-1].stop_s == 3000 / framing.sample_rate


def test_the_score_is_the_mean_distance_to_the_best_phone_in_speech() -> None:
    scores = np.zeros((4, len(PHONES)), np.float32)
    scores[0, 5] = 9.0  # silence is not counted
    scores[2, 5] = 3.0
    assert path_score(np.array([0, 1, 1, 5]), scores) == pytest.approx(-1.0)
    assert path_score(np.array([0, 0, 0, 0]), scores) == 0.0
