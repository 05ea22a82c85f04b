"""The graph of a sentence: silence is optional, alternatives are parallel, phones have a shortest length."""

from __future__ import annotations

import pytest

from speechattn.alignment.phone_graph import phone_graph
from speechattn.data.labels.classes import PHONES

GO_ON = [[("G", "OW")], [("AA", "N"), ("AO", "N")]]


def test_each_phone_has_a_chain_of_states_and_its_last_repeats() -> None:
    graph = phone_graph([[("G", "OW")]], min_frames=3)
    assert [PHONES[index] for index in graph.classes] == [phone for phone in ("SIL", "G", "OW", "SIL") for _ in "123"]
    assert graph.units.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert graph.repeats.tolist() == [False, False, True] * 4
    assert graph.words.tolist() == [-1] * 3 + [0] * 6 + [-1] * 3


def test_silence_may_be_left_out_everywhere() -> None:
    graph = phone_graph(GO_ON, min_frames=1)
    assert graph.starts == (0, 1)  # silence or G
    assert graph.jumps[3] == (2,) and graph.jumps[4] == (2, 3) == graph.jumps[6]
    assert graph.ends == (5, 7, 8)
    assert graph.jumps[8] == (5, 7)


def test_the_shortest_path_takes_the_shortest_alternatives() -> None:
    assert phone_graph([[("AH",), ("EY", "T")], [("T", "UW")]], min_frames=2).min_frames == 6


def test_a_pronunciation_given_twice_counts_once() -> None:
    assert len(phone_graph([[("AH",), ("AH",)]])) == len(phone_graph([[("AH",)]]))


@pytest.mark.parametrize("words", [[], [[]], [[("AH",)], []], [[()]]])
def test_a_sentence_without_phones_is_refused(words: list[list[tuple[str, ...]]]) -> None:
    with pytest.raises(ValueError, match="needs words"):
        phone_graph(words)
