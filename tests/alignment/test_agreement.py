"""Agreement of two alignments, on cases counted by hand."""

from __future__ import annotations

import pytest

from speechattn.alignment.agreement import compare_alignments, match_phones
from speechattn.data.labels.segments import Segment
from speechattn.framing import Framing

SNIP = Framing(align="snip")
REFERENCE = [
    Segment(0.0, 0.2, "SIL"),
    Segment(0.2, 0.3, "DH"),
    Segment(0.3, 0.4, "AH"),
    Segment(0.4, 0.5, "K"),
    Segment(0.5, 0.7, "SIL"),
]


def moved(seconds: float) -> list[Segment]:
    return [
        Segment(max(0.0, s.start_s + seconds * (s.start_s > 0)), s.stop_s + seconds * (s.stop_s < 0.7), s.label)
        for s in REFERENCE
    ]


def test_an_alignment_agrees_with_itself() -> None:
    found = compare_alignments([(REFERENCE, REFERENCE)], SNIP)
    assert found.frame_share == found.within(0) == found.within_all(0) == 1
    assert (found.frames, found.reference_phones, found.mean_error_ms) == (SNIP.num_frames(11200), 3, 0)


def test_a_late_alignment_has_a_positive_mean_error() -> None:
    found = compare_alignments([(moved(0.03), REFERENCE)], SNIP)
    assert found.mean_error_ms == pytest.approx(30)
    assert found.within(20) == 0 and found.within(30) == found.within(50) == 1
    assert found.frames - found.equal_frames == 4 * 3  # four boundaries, three frames each


def test_a_phone_without_a_match_is_a_miss_only_of_within_all() -> None:
    ours = [s if s.label != "AH" else Segment(s.start_s, s.stop_s, "IY") for s in REFERENCE]
    found = compare_alignments([(ours, REFERENCE)], SNIP)
    assert found.within(20) == 1
    assert found.within_all(20) == pytest.approx(2 / 3) == found.match_share


def test_phones_that_one_side_lacks_do_not_shift_the_pairs() -> None:
    ours = [s for s in REFERENCE if s.label != "AH"]
    assert [(a.label, b.start_s) for a, b in match_phones(ours, REFERENCE)] == [("DH", 0.2), ("K", 0.4)]
    assert [(a.label, b.start_s) for a, b in match_phones(REFERENCE, ours)] == [("DH", 0.2), ("K", 0.4)]


def test_of_equal_pairings_the_closer_one_is_taken() -> None:
    ours = [Segment(0.48, 0.6, "S")]
    theirs = [Segment(0.1, 0.5, "S"), Segment(0.5, 0.6, "S")]
    assert match_phones(ours, theirs) == [(ours[0], theirs[1])]


def test_unlabelled_frames_of_the_reference_are_not_counted() -> None:
    gap = [REFERENCE[0], REFERENCE[2], REFERENCE[3]]
    found = compare_alignments([(REFERENCE, gap)], SNIP)
    assert found.equal_frames == found.frames == 48 - 10  # 48 windows of 25 ms in 0.5 s, 10 centres in the gap


def test_utterances_are_summed() -> None:
    found = compare_alignments([(REFERENCE, REFERENCE), (moved(0.03), REFERENCE)], SNIP)
    assert found.reference_phones == 6 and found.within(20) == 0.5


def test_nothing_has_no_agreement() -> None:
    found = compare_alignments([])
    assert (found.frame_share, found.within(20), found.within_all(20), found.mean_error_ms) == (0, 0, 0, 0)
