"""Framing against the frame counts of librosa and Kaldi, and time against samples."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechattn.framing import ALIGNMENTS, Framing

framings = st.builds(
    lambda hop, more, align: Framing(16000, hop + more, hop, align),
    st.integers(1, 300),
    st.integers(0, 400),
    st.sampled_from(ALIGNMENTS),
)


@pytest.mark.parametrize(("samples", "frames"), [(0, 0), (1, 0), (159, 0), (160, 1), (319, 1), (320, 2), (16000, 100)])
def test_causal_is_exactly_100_frames_a_second(samples: Any, frames: Any) -> None:
    assert Framing().num_frames(samples) == frames


@pytest.mark.parametrize(("samples", "frames"), [(159, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16000, 98)])
def test_snip_is_kaldis_snip_edges(samples: Any, frames: Any) -> None:
    assert Framing(align="snip").num_frames(samples) == frames


@pytest.mark.parametrize("samples", [160, 161, 400, 1599, 1600, 16000])
def test_center_is_librosas_count(samples: Any) -> None:
    pytest.importorskip("numba", reason="librosa computes with numba")
    import librosa
    import numpy as np

    frames = librosa.util.frame(np.zeros(samples + 400), frame_length=400, hop_length=160).shape[1]
    assert Framing(align="center").num_frames(samples) == frames


@given(framings, st.integers(0, 500))
def test_frame_at_undoes_seconds_at(framing: Any, t: Any) -> None:
    assert framing.frame_at(framing.seconds_at(t)) == t or framing.center_sample(t) == 0


def test_frame_at_undoes_seconds_at_after_ten_hours() -> None:
    framing = Framing()
    assert all(framing.frame_at(framing.seconds_at(t)) == t for t in range(3_600_000, 3_600_500))


@given(framings, st.integers(1, 20_000))
def test_the_last_frame_hears_the_audio_and_the_next_would_lack_samples(framing: Any, samples: Any) -> None:
    frames = framing.num_frames(samples)
    if frames == 0 or framing.align == "center":  # librosa's last frame is centred past the last sample
        return
    start, stop = framing.span_samples(frames - 1)
    assert start < samples and 0 < stop <= samples < framing.span_samples(frames)[1]


def test_label_time_is_the_window_centre_clipped_to_the_audio() -> None:
    causal = Framing()
    assert causal.seconds_at(0) == 0.0
    assert causal.seconds_at(1) == pytest.approx(0.0075)
    assert causal.seconds_at(100) == pytest.approx(0.9975)
    assert Framing(align="snip").seconds_at(3) == pytest.approx(0.0425)
    assert Framing(align="center").seconds_at(3) == pytest.approx(0.03)
    assert Framing(align="center").center_sample(100, num_samples=16000) == 15999


def test_left_padding_is_the_window_less_the_hop() -> None:
    assert Framing().left_padding == 240
    assert Framing(align="snip").left_padding == 0


@pytest.mark.parametrize(
    ("rate", "window", "hop"),
    [
        (8000, 200, 80),
        (12_000, 300, 120),
        (16_000, 400, 160),
        (24_000, 600, 240),
        (32_000, 800, 320),
        (44_100, 1102, 441),  # 25 ms are 1102.5: Kaldi takes the whole ones
        (48_000, 1200, 480),
    ],
)
@pytest.mark.parametrize("kind", [int, float, np.int32, np.float64])
def test_windows_are_25_ms_and_hops_10_ms_at_every_rate(rate: Any, window: Any, hop: Any, kind: Any) -> None:
    framing = Framing(sample_rate=kind(rate))
    assert framing == Framing(rate, window, hop)
    assert [type(number) for number in (framing.sample_rate, framing.window, framing.hop)] == [int] * 3
    assert framing.num_frames(rate) == framing.frames_per_second == 100
    assert framing.hop_ms == 10
    assert framing.seconds_at(100) == pytest.approx(0.9975, abs=1 / rate)


@pytest.mark.parametrize("kind", [float, np.int16, np.float32])
def test_windows_and_hops_in_whole_floats_are_taken_as_rates_are(kind: Any) -> None:
    framing = Framing(kind(16000), window=kind(512), hop=kind(160))
    assert framing == Framing(16000, 512, 160)
    assert [type(number) for number in (framing.sample_rate, framing.window, framing.hop)] == [int] * 3


@pytest.mark.parametrize("rate", [11_025, 22_050, 50])
def test_10_ms_that_are_no_whole_samples_are_refused_with_a_framing_that_works(rate: Any) -> None:
    with pytest.raises(ValueError, match=f"samples at {rate} Hz, no whole number: give hop") as caught:
        Framing(sample_rate=rate)
    shown = re.search(r"Framing\(sample_rate=(\d+), hop=(\d+)\), whose frames are (\S+) ms", str(caught.value))
    assert shown is not None
    rate, hop, ms = shown.groups()
    assert Framing(sample_rate=int(rate), hop=int(hop)).hop_ms == pytest.approx(float(ms), rel=1e-3)


def test_a_hop_in_samples_keeps_the_window_and_a_window_the_hop() -> None:
    assert Framing(sample_rate=22_050, hop=220) == Framing(22_050, 551, 220)
    assert Framing(sample_rate=8000, window=256) == Framing(8000, 256, 80)
    assert Framing(hop=320).hop_ms == 20


@pytest.mark.parametrize("value", [22_050.5, float("nan"), float("inf"), True, "16000", -1, 0])
@pytest.mark.parametrize("name", ["sample_rate", "window", "hop"])
def test_a_number_that_is_not_whole_is_named(name: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=f"Framing.{name} must be a whole number from 1, got"):
        Framing(**{name: value})


def test_bad_framings_are_refused() -> None:
    with pytest.raises(ValueError, match="align must be one of causal, snip, center"):
        Framing(align="left")
    with pytest.raises(ValueError, match="hop must not exceed window"):
        Framing(window=100, hop=200)
    with pytest.raises(ValueError, match="sample_rate"):
        Framing(sample_rate=0)
    with pytest.raises(ValueError, match="num_samples"):
        Framing().num_frames(-1)
    with pytest.raises(ValueError, match="causal"):
        Framing(align="center").require_streamable()


@given(framings, st.integers(1, 20_000))
def test_complete_frames_are_those_whose_last_sample_is_there(framing: Framing, samples: int) -> None:
    stops = [framing.span_samples(t)[1] for t in range(samples // framing.hop + 2)]
    assert max(0, framing.complete_frames(samples)) == sum(stop <= samples for stop in stops)


@given(framings, st.integers(1, 60), st.integers(0, 20_000))
def test_labels_of_consecutive_frames_meet_half_way_between_their_centres(
    framing: Framing, t: int, samples: int
) -> None:
    before, after = framing.center_sample(t - 1), framing.center_sample(t)
    assert before <= framing.edge_sample(t) <= after and abs(2 * framing.edge_sample(t) - before - after) <= 1
    assert framing.edge_sample(0) == 0 and framing.end_sample(0) == 0
    assert framing.edge_sample(t, samples) <= max(0, samples - 1)
    assert framing.end_sample(t) - framing.center_sample(t - 1) == (framing.hop + 1) // 2


def test_latency_is_half_a_window_and_the_hops_of_the_look_ahead() -> None:
    assert Framing().latency_samples() == 200 and Framing().latency_ms() == 12.5
    assert Framing().latency_ms(lookahead=19) == 202.5
    assert Framing(sample_rate=8000).latency_ms(lookahead=19) == 202.5


def test_drawn_edges_lie_half_a_hop_to_both_sides_of_a_centre() -> None:
    edges = Framing(align="snip").drawn_edges(2)
    assert edges == [0.0075, 0.0175, 0.0275]
    assert Framing().first_center == -40 and Framing(align="center").first_center == 0
    assert Framing().num_samples(7) == 1120 and Framing().num_hops(1279) == 7 and Framing().hops_per_window == 2
