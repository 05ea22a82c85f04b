"""A split by utterance takes validation utterances of training speakers, and reads nothing but ids and speakers."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechattn.data.labels.segments import Utterance
from speechattn.data.utterance_split import split_by_utterance
from speechattn.errors import DataError


def utterances_of(counts: list[int]) -> list[Utterance]:
    return [Utterance(f"{s}-{i}", str(s), Path("x.flac")) for s, count in enumerate(counts) for i in range(count)]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.floats(0.01, 0.99), st.integers(0, 5))
def test_every_validation_speaker_is_in_training(counts: list[int], fraction: float, seed: int) -> None:
    utterances = utterances_of([2, *counts])
    train, valid = split_by_utterance(utterances, fraction, seed)
    assert valid
    assert {item.speaker for item in valid} <= {item.speaker for item in train}
    assert {item.speaker for item in train} == {item.speaker for item in utterances}
    assert sorted(train + valid, key=utterances.index) == utterances
    movable = sum(count - 1 for count in [2, *counts])
    assert len(valid) == min(movable, max(1, round(fraction * len(utterances))))
    assert {item.id for item in split_by_utterance(utterances[::-1], fraction, seed)[1]} == {item.id for item in valid}


def test_speakers_with_one_utterance_stay_in_training_and_the_seed_changes_the_choice() -> None:
    utterances = utterances_of([1] * 30 + [40])
    valid = split_by_utterance(utterances)[1]
    assert {item.speaker for item in valid} == {"30"}
    assert len(valid) == 7
    assert split_by_utterance(utterances, seed=1)[1] != valid


def test_a_corpus_of_single_utterances_cannot_be_split_by_utterance() -> None:
    with pytest.raises(DataError, match="each of the 3 has one: use --split speakers"):
        split_by_utterance(utterances_of([1, 1, 1]))


@pytest.mark.parametrize("fraction", [0, 1, -0.5])
def test_a_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1"):
        split_by_utterance(utterances_of([3]), fraction)
