"""A selection is nested, balanced over speakers, and the same in any order of the utterances."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from speechattn.data.selection import select
from speechattn.errors import ConfigError, DataError

RATE = 100


@dataclass(frozen=True)
class Item:
    id: str
    speaker: str
    num_samples: int


def corpus(speakers: int = 20, each: int = 30) -> list[Item]:
    """Utterances of 2 to 16 s; the speaker with number s has s more of them than the first."""
    draw = random.Random(0)
    return [
        Item(f"{speaker}-{i:03}", f"{speaker}", draw.randint(2 * RATE, 16 * RATE))
        for speaker in range(100, 100 + speakers)
        for i in range(each + speaker - 100)
    ]


def hours(items: list[Item]) -> float:
    return sum(item.num_samples for item in items) / RATE / 3600


def test_more_hours_hold_all_utterances_of_fewer_hours() -> None:
    items = corpus()
    before: set[Item] = set()
    for wanted in (0.01, 0.1, 0.2, 0.5, 1.0, 1.5, 100):
        chosen = select(items, RATE, max_hours=wanted)
        assert before <= set(chosen)
        assert hours(chosen) <= wanted
        assert wanted > hours(items) or hours(chosen) > wanted - 16 / 3600
        before = set(chosen)
    assert chosen == items


def test_the_order_of_the_utterances_does_not_change_the_choice() -> None:
    items = corpus()
    chosen = select(items, RATE, max_hours=0.4)
    assert chosen == [item for item in items if item in set(chosen)]
    random.Random(1).shuffle(items)
    assert set(select(items, RATE, max_hours=0.4)) == set(chosen)


def test_every_speaker_is_there_and_has_about_the_same_time() -> None:
    chosen = select(corpus(), RATE, max_hours=0.5)
    time = Counter[str]()
    for item in chosen:
        time[item.speaker] += item.num_samples
    assert len(time) == 20
    assert max(time.values()) - min(time.values()) <= 16 * RATE


def test_few_hours_hold_as_many_speakers_as_utterances() -> None:
    chosen = select(corpus(), RATE, max_hours=60 / 3600)
    assert 4 <= len(chosen) == len({item.speaker for item in chosen})
    assert {item.speaker for item in chosen} != {str(100 + i) for i in range(len(chosen))}
    assert len(select(corpus(), RATE, max_hours=1e-9)) == 1


def test_speakers_are_chosen_by_id_with_all_their_utterances() -> None:
    items = corpus()
    assert select(items, RATE, speakers=("103", "101")) == [item for item in items if item.speaker in ("101", "103")]
    assert {item.speaker for item in select(items, RATE, speakers=["103", "101"], max_hours=0.01)} == {"101", "103"}
    assert select(items, RATE) == items
    assert select([], RATE, max_hours=1.0) == []


def test_an_unknown_speaker_is_one_line_with_the_nearest() -> None:
    with pytest.raises(DataError, match=r"of speaker '1031': did you mean '103'\? The 20 .*100, .*109, \.\.\."):
        select(corpus(), RATE, speakers=("101", "1031"))
    with pytest.raises(DataError, match=r"no utterance of speaker 'x': The 2 speakers are 100, 101\."):
        select(corpus(2), RATE, speakers=("x",))


@pytest.mark.parametrize("max_hours", [0, -1.0, float("nan"), float("inf")])
def test_hours_that_are_no_positive_number_are_refused(max_hours: float) -> None:
    with pytest.raises(ConfigError, match="max_hours must be a positive number of hours, got"):
        select(corpus(2), RATE, max_hours=max_hours)


def test_the_choice_is_the_same_on_every_machine() -> None:
    items = [Item(f"{speaker}-{i}", speaker, 36_000) for speaker in "abcde" for i in range(3)]
    chosen = select(items, RATE, max_hours=0.7)
    assert [item.id for item in chosen] == ["a-1", "b-1", "c-1", "c-2", "d-1", "d-2", "e-0"]
