"""The best path equals that of exhaustive search; batches, minimum durations and alternatives included."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from speechattn.alignment.forced_alignment import best_paths, max_batch
from speechattn.alignment.phone_graph import ALTERNATIVE_COST, MAX_PRONUNCIATIONS, PhoneGraph, phone_graph
from speechattn.data.labels.classes import PHONES

ROUNDING = 1e-4
"""Sums of a dozen scores in float32."""


def all_paths(graph: PhoneGraph, num_frames: int) -> Iterator[list[int]]:
    """Yield every path of `num_frames` states, found from the definition of the graph."""

    def follow(path: list[int]) -> Iterator[list[int]]:
        if len(path) == num_frames:
            if path[-1] in graph.ends:
                yield path
            return
        now = path[-1]
        following = {now} if graph.repeats[now] else set()
        if now + 1 < len(graph) and graph.chained[now + 1]:
            following.add(now + 1)
        following |= {target for target, sources in graph.jumps.items() if now in sources}
        for state in following:
            yield from follow([*path, state])

    for start in graph.starts:
        yield from follow([start])


def total(path: NDArray[np.int64] | list[int], graph: PhoneGraph, scores: NDArray[np.float32]) -> float:
    price = graph.costs.get(int(path[0]), 0.0)
    for before, state in pairwise(path):
        price += graph.costs.get(int(state), 0.0) * (before != state)
    return float(sum(scores[t, graph.classes[state]] for t, state in enumerate(path))) - price


def random_scores(seed: int, num_frames: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(num_frames, len(PHONES))).astype(np.float32)


SENTENCES: list[tuple[list[list[tuple[str, ...]]], int, int]] = [
    ([[("G", "OW")]], 1, 2),
    ([[("G", "OW")]], 1, 6),
    ([[("AH",)], [("AH",), ("EY",)]], 1, 7),
    ([[("AH",)], [("AH",), ("EY", "T")], [("T",)]], 2, 9),
    ([[("S", "S")]], 3, 10),
]


@pytest.mark.parametrize(("words", "min_frames", "num_frames"), SENTENCES)
def test_the_path_is_the_best_of_all_paths(
    words: list[list[tuple[str, ...]]], min_frames: int, num_frames: int
) -> None:
    graph = phone_graph(words, min_frames)
    for seed in range(5):
        scores = random_scores(seed, num_frames)
        [path] = best_paths([scores], [graph])
        paths = list(all_paths(graph, num_frames))
        assert path.tolist() in paths
        assert total(path, graph, scores) == pytest.approx(
            max(total(each, graph, scores) for each in paths), abs=ROUNDING
        )


def test_a_batch_gives_the_paths_of_its_utterances() -> None:
    graphs = [phone_graph(words, min_frames) for words, min_frames, _ in SENTENCES]
    scores = [random_scores(seed, num_frames + 3) for seed, (_, _, num_frames) in enumerate(SENTENCES)]
    together = best_paths(scores, graphs)
    for row, graph, path in zip(scores, graphs, together, strict=True):
        [alone] = best_paths([row], [graph])
        assert path.tolist() == alone.tolist()


def test_the_shortest_audio_takes_the_shortest_path() -> None:
    graph = phone_graph([[("G", "OW")], [("AH", "N", "D"), ("AH", "N")]], min_frames=3)
    assert graph.min_frames == 12
    [path] = best_paths([random_scores(0, 12)], [graph])
    assert [PHONES[index] for index in graph.classes[path]] == [
        phone for phone in ("G", "OW", "AH", "N") for _ in "123"
    ]


def test_shorter_audio_is_refused() -> None:
    graph = phone_graph([[("G", "OW")]], min_frames=3)
    with pytest.raises(ValueError, match="5 frames are fewer than the 6"):
        best_paths([random_scores(0, 5)], [graph])


def test_equal_phones_in_a_row_are_two_phones() -> None:
    graph = phone_graph([[("B", "AH", "S")], [("S", "T", "AA", "P")]], min_frames=1)
    scores = np.full((7, len(PHONES)), -5, np.float32)
    for t, phone in enumerate(("B", "AH", "S", "S", "T", "AA", "P")):
        scores[t, PHONES.index(phone)] = 0
    [path] = best_paths([scores], [graph])
    assert len(set(graph.units[path].tolist())) == 7 and graph.words[path].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_of_too_many_pronunciations_of_a_word_the_first_are_used() -> None:
    forms = [(first, second) for first in PHONES[1:13] for second in PHONES[1:13]]
    graph = phone_graph([forms, [("AH",)]], min_frames=1)
    assert len(graph.jumps[int(np.flatnonzero(graph.words == 1)[0])]) == MAX_PRONUNCIATIONS + 1 < len(forms)
    scores = np.full((4, len(PHONES)), -50, np.float32)
    for t, phone in enumerate((*forms[-1], "AH", "AH")):
        scores[t, PHONES.index(phone)] = 0
    [path] = best_paths([scores], [graph])
    assert path.tolist() in list(all_paths(graph, 4))


def test_memory_limits_the_batch() -> None:
    assert max_batch(1000, 500) > 16 and max_batch(10**6, 10**6) == 0


def test_a_rarer_pronunciation_has_to_score_better_by_its_price() -> None:
    graph = phone_graph([[("AH",), ("EY",)]], min_frames=1)
    scores = np.full((4, len(PHONES)), -100, np.float32)
    scores[:, PHONES.index("AH")] = 0
    for gain, wanted in ((0.9, "AH"), (1.1, "EY")):
        scores[:, PHONES.index("EY")] = gain * ALTERNATIVE_COST / 4
        [path] = best_paths([scores], [graph])
        assert {PHONES[index] for index in graph.classes[path]} == {wanted}
    after_another = phone_graph([[("T",)], [("AH",), ("EY",)]], min_frames=1)
    scores[0] = -100
    scores[0, PHONES.index("T")] = 0
    for gain, wanted in ((0.9, "AH"), (1.1, "EY")):
        scores[1:, PHONES.index("EY")] = gain * ALTERNATIVE_COST / 3
        [path] = best_paths([scores], [after_another])
        assert {PHONES[index] for index in after_another.classes[path[1:]]} == {wanted}
