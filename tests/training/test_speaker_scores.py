"""Facts about the intervals over speakers."""

import numpy as np
import pytest
import torch

from speechattn.training.speaker_scores import (
    MIN_SPEAKERS,
    Interval,
    interval,
    paired_interval,
    update_scores,
)
from speechattn.training.tasks.frames import FrameTask


def counts(rates: np.ndarray, frames: int = 1000) -> dict[str, list[float]]:
    return {str(i): [round(rate * frames), frames] for i, rate in enumerate(rates)}


def test_an_interval_holds_the_score_and_is_wider_than_that_of_independent_frames() -> None:
    rates = np.linspace(0.5, 0.9, 20)
    found = interval(counts(rates))
    assert found is not None and found.low < 0.7 < found.high
    frames_only = 2 * 1.96 * np.sqrt(0.7 * 0.3 / 20_000)
    assert found.high - found.low > 5 * frames_only
    standard_error = rates.std() / np.sqrt(20)
    assert found.high - found.low == pytest.approx(2 * 1.96 * standard_error, rel=0.05)


def test_a_difference_on_the_same_speakers_is_surer_than_either_score() -> None:
    rates = np.linspace(0.5, 0.9, 20)
    found = paired_interval(counts(rates), counts(rates + 0.01))
    assert found is not None
    assert found == pytest.approx((0.01, 0.01), abs=1e-9)


def test_equal_runs_differ_by_exactly_nothing() -> None:
    same = counts(np.linspace(0.2, 0.8, 12))
    assert paired_interval(same, same) == Interval(0.0, 0.0)


def test_other_speakers_or_counts_have_no_interval() -> None:
    first = counts(np.full(12, 0.5))
    assert paired_interval(first, {**first, "new": [1, 2]}) is None
    assert paired_interval(first, {**first, "0": [1, 999]}) is None
    few = counts(np.full(MIN_SPEAKERS - 1, 0.5))
    assert interval(few) is None and paired_interval(few, few) is None and interval({}) is None


def test_order_of_the_speakers_does_not_matter_for_a_pair() -> None:
    rates = np.linspace(0.3, 0.9, 15)
    first, second = counts(rates), counts(rates**2)
    turned = dict(reversed(second.items()))
    assert paired_interval(first, turned) == paired_interval(first, second)


def test_utterances_of_a_speaker_are_added_up() -> None:
    scores, by_speaker = FrameTask(("SIL", "AA", "B")).scores(), dict[str, list[float]]()
    labels = torch.tensor([[0, 1, 2, -100]])
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 1, 1, 1]]), 3).float()
    for speaker in ("19", "19", "26"):
        update_scores(scores, by_speaker, speaker, logits, torch.tensor([4]), labels)
    update_scores(scores, by_speaker, "27", logits, torch.tensor([4]), torch.full((1, 4), -100))
    assert by_speaker == {"19": [4, 6], "26": [2, 3], "27": [0, 0]} and scores.count == 9
