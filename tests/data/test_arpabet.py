"""The engine's marks become phones, without the engine: splits, silent r, syllable ends, closures, pauses."""

from __future__ import annotations

import numpy as np
import pytest

from speechattn.data.synthetic import arpabet
from speechattn.data.synthetic.arpabet import CLASSES, CONSONANTS, VOWELS, Mark, phones

RATE = 10_000
LOUD = np.ones(4000, np.float32)


def labels(marks: list[Mark], accent: str = "en-us") -> list[tuple[int, str]]:
    return [(phone.start, phone.label) for phone in phones(marks, LOUD, RATE, accent)]


def test_the_39_phones_are_vowels_or_consonants() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 41
    assert len(VOWELS) == 15 and len(CONSONANTS) == 24


def test_the_table_reaches_every_phone_and_nothing_else() -> None:
    tables = [arpabet._PHONES, arpabet._SILENT_R, arpabet._BEFORE_R]
    reached = {label for table in tables for entry in table.values() for label in entry.split()}
    assert reached == set(arpabet.ARPABET)


def test_two_phones_share_a_mark_unless_the_r_is_silent_or_follows() -> None:
    car = [Mark(0, "k", 1), Mark(500, "'A@", 1), Mark(1500, "_:", 1)]
    assert labels(car) == [(0, "K"), (500, "AA"), (1050, "R"), (1500, "SIL")]
    assert labels(car, "en-gb-x-rp") == [(0, "K"), (500, "AA"), (1500, "SIL")]
    starry = [Mark(0, "t", 1), Mark(500, "'A@", 1), Mark(1500, "r", 1), Mark(2000, "i", 1)]
    assert labels(starry) == [(0, "T"), (500, "AA"), (1500, "R"), (2000, "IY")]


def test_an_l_that_ends_a_syllable_begins_inside_its_vowel() -> None:
    tall = [Mark(0, "t", 1), Mark(1000, "O:", 1), Mark(2000, "l", 1), Mark(2000, "_:", 1)]  # a mark of no length
    assert labels(tall) == [(0, "T"), (1000, "AO"), (1550, "L"), (2000, "SIL")]
    yellow = [Mark(0, "j", 1), Mark(1000, "E", 1), Mark(2000, "l", 1), Mark(2600, "oU", 1)]
    assert labels(yellow) == [(0, "Y"), (1000, "EH"), (2000, "L"), (2600, "OW")]


def test_pauses_become_one_and_a_very_short_one_none() -> None:
    pauses = [Mark(0, "s", 1), Mark(1000, "_:", 1), Mark(1500, "_", 1), Mark(2000, "_!", 2), Mark(2400, "s", 2)]
    assert labels(pauses) == [(0, "S"), (1000, "SIL"), (2400, "S")]
    assert labels([Mark(0, "s", 1), Mark(1000, "_", 1), Mark(1100, "s", 2)]) == [(0, "S"), (1100, "S")]


def test_a_stop_begins_with_its_closure() -> None:
    waveform = np.ones(4000, np.float32)
    waveform[1000:1500] = 0.01  # 40 dB down before the burst at 1500
    found = phones([Mark(0, "a", 1), Mark(1500, "t", 1), Mark(2500, "a", 1)], waveform, RATE, "en-us")
    assert [tuple(phone[:3]) for phone in found] == [(0, 1000, "AE"), (1000, 2500, "T"), (2500, 4000, "AE")]


def test_a_closure_is_at_most_90_ms_and_none_follows_silence() -> None:
    waveform = np.ones(4000, np.float32)
    waveform[300:1500] = 0
    after_vowel = phones([Mark(0, "a", 1), Mark(1500, "p", 1)], waveform, RATE, "en-us")
    assert after_vowel[1].start == 1500 - 900
    after_silence = phones([Mark(0, "a", 1), Mark(300, "_:", 1), Mark(1500, "p", 2)], waveform, RATE, "en-us")
    assert [phone.start for phone in after_silence] == [0, 300, 1500]


def test_an_unknown_mnemonic_is_named() -> None:
    with pytest.raises(ValueError, match=r"'Q\?'.*en-us"):
        labels([Mark(0, "Q?", 1)])
