"""The 41 labels of speech frames, and the conversion of espeak-ng's marks to ARPAbet phones with start and stop.

espeak-ng marks the exact sample where each of its own 70 phones begins, but not three things: the silent closure before
a stop (its mark is the burst), an r or l that it speaks inside the preceding vowel, and the boundary inside a phone
that is two in ARPAbet. They are computed here, from the marks and the audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SILENCE = "SIL"
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = (
    "B",
    "CH",
    "D",
    "DH",
    "F",
    "G",
    "HH",
    "JH",
    "K",
    "L",
    "M",
    "N",
    "NG",
    "P",
    "R",
    "S",
    "SH",
    "T",
    "TH",
    "V",
    "W",
    "Y",
    "Z",
    "ZH",
)
ARPABET = tuple(sorted(VOWELS + CONSONANTS))
CLASSES = (SILENCE, *ARPABET, "SPN")
"""The 41 labels of this project by index: silence, the 39 phones of ARPAbet, spoken noise (never in this corpus)."""

ACCENTS = ("en-us", "en-us-nyc", "en-gb-x-rp", "en-gb-scotland")
"""The accents whose phones are in the table below."""

# Two phones share one mark 55 : 45; none means that the phone before continues (a glide between two vowels).
_PHONES = {
    **{name: name.upper() for name in ("p", "b", "t", "d", "k", "g", "f", "v", "s", "z", "m", "n", "l", "r", "w")},
    **{"t#": "T", "t2": "T", "?": "T", "tS": "CH", "dZ": "JH", "T": "TH", "D": "DH", "S": "SH", "Z": "ZH"},
    **{"h": "HH", "x": "K", "N": "NG", "r-": "R", "j": "Y", "w#": "W", ";": ""},
    **{"0": "AA", "A:": "AA", "a": "AE", "aa": "AE", "O:": "AO", "O2": "AO", "O": "AO", "E": "EH", "V": "AH"},
    **{"@": "AH", "@2": "AH", "@5": "AH", "a#": "AH", "I": "IH", "I2": "IH", "I#": "IH", "i": "IY", "i:": "IY"},
    **{"U": "UH", "u": "UW", "u:": "UW", "3": "ER", "3:": "ER", "IR": "ER", "VR": "ER"},
    **{"eI": "EY", "aI": "AY", "aI2": "AY", "aU": "AW", "oU": "OW", "OI": "OY"},
    **{"@L": "AH L", "A@": "AA R", "O@": "AO R", "o@": "AO R", "e@": "EH R", "U@": "UH R", "i@3": "IH R"},
    **{"i@": "IY AH", "aI@": "AY AH", "aI3": "AY ER", "aU@": "AW AH"},
}
_SILENT_R = {"3": "AH", "A@": "AA", "O@": "AO", "o@": "AO", "e@": "EH", "U@": "UH", "i@3": "IH AH"}
_ACCENTED = {"en-us-nyc": _SILENT_R, "en-gb-x-rp": {**_SILENT_R, "aa": "AA"}}
_BEFORE_R = {"A@": "AA", "O@": "AO", "o@": "AO", "e@": "EH", "U@": "UH", "i@3": "IH", "i@": "IH"}
_STRESS = str.maketrans("", "", "',=%|")
_STOPS = ("P", "T", "K", "B", "D", "G", "CH", "JH")

_FIRST_SHARE = 0.55  # of a mark that is two phones
_STEP_S = 0.0025  # resolution of the search for a closure
_MAX_CLOSURE_S = 0.09
_CLOSURE_DB = 22.0  # a closure is this far below the loudest moment of the phone before
_MIN_PHONE_S = 0.01  # what a closure must leave of the phone before
_MIN_SILENCE_S = 0.03  # a shorter pause belongs to the phone before it


class Mark(NamedTuple):
    """A mark of the engine: its phone `mnemonic` begins at `sample`, in the word at position `word` of the text."""

    sample: int
    mnemonic: str
    word: int


class Phone(NamedTuple):
    """One of `CLASSES` over the half-open range of samples [start, stop); `word` is 0 in silence."""

    start: int
    stop: int
    label: str
    word: int


def phones(marks: Sequence[Mark], waveform: NDArray[np.float32], sample_rate: int, accent: str) -> list[Phone]:
    """Return the phones of `waveform` [N], in order and without a gap from sample 0 to N.

    Raises:
        ValueError: a mnemonic is not in the table.

    Examples:
        >>> marks = [Mark(0, "_:", 0), Mark(400, "'A@", 1), Mark(1400, "_", 0)]
        >>> [tuple(phone)[:3] for phone in phones(marks, np.ones(2000, np.float32), 10_000, "en-us")]
        [(0, 400, 'SIL'), (400, 950, 'AA'), (950, 1400, 'R'), (1400, 2000, 'SIL')]
    """
    marks = [mark._replace(mnemonic=mark.mnemonic.translate(_STRESS)) for mark in marks]
    found = [Phone(0, 0, SILENCE, 0)]
    for mark, following in pairwise([*marks, Mark(len(waveform), "_", 0)]):
        labels = arpabet_labels(mark.mnemonic, following.mnemonic, accent)
        last = found[-1]
        if mark.mnemonic in ("l", "r") and last.word == mark.word and last.label in VOWELS and _closes(mark, following):
            if (last.label, *labels) != ("ER", "R"):
                start = last.start + round(_FIRST_SHARE * (mark.sample - last.start))
                found.append(Phone(start, 0, labels[0], mark.word))
        elif mark.sample < following.sample:
            second = mark.sample + round(_FIRST_SHARE * (following.sample - mark.sample))
            for start, label in zip((mark.sample, second), labels, strict=False):
                found.append(Phone(start, 0, label, 0 if label == SILENCE else mark.word))
    return _with_closures(_merged(found, len(waveform), sample_rate), waveform, sample_rate)


def _closes(mark: Mark, following: Mark) -> bool:
    """Return whether an l or r ends its syllable: espeak-ng then speaks it inside the vowel, and may mark its end."""
    return following.word != mark.word or _PHONES.get(following.mnemonic, "").split(" ")[0] not in VOWELS


def arpabet_labels(name: str, following: str, accent: str) -> list[str]:
    """Return the labels (none, one or two) of a mnemonic without its stress."""
    if name.startswith("_"):
        return [SILENCE]
    table = _ACCENTED.get(accent, {})
    if following.startswith("r") and name in _BEFORE_R:
        table = _BEFORE_R
    found = table.get(name, _PHONES.get(name))
    if found is None:
        raise ValueError(
            f"espeak-ng reported a phone {name!r} in accent {accent!r} that has no ARPAbet equivalent here."
        )
    return found.split()


def _merged(found: Sequence[Phone], num_samples: int, sample_rate: int) -> list[Phone]:
    """Return the phones with their stops; join consecutive pauses, and give a very short one to the phone before."""
    merged: list[Phone] = []
    for phone, following in pairwise([*found, Phone(num_samples, num_samples, "", 0)]):
        stop = following.start
        short = stop - phone.start < _MIN_SILENCE_S * sample_rate
        if merged and phone.label == SILENCE and (merged[-1].label == SILENCE or short):
            merged[-1] = merged[-1]._replace(stop=stop)
        elif stop > phone.start:
            merged.append(phone._replace(stop=stop))
    return merged


def _with_closures(merged: Sequence[Phone], waveform: NDArray[np.float32], sample_rate: int) -> list[Phone]:
    """Return the phones with each stop extended to the start of its silent closure.

    A closure after silence cannot be distinguished from it, and stays silence.
    """
    step = round(_STEP_S * sample_rate)
    whole = len(waveform) // step
    power = np.square(waveform[: whole * step], dtype=np.float64).reshape(whole, step).mean(axis=1)
    level_db = 10 * np.log10(power + 1e-12)
    result = list(merged)
    for index in range(1, len(result)):
        before, phone = result[index - 1], result[index]
        if phone.label not in _STOPS or before.label == SILENCE:
            continue
        first, last = before.start // step, phone.start // step
        quiet_db = level_db[first : last + 1].max() - _CLOSURE_DB
        earliest = max(phone.start - _MAX_CLOSURE_S * sample_rate, before.start + _MIN_PHONE_S * sample_rate) / step
        start = last
        while start - 1 >= earliest and level_db[start - 1] < quiet_db:
            start -= 1
        if start < last:
            result[index - 1] = before._replace(stop=start * step)
            result[index] = phone._replace(start=start * step)
    return result
