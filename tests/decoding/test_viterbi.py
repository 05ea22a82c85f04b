"""Viterbi: equal to the best of all sequences, and a stream equal to that for any split.

`best_by_trying_all` is the definition: every sequence of T labels is scored. Scores that are multiples of 1/8 are added
without rounding, so equal scores are equal, and the sequences must be the same; among equal ones the order of the
definition decides.
"""

import itertools
import math
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
from torch import Tensor

from speechattn.decoding.smoothing import Smoothing
from speechattn.decoding.viterbi import ViterbiStream, viterbi
from speechattn.errors import ConfigError
from speechattn.stream_state import tensors

SETTINGS: list[tuple[float, Any]] = [
    (0.0, 1),
    (0.5, 1),
    (2.0, 1),
    (0.0, 2),
    (0.5, 3),
    (0.0, (1, 2, 3)),
    (1.0, (3, 1, 2)),
    (0.25, (2, 2, 9)),
    (100.0, 1),
    (1.0, 9),
]


def runs(labels: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(c, len(list(run))) for c, run in itertools.groupby(labels)]


def best_by_trying_all(scores: Tensor, cost: float, minima: Any, ended: bool = True) -> tuple[int, ...]:
    """The best labels of scores [T, C]; a stream that has not `ended` does not ask for the length of the last run."""
    length, num_classes = scores.shape
    least = (minima,) * num_classes if isinstance(minima, int) else minima
    rows = scores.tolist()

    def possible(labels: tuple[int, ...]) -> bool:
        asked = runs(labels) if ended else runs(labels)[:-1]
        return all(count >= least[c] for c, count in asked) or (ended and length < min(least) and len(asked) == 1)

    def rank(labels: tuple[int, ...]) -> tuple[float, tuple[int, ...]]:
        changes = sum(a != b for a, b in itertools.pairwise(labels))
        total = sum(row[c] for row, c in zip(rows, labels, strict=True)) - cost * changes
        return -total, labels[::-1]

    return min(filter(possible, itertools.product(range(num_classes), repeat=length)), key=rank)


def eighths(length: int, num_classes: int, seed: int, levels: int = 24) -> Tensor:
    """Scores without rounding; few `levels` make many equal."""
    generator = torch.Generator().manual_seed(seed)
    return -torch.randint(levels, (length, num_classes), generator=generator).double() / 8


def streamed(scores: Tensor, smoothing: Smoothing, sizes: Any) -> list[int]:
    decoder = ViterbiStream(scores.shape[1], smoothing)
    state, labels = decoder.initial_state(), []
    for piece in torch.split(scores, sizes):
        found, state = decoder.step(piece, state)
        labels += found.tolist()
    return labels + decoder.flush(state).tolist()


@pytest.mark.parametrize("levels", [2, 4, 24])
@pytest.mark.parametrize(("cost", "minima"), SETTINGS)
def test_the_sequence_is_the_best_of_all(cost: float, minima: Any, levels: int) -> None:
    for length in range(1, 8):
        for seed in range(5):
            scores = eighths(length, 3, 100 * length + seed, levels)
            assert viterbi(scores, cost, minima).tolist() == list(best_by_trying_all(scores, cost, minima))


def test_there_is_something_to_smooth() -> None:
    """The settings above give different sequences, and not those of argmax."""
    scores = eighths(7, 3, 0)
    assert len({tuple(viterbi(scores, cost, minima).tolist()) for cost, minima in SETTINGS}) >= 4
    assert viterbi(scores).tolist() == scores.argmax(-1).tolist()


@pytest.mark.parametrize("levels", [2, 24])
@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize(("cost", "minima"), SETTINGS)
def test_a_lag_takes_each_label_from_the_best_path_so_far(cost: float, minima: Any, lag: int, levels: int) -> None:
    for seed in range(4):
        scores = eighths(6, 3, seed, levels)
        expected = [best_by_trying_all(scores[: t + 1], cost, minima, ended=False)[t - lag] for t in range(lag, 6)]
        expected += best_by_trying_all(scores, cost, minima)[6 - lag :]
        assert streamed(scores, Smoothing(cost, minima, lag), 6) == expected


@pytest.mark.parametrize("lag", [None, 0, 1, 5, 40, 100])
@pytest.mark.parametrize(("cost", "minima"), SETTINGS)
def test_any_split_gives_the_same_labels(cost: float, minima: Any, lag: int | None) -> None:
    scores = (2 * torch.randn(40, 3)).log_softmax(-1)
    smoothing = Smoothing(cost, minima, lag)
    whole = streamed(scores, smoothing, 40)
    for sizes in (1, 7, [0, 13, 0, 0, 26, 1, 0]):
        assert streamed(scores, smoothing, sizes) == whole
    if lag is None or lag >= 40:
        assert whole == viterbi(scores, cost, minima).tolist()


def test_labels_come_one_lag_after_their_frame() -> None:
    decoder, scores = ViterbiStream(3, Smoothing(1.0, 2, lag_frames=4)), torch.randn(10, 3)
    state, counts = decoder.initial_state(), []
    for row in scores:
        labels, state = decoder.step(row[None], state)
        counts.append(len(labels))
    assert counts == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1] and len(decoder.flush(state)) == 4


def test_without_a_lag_labels_come_as_soon_as_the_best_paths_to_all_classes_agree() -> None:
    for seed in range(4):
        scores, decoder = eighths(7, 3, seed), ViterbiStream(3, Smoothing(0.5, lag_frames=None))
        state, labels = decoder.initial_state(), []
        for t, row in enumerate(scores):
            found, state = decoder.step(row[None], state)
            labels += found.tolist()
            # A last score of 0, and elsewhere of -1000, makes the path end in that class.
            ends = [-1000.0 * (torch.arange(3) != c)[None].double() for c in range(3)]
            paths = [best_by_trying_all(torch.cat((scores[:t], row + end)), 0.5, 1) for end in ends]
            frames = zip(*paths, strict=True)
            agreed = [frame[0] for frame in itertools.takewhile(lambda frame: len(set(frame)) == 1, frames)]
            assert labels == agreed and len(agreed) <= t
        assert len(labels) > 0


def test_the_longest_silence_stays_small() -> None:
    """Frames of a run that all paths share are decided before it has ended."""
    decoder = ViterbiStream(3, Smoothing(3.0, 2, lag_frames=None))
    state = decoder.initial_state()
    silence = torch.tensor([[-0.01, -5.0, -6.0]]).expand(500, 3)
    labels, state = decoder.step(silence, state)
    assert len(labels) > 495 and len(state.best) < 5


def test_a_state_is_constant_in_size_pure_and_can_be_pickled() -> None:
    decoder, scores = ViterbiStream(5, Smoothing(2.0, (1, 2, 3, 1, 2), lag_frames=6)), torch.randn(60, 5)
    state, sizes = decoder.initial_state(), set()
    for row in scores[:50]:
        _, state = decoder.step(row[None], state)
        sizes.add(state.num_bytes)
    assert state.num_bytes == max(sizes) and len(sizes) == 6, "it grows for the first 6 frames only"
    before = [tensor.clone() for tensor in tensors(state)]
    first, after = decoder.step(scores[50:], ForkingPickler.loads(ForkingPickler.dumps(state)))
    again, _ = decoder.step(scores[50:], state)
    assert first.tolist() == again.tolist() and after.frames == 60
    assert decoder.flush(state).tolist() == decoder.flush(state).tolist()
    assert all(map(torch.equal, tensors(state), before))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_logits_of_any_floating_dtype_are_taken(dtype: torch.dtype) -> None:
    logits = (8 * torch.randn(30, 4)).to(dtype)
    assert viterbi(logits, 2.0, 2).tolist() == viterbi(logits.double().log_softmax(-1), 2.0, 2).tolist()


def test_scores_stay_exact_in_a_long_stream() -> None:
    """Without relative scores, a sum over a day would lose the last digits."""
    decoder, scores = ViterbiStream(2, Smoothing(1.0, 1, 3)), torch.tensor([[-4e8, -4e8], [-4e8, -4e8]]).double()
    state = decoder.initial_state()
    for _ in range(50):
        _, state = decoder.step(scores, state)
    assert state.complete.abs().max() < 1.5


def test_no_frames_and_one_class() -> None:
    assert viterbi(torch.zeros(0, 3), 1.0, 4).tolist() == []
    assert viterbi(torch.zeros(3, 1), 1.0, 4).tolist() == [0, 0, 0]
    assert viterbi(torch.zeros(3, 2, dtype=torch.float64).requires_grad_(), 1.0).tolist() == [0, 0, 0]


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(ValueError, match=r"log_probs must be \[T, C\] with C > 0, got \[2, 3, 4\]"):
        viterbi(torch.zeros(2, 3, 4))
    with pytest.raises(TypeError, match="float"):
        viterbi(torch.zeros(2, 3, dtype=torch.int64))
    for value in (math.nan, math.inf, -math.inf):
        scores = torch.zeros(9, 3)
        scores[7, 1] = value
        with pytest.raises(ValueError, match=f"log_probs of frame 7, class 1, is {value}: scores must be finite"):
            viterbi(scores)
    decoder = ViterbiStream(3, Smoothing())
    with pytest.raises(ValueError, match=r"must be \[n, 3\], got \[5, 4\]"):
        decoder.step(torch.zeros(5, 4), decoder.initial_state())
    for cost in (-1.0, math.inf, math.nan, "2", True):
        with pytest.raises(ConfigError, match="change_cost must be a finite number of nats from 0"):
            viterbi(torch.zeros(2, 3), cost)  # type: ignore[arg-type]
    for minima, message in (
        (0, "min_frames must be a whole number from 1, got 0"),
        (1.5, "min_frames must be a whole number from 1, got 1.5"),
        ((1, 0, 1), r"min_frames\[1\] must be a whole number from 1, got 0"),
        ((1, 2), "one for each of the 3 classes, got 2 numbers"),
    ):
        with pytest.raises(ConfigError, match=message):
            viterbi(torch.zeros(2, 3), 1.0, minima)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="lag_frames must be a whole number from 0, got -1"):
        Smoothing(lag_frames=-1)
