"""A split by speaker puts each speaker on one side, and more data moves no speaker."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechattn.data.labels.segments import Utterance
from speechattn.data.speaker_split import check_disjoint, split_by_speaker
from speechattn.errors import DataError


def utterances_of(*speakers: str) -> list[Utterance]:
    return [Utterance(f"{speaker}-{i}", speaker, Path("x.flac")) for speaker in speakers for i in range(3)]


@settings(max_examples=50, deadline=None)
@given(st.sets(st.text(max_size=5), min_size=2, max_size=60), st.floats(0.01, 0.99), st.integers(0, 5))
def test_a_split_keeps_every_speaker_whole(speakers: set[str], fraction: float, seed: int) -> None:
    utterances = utterances_of(*sorted(speakers))
    train, valid = split_by_speaker(utterances, fraction, seed)
    check_disjoint(train, valid)
    assert train
    assert valid
    assert sorted(train + valid, key=utterances.index) == utterances
    assert split_by_speaker(utterances[::-1], fraction, seed)[1] == valid[::-1]


def test_more_data_moves_no_speaker() -> None:
    some = utterances_of(*map(str, range(200)))
    train, valid = split_by_speaker(some)
    more_train, more_valid = split_by_speaker(utterances_of(*map(str, range(300))) + some)
    assert {item.speaker for item in train} <= {item.speaker for item in more_train}
    assert {item.speaker for item in valid} <= {item.speaker for item in more_valid}
    assert 0.05 < len(valid) / len(some) < 0.15
    assert split_by_speaker(some, seed=1)[1] != valid


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2])
def test_a_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction must lie between 0 and 1"):
        split_by_speaker(utterances_of("a", "b"), fraction)


def test_one_speaker_cannot_be_split() -> None:
    with pytest.raises(DataError, match="at least 2 speakers, got 1"):
        split_by_speaker(utterances_of("a"))


def test_a_speaker_on_both_sides_is_named() -> None:
    check_disjoint(utterances_of("a", "b"), utterances_of("c"))
    with pytest.raises(DataError, match="2 speakers are in both training and test data: b, c"):
        check_disjoint(utterances_of("a", "b", "c"), utterances_of("c", "b", "d"))
