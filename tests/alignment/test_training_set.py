"""The recordings to train on: balanced over speakers, a fixed amount, the same for any order of the corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from speechattn.alignment.acoustic_model import FRAMING, NUM_MELS
from speechattn.alignment.first_labels import flat_labels
from speechattn.alignment.sentences import Sentence
from speechattn.alignment.training_set import by_turns, read_training_set
from speechattn.data.labels.classes import PHONES
from speechattn.data.labels.segments import Utterance
from speechattn.errors import DataError
from speechattn.frontend.logmel import LogMel

LEXICON = {"go": [("G", "OW")], "on": [("AA", "N"), ("AO", "N")]}
RATE = FRAMING.sample_rate


def sentences(folder: Path, counts: dict[str, int]) -> list[Sentence]:
    return [
        Sentence(Utterance(f"{speaker}-{n}", speaker, folder / f"{speaker}-{n}.wav", "GO ON"), ["go", "on"], LEXICON)
        for speaker, count in counts.items()
        for n in range(count)
    ]


def test_speakers_take_turns(tmp_path: Path) -> None:
    order = [sentence.utterance.speaker for sentence in by_turns(sentences(tmp_path, {"a": 5, "b": 2, "c": 1}), seed=0)]
    assert sorted(order[:3]) == ["a", "b", "c"] and sorted(order[3:5]) == ["a", "b"] and order[5:] == ["a"] * 3


def test_the_order_of_the_corpus_does_not_matter_and_the_seed_does(tmp_path: Path) -> None:
    corpus = sentences(tmp_path, {"a": 9, "b": 9})
    order = [sentence.id for sentence in by_turns(corpus, seed=0)]
    assert [sentence.id for sentence in by_turns(corpus[::-1], seed=0)] == order
    assert [sentence.id for sentence in by_turns(corpus, seed=1)] != order


def test_the_audio_is_at_most_max_hours(tmp_path: Path) -> None:
    corpus = sentences(tmp_path, {"a": 4, "b": 4})
    for sentence in corpus:
        soundfile.write(sentence.utterance.path, np.zeros(RATE), RATE)
    recordings = read_training_set(corpus, LogMel(NUM_MELS, FRAMING), 5.5 / 3600, seed=0)
    assert len(recordings) == 5 and {recording.num_samples for recording in recordings} == {RATE}


def test_recordings_that_cannot_be_aligned_are_left_out(tmp_path: Path) -> None:
    corpus = sentences(tmp_path, {"a": 3})
    soundfile.write(corpus[0].utterance.path, np.zeros(RATE), RATE)
    soundfile.write(corpus[1].utterance.path, np.zeros(RATE // 20), RATE)
    frontend = LogMel(NUM_MELS, FRAMING)
    assert [each.sentence.id for each in read_training_set(corpus, frontend, 1.0, seed=0)] == ["a-0"]
    with pytest.raises(DataError, match=r"none of the 1 recordings can be aligned: a-1: shorter than its phones"):
        read_training_set(corpus[1:2], frontend, 1.0, seed=0)


def test_a_flat_start_spreads_the_phones_over_the_loud_frames(tmp_path: Path) -> None:
    [sentence] = sentences(tmp_path, {"a": 1})
    burst = np.random.default_rng(0).normal(size=RATE) * 0.1
    waveform = np.concatenate([np.zeros(RATE // 2), burst, np.zeros(RATE // 2)])
    soundfile.write(sentence.utterance.path, waveform + 1e-3, RATE)
    recordings = read_training_set([sentence], LogMel(NUM_MELS, FRAMING), 1.0, seed=0)
    [(frames, labels)] = flat_labels(recordings)
    assert len(frames) == len(labels) == FRAMING.num_frames(2 * RATE)
    runs = torch.unique_consecutive(labels, return_counts=True)
    assert [PHONES[index] for index in runs[0]] == ["SIL", "G", "OW", "AA", "N", "SIL"]
    assert all(24 <= count <= 27 for count in runs[1].tolist()[1:-1])  # a second in four


def test_a_recording_without_any_change_of_level_is_silence(tmp_path: Path) -> None:
    [sentence] = sentences(tmp_path, {"a": 1})
    soundfile.write(sentence.utterance.path, np.zeros(RATE), RATE)
    [(_, labels)] = flat_labels(read_training_set([sentence], LogMel(NUM_MELS, FRAMING), 1.0, seed=0))
    assert labels.tolist() == [0] * len(labels)
