"""Speakers change the audio, and the labels keep their place."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from speechattn.data.synthetic.arpabet import Phone
from speechattn.data.synthetic.espeak import SynthesizedSpeech
from speechattn.data.synthetic.voices import SAMPLE_RATE, Voice, record, voices


@pytest.fixture
def spoken() -> SynthesizedSpeech:
    """One second: silence, a tone from 0.2 to 0.4 s, silence, a tone from 0.6 to 0.9 s, silence."""
    rate = 22_050
    waveform = 0.3 * np.sin(2 * np.pi * 500 * np.arange(rate) / rate).astype(np.float32)
    times = [(0.0, "SIL"), (0.2, "AA"), (0.4, "SIL"), (0.6, "IY"), (0.9, "SIL"), (1.0, "")]
    phones = []
    for word, ((start, label), (stop, _)) in enumerate(pairwise(times)):
        phones.append(Phone(round(start * rate), round(stop * rate), label, word))
        if label == "SIL":
            waveform[phones[-1].start : phones[-1].stop] = 0
    return SynthesizedSpeech(waveform, rate, phones)


def test_train_and_test_share_no_voice() -> None:
    train, test = voices("train", 100, seed=0), voices("test", 100, seed=0)
    variant = {"train": {voice.name.split("+")[1] for voice in train}, "test": {v.name.split("+")[1] for v in test}}
    assert variant["train"].isdisjoint(variant["test"])
    assert len(variant["train"]) == 40 and len(variant["test"]) == 26
    assert {voice.id for voice in train}.isdisjoint(voice.id for voice in test)
    assert len({voice.id for voice in train}) == 100


@pytest.mark.parametrize("speed", [0.90, 1.0, 1.12])
@pytest.mark.parametrize("index", range(4))
def test_labels_stay_where_the_sound_is(spoken: SynthesizedSpeech, index: int, speed: float) -> None:
    voice = dataclasses.replace(voices("train", 4, seed=5)[index], speed=speed, snr_db=30.0, room_db=-20.0)
    recording = record(spoken, voice, np.random.default_rng(1))
    assert [phone.label for phone in recording.phones] == ["SIL", "AA", "SIL", "IY", "SIL"]
    vowel = recording.phones[1]
    assert vowel.stop - vowel.start == pytest.approx(200 / speed, abs=1)

    power = np.square(recording.waveform).reshape(-1, SAMPLE_RATE // 1000).mean(axis=1)  # one value a millisecond
    smooth = np.convolve(power, np.ones(3) / 3, mode="same")
    for phone in (recording.phones[1], recording.phones[3]):
        loud = np.median(smooth[phone.start : phone.stop])
        rise = np.flatnonzero(smooth > 0.5 * loud)
        assert rise[rise > phone.start - 20].min() == pytest.approx(phone.start, abs=3)
        assert rise[rise < phone.stop + 20].max() == pytest.approx(phone.stop, abs=8)  # the room rings on


def test_recordings_are_whole_and_never_silent(spoken: SynthesizedSpeech) -> None:
    for voice in voices("test", 8, seed=2):
        waveform, phones = record(spoken, voice, np.random.default_rng(3))
        assert waveform.dtype == np.float32 and len(waveform) == phones[-1].stop * SAMPLE_RATE // 1000
        assert phones[0].start == 0 and all(a.stop == b.start for a, b in pairwise(phones))
        assert 100 <= phones[0].stop <= 500 and 100 <= phones[-1].stop - phones[-1].start <= 500
        assert np.isfinite(waveform).all() and np.abs(waveform).max() <= 0.99
        assert np.square(waveform).reshape(-1, 16).mean(axis=1).min() > 1e-10  # a noise floor, not zeros


def test_noise_is_as_loud_as_asked(spoken: SynthesizedSpeech) -> None:
    voice: Voice = dataclasses.replace(voices("train", 1, seed=0)[0], snr_db=20.0, room_db=-60.0)
    waveform, phones = record(spoken, voice, np.random.default_rng(0))
    parts = {True: [], False: []}  # type: dict[bool, list[float]]
    for phone in phones:
        parts[phone.label != "SIL"].append(
            float(np.square(waveform[phone.start * 16 + 160 : phone.stop * 16 - 160]).mean())
        )
    ratio_db = 10 * np.log10(np.mean(parts[True]) / np.mean(parts[False]))
    assert ratio_db == pytest.approx(20.0, abs=1.0)
