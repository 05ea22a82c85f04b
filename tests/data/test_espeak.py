"""The engine itself: one process, one sentence, phones that cover it; and the error when it is not installed."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest

from speechattn.data.synthetic.arpabet import ACCENTS, CLASSES, CONSONANTS, VOWELS, Phone
from speechattn.data.synthetic.espeak import Engine, engine_version, require_espeak
from speechattn.data.synthetic.sentences import sentences
from speechattn.data.synthetic.voices import voices
from speechattn.errors import UserError


@pytest.fixture(scope="module")
def engine() -> Engine:
    """The only engine of this test process: the library is one global machine."""
    pytest.importorskip("espeakng_loader", reason="the extra [synth] is not installed")
    return Engine()


def level_db(waveform: np.ndarray, phone: Phone) -> float:
    return float(10 * np.log10(np.square(waveform[phone.start : phone.stop], dtype=np.float64).mean() + 1e-12))


def test_a_missing_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    for call in (require_espeak, engine_version, Engine):
        with pytest.raises(UserError, match=r"pip install espeakng-loader"):
            call()


def test_the_version_needs_no_engine() -> None:
    pytest.importorskip("espeakng_loader", reason="the extra [synth] is not installed")
    assert engine_version().split(".")[0].isdigit()


def test_phones_of_a_sentence_are_the_ones_of_the_dictionary(engine: Engine) -> None:
    spoken = engine.speak("She had your dark suit.", "en-us", rate=160, pitch=50, pitch_range=50, word_gap=0)
    labels = " ".join(phone.label for phone in spoken.phones if phone.label != "SIL")
    assert labels == "SH IY HH AE D Y UH R D AA R K S UW T"


@pytest.mark.parametrize("accent", ACCENTS)
def test_phones_cover_the_audio_and_vowels_are_loud(engine: Engine, accent: str) -> None:
    seen: set[str] = set()
    for text in sentences(30, seed=4):
        spoken = engine.speak(text, accent, rate=175, pitch=50, pitch_range=50, word_gap=0)
        phones, waveform = spoken.phones, spoken.waveform
        assert phones[0].start == 0 and phones[-1].stop == len(waveform)
        assert all(a.stop == b.start and a.start < a.stop for a, b in pairwise(phones))
        assert {phone.label for phone in phones} <= set(CLASSES)
        seen |= {phone.label for phone in phones}
        vowels = [level_db(waveform, phone) for phone in phones if phone.label in VOWELS]
        silences = [level_db(waveform, phone) for phone in phones if phone.label == "SIL"]
        # 15 dB: a pause may hold the last moment of a stop's release.
        assert np.median(vowels) > np.median(silences) + 15
    assert seen >= set(VOWELS + CONSONANTS) - {"OY", "ZH"}  # 30 sentences may do without the two rarest


def test_closures_are_quiet_and_belong_to_their_stop(engine: Engine) -> None:
    spoken = engine.speak("A copper coat, a supper, a cookie, a potato.", "en-us", 160, 50, 50, 0)
    for before, phone in pairwise(spoken.phones):
        if phone.label in ("P", "K") and before.label in VOWELS:
            closure = phone._replace(stop=phone.start + round(0.02 * spoken.sample_rate))
            assert level_db(spoken.waveform, closure) < level_db(spoken.waveform, before) - 20


def test_every_voice_exists_and_an_unknown_one_is_refused(engine: Engine) -> None:
    for subset in ("train", "test"):
        for voice in voices(subset, 100, seed=0):
            assert (engine._variants / voice.name.split("+")[1]).is_file()
    for name in ("en-us+nobody", "en-gb", "fr"):
        with pytest.raises(ValueError, match=name.replace("+", r"\+")):
            engine.speak("hello", name, 175, 50, 50, 0)
