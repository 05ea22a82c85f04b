"""The energy detector covers the audio without gaps, and agrees with the aligner on real speech."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechattn.data.labelled_corpus import load_corpus
from speechattn.data.labels.classes import SPEECH
from speechattn.data.labels.energy_vad import speech_segments
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segments import Segment
from speechattn.framing import Framing

RATE = 16_000


def noise(seconds: float, level: float = 1.0, seed: int = 0, rate: int = RATE) -> torch.Tensor:
    return level * torch.randn(round(seconds * rate), generator=torch.Generator().manual_seed(seed))


def silence(seconds: float, rate: int = RATE) -> torch.Tensor:
    return torch.zeros(round(seconds * rate))


def spoken(segments: list[Segment]) -> list[tuple[float, float]]:
    return [(segment.start_s, segment.stop_s) for segment in segments if segment.label == "SPEECH"]


def check_tiling(segments: list[Segment], num_samples: int, rate: int = RATE) -> None:
    """In turn, without a gap, from the first sample to the last."""
    starts, stops = [segment.start_s for segment in segments], [segment.stop_s for segment in segments]
    assert [*starts, num_samples / rate] == [0.0, *stops]
    assert all(segment.duration > 0 for segment in segments)
    labels = [segment.label for segment in segments]
    assert set(labels) <= {"SIL", "SPEECH"} and all(a != b for a, b in pairwise(labels))


# Promises


@pytest.mark.parametrize("num_samples", [0, 1, 159, 160, 161, 511, 512, 16_000, 500_001])
def test_digital_silence_is_silence_of_any_length(num_samples: int) -> None:
    got = speech_segments(torch.zeros(num_samples), RATE)
    assert got == ([Segment(0.0, num_samples / RATE, "SIL")] if num_samples else [])


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_segments_tile_and_loudness_does_not_matter(data: st.DataObject) -> None:
    parts = data.draw(st.lists(st.tuples(st.floats(0, 0.6), st.sampled_from([0.0, 0.001, 0.03, 1.0])), max_size=8))
    waveform = torch.cat([noise(s, level, seed) for seed, (s, level) in enumerate(parts)] or [silence(0)])
    got = speech_segments(waveform, RATE)
    check_tiling(got, len(waveform))
    assert speech_segments(waveform, RATE) == got
    gain = 2.0 ** data.draw(st.integers(-60, 60))
    assert speech_segments(gain * waveform, RATE) == got
    assert speech_segments(-waveform, RATE) == got


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 48_000])
def test_a_burst_is_found_where_it_is(rate: int) -> None:
    waveform = torch.cat([silence(1.0, rate), noise(0.5, rate=rate), silence(1.0, rate)]) + noise(2.5, 0.01, 1, rate)
    ((start, stop),) = spoken(speech_segments(waveform, rate))
    # Widened by 30 ms; a window of 32 ms, three of which are averaged, sees it 26 ms ahead at most.
    assert 1.0 - 0.06 < start < 1.0 and 1.5 < stop < 1.5 + 0.06


def test_short_pauses_belong_to_the_speech_and_clicks_to_the_silence() -> None:
    base = noise(3.0, 0.003)
    loud = torch.cat([silence(1), noise(0.4), silence(0.12), noise(0.4), silence(0.5), noise(0.4), silence(0.18)])
    base[: len(loud)] += loud
    assert [round(stop - start, 1) for start, stop in spoken(speech_segments(base, RATE))] == [1.0, 0.5]
    clicks = noise(3.0, 0.003)
    clicks[8_000] = clicks[24_000] = clicks[40_000] = 1.0
    clicks[16_000:20_000] += noise(0.25)
    # A window is longer than a click, but shorter than a syllable.
    ((start, stop),) = spoken(speech_segments(clicks, RATE, min_speech_s=0.08))
    assert start == pytest.approx(1.0, abs=0.06) and stop == pytest.approx(1.25, abs=0.06)


@pytest.mark.parametrize("seconds", [0.5, 10.0, 60.0])
def test_steady_noise_and_hum_are_silence(seconds: float) -> None:
    assert spoken(speech_segments(noise(seconds), RATE)) == []
    time = torch.arange(round(seconds * RATE)) / RATE
    assert spoken(speech_segments(torch.sin(2 * torch.pi * 500 * time), RATE)) == []


def test_hum_below_speech_hides_nothing() -> None:
    waveform = torch.cat([silence(1.0), noise(0.5, 0.1), silence(1.0)]) + noise(2.5, 0.001, 1)
    hum = torch.sin(2 * torch.pi * 50 * torch.arange(len(waveform)) / RATE) + 3.0
    assert len(spoken(speech_segments(hum, RATE))) == 0
    assert len(spoken(speech_segments(waveform + hum, RATE))) == 1


def test_the_floor_follows_a_change_of_room() -> None:
    quiet, noisy = noise(60.0, 0.001, 1), noise(60.0, 0.05, 2)
    for at in range(2, 60, 4):
        for room in (quiet, noisy):
            room[at * RATE : (at + 1) * RATE] += noise(1.0, 0.5, at)
    found = spoken(speech_segments(torch.cat([quiet, noisy]), RATE))
    # A noise that sets in all at once is speech until a tenth of the 20 s around is no quieter: 8 s.
    settled = [(start, stop) for start, stop in found if stop < 60 or start > 68]
    assert len(settled) == 15 + 13 and len(found) == len(settled) + 1
    assert all(stop - start == pytest.approx(1.0, abs=0.12) for start, stop in settled)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_bad_samples_are_refused(bad: float) -> None:
    waveform = torch.zeros(1000)
    waveform[500] = bad
    with pytest.raises(ValueError, match="NaN or infinity"):
        speech_segments(waveform, RATE)


def test_shapes_and_thresholds_are_checked() -> None:
    with pytest.raises(ValueError, match=r"waveform must be \[N\], got \[1, 1000\]"):
        speech_segments(torch.zeros(1, 1000), RATE)
    for onset, offset in ((0.2, 0.3), (1.0, 0.3), (0.5, 0.0)):
        with pytest.raises(ValueError, match="0 < offset <= onset < 1"):
            speech_segments(torch.zeros(1000), RATE, onset=onset, offset=offset)


# Real speech


def agreement(folder: Path, subset: str, every: int = 1) -> tuple[float, float, float]:
    """(share of frames right, of speech missed, of silence taken for speech) against the aligner's silences."""
    corpus = load_corpus(folder, subset, folder / "alignments", SPEECH, max_bad=0)
    counts = torch.zeros(2, 2)
    for item, waveform in corpus.waveforms(corpus.utterances[::every]):
        truth = frame_labels(item.segments, len(waveform), Framing(), SPEECH)
        found = frame_labels(speech_segments(waveform, RATE), len(waveform), Framing(), SPEECH)
        known = truth >= 0
        counts += torch.bincount(2 * truth[known] + found[known], minlength=4).view(2, 2)
    right = float(counts.diagonal().sum() / counts.sum())
    return right, float(counts[1, 0] / counts[1].sum()), float(counts[0, 1] / counts[0].sum())


@pytest.mark.parametrize(("subset", "every"), [("train-clean-100", 7), ("test-other", 2)])
def test_it_agrees_with_the_aligner(librispeech_shared: Path, subset: str, every: int) -> None:
    """0.975, 0.012, 0.083 and 0.966, 0.012, 0.109 over all utterances; saying SPEECH everywhere is 0.81 and 0.76."""
    right, missed, false_alarms = agreement(librispeech_shared, subset, every)
    assert right > 0.955
    assert missed < 0.02
    assert false_alarms < 0.14


def test_spoken_digits_at_8_khz(fsdd_mini: Path) -> None:
    """Digits cut close to the word, at 8 kHz: most of each is speech or has no contrast to tell."""
    from speechattn.data.audio.files import load_audio

    found = 0
    paths = sorted((fsdd_mini / "recordings").glob("*.wav"))[::10]
    for path in paths:
        waveform, rate = load_audio(path, sample_rate=None)
        segments = speech_segments(waveform, rate)
        check_tiling(segments, len(waveform), rate)
        found += bool(spoken(segments))
    assert found > 0.8 * len(paths)
