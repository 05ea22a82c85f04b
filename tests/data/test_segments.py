"""Segments refuse impossible times."""

import dataclasses
from pathlib import Path

import pytest

from speechattn.data.labels.segments import Segment, Utterance


def test_a_segment_may_be_empty_and_cannot_change() -> None:
    segment = Segment(1.0, 1.0, "AA")
    assert segment.duration == 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        segment.start_s = 0.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [
        (-0.01, 1.0, "0 s or later"),
        (1.0, 0.5, "not stop before it starts"),
        (float("nan"), 1.0, "finite"),
        (0.0, float("inf"), "finite"),
    ],
)
def test_impossible_times_are_refused(start: float, stop: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Segment(start, stop, "AA")


def test_an_utterance_needs_no_transcript() -> None:
    utterance = Utterance("19-198-0001", "19", Path("a.flac"))
    assert (utterance.transcript, utterance.subset, utterance.chapter) == (None, "", "")
