"""Alternative pronunciations of a word: those of espeak-ng's phones, and the weak forms of function words.

Speakers of American English differ, and each of them varies, in few and regular ways: reduced vowels (IH or AH), the
vowels of "dog" and "poor", "when", "new", and function words without stress. Each rule below is such a variation as
phonetics describes it (Wells, Accents of English, 1982). None was fitted to the labels of a corpus. An aligner chooses
among the alternatives of a word by its sound.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence

from speechattn.data.synthetic.arpabet import arpabet_labels

Pronunciation = tuple[str, ...]
"""ARPAbet phones without stress."""

MAX_ALTERNATIVES = 8
"""Most alternatives of a word. Those with the fewest deviations from espeak-ng's own phones are kept."""

_ACCENT = "en-us"
_STRESS = "',"
_MARKS = str.maketrans("", "", "',=%|")
_SYLLABIC = {"n-": "AH N", "m-": "AH M", "l-": "AH L", "r-": "R", "@-": "AH", "t2": "T"}
_REDUCED_I, _REDUCED_A = ("I", "I2", "I#"), ("@", "@-", "@2", "@5", "a#")
_ALVEOLAR = ("t", "d", "n")
_CLOTH = ("f", "s", "T", "N", "g", "n")
_HAS_TWO_FORMS = {
    "i@3": ("IH R", "IY R"),
    "U@": ("UH R", "AO R", "ER", "UW R"),
    "aI3": ("AY ER", "AY R"),
    "aI@": ("AY AH", "AY"),
}
_WEAK_FORMS = {
    "a": "AH, EY",
    "an": "AE N, AH N",
    "and": "AE N D, AH N D, AE N, AH N",
    "are": "AA R, ER",
    "as": "AE Z, AH Z, EH Z",
    "at": "AE T, AH T",
    "been": "B IH N, B AH N, B IY N",
    "because": "B IH K AO Z, B IH K AH Z, B IY K AO Z",
    "but": "B AH T",
    "can": "K AE N, K AH N, K IH N",
    "could": "K UH D, K AH D",
    "do": "D UW, D AH",
    "for": "F AO R, F ER",
    "from": "F R AH M, F ER M",
    "good": "G UH D, G IH D",
    "had": "HH AE D, HH AH D, AE D, AH D",
    "has": "HH AE Z, HH AH Z, AE Z",
    "have": "HH AE V, HH AH V, AE V, AH V",
    "he": "HH IY, IY",
    "her": "HH ER, ER",
    "him": "HH IH M, IH M",
    "his": "HH IH Z, IH Z",
    "hundred": "HH AH N D R AH D, HH AH N D R IH D, HH AH N D ER D",
    "in": "IH N, AH N",
    "into": "IH N T UW, IH N T AH, IH N T IH",
    "it": "IH T, AH T",
    "just": "JH AH S T, JH IH S T",
    "missus": "M IH S IH Z, M IH S AH Z",
    "mrs": "M IH S IH Z, M IH S AH Z",
    "must": "M AH S T, M AH S",
    "my": "M AY, M AH",
    "not": "N AA T",
    "of": "AH V, AH",
    "on": "AA N, AO N",
    "or": "AO R, ER",
    "our": "AW ER, AW R, AA R",
    "shall": "SH AE L, SH AH L",
    "should": "SH UH D, SH AH D",
    "so": "S OW, S AH",
    "some": "S AH M",
    "than": "DH AE N, DH AH N",
    "that": "DH AE T, DH AH T",
    "the": "DH AH, DH IY",
    "them": "DH EH M, DH AH M, AH M",
    "themselves": "DH EH M S EH L V Z, DH AH M S EH L V Z",
    "there": "DH EH R, DH ER",
    "thirty": "TH ER T IY, TH ER D IY",
    "to": "T AH, T UW, T IH",
    "today": "T AH D EY, T UW D EY, T IH D EY",
    "together": "T AH G EH DH ER, T UW G EH DH ER, T IH G EH DH ER",
    "tomorrow": "T AH M AA R OW, T UW M AA R OW",
    "toward": "T AH W AO R D, T AO R D",
    "towards": "T AH W AO R D Z, T AO R D Z",
    "twenty": "T W EH N T IY, T W EH N IY",
    "unto": "AH N T UW, AH N T AH",
    "was": "W AH Z, W AA Z",
    "were": "W ER",
    "what": "W AH T, HH W AH T, W AA T",
    "which": "W IH CH, HH W IH CH",
    "will": "W IH L, W AH L",
    "with": "W IH DH, W IH TH",
    "within": "W IH DH IH N, W IH TH IH N",
    "without": "W IH DH AW T, W IH TH AW T",
    "would": "W UH D, W AH D",
    "you": "Y UW, Y AH",
    "your": "Y AO R, Y UH R, Y ER",
}


def alternatives(word: str, mnemonics: Sequence[str]) -> tuple[Pronunciation, ...]:
    """Return the pronunciations of `word`, in lower case, whose phones espeak-ng (en-us) writes as `mnemonics`.

    The most usual form comes first. None is returned for a word that has no sound.

    Raises:
        ValueError: a mnemonic is unknown.

    Examples:
        >>> [" ".join(phones) for phones in alternatives("city", ["s", "'I", "t#", "i"])]
        ['S IH T IY']
        >>> [" ".join(phones) for phones in alternatives("when", ["w", "'E", "n"])]
        ['W EH N', 'HH W EH N']
    """
    if word in _WEAK_FORMS:
        return tuple(tuple(form.split()) for form in _WEAK_FORMS[word].split(", "))
    marks = [mark for mark in mnemonics if not mark.startswith("_") and mark.translate(_MARKS)]
    names = [mark.translate(_MARKS) for mark in marks]
    slots = []
    for index, mark in enumerate(marks):
        before, after = names[index - 1] if index else "", names[index + 1] if index + 1 < len(names) else "_"
        stressed = any(sign in mark for sign in _STRESS)
        slots.append(_options(names[index], before, after, stressed, word, first=index <= 1))
    return tuple(form for form in _fewest_deviations(slots) if form)


def _options(name: str, before: str, after: str, stressed: bool, word: str, first: bool) -> list[Pronunciation]:
    """Return what one mnemonic may be, the most usual first."""
    if name in ("r", "r-") and before in ("3", "3:"):
        return [()]  # in ARPAbet ER holds the r
    if name in _HAS_TWO_FORMS and not after.startswith("r"):
        return [tuple(form.split()) for form in _HAS_TWO_FORMS[name]]
    usual = tuple(_SYLLABIC[name].split()) if name in _SYLLABIC else tuple(arpabet_labels(name, after, _ACCENT))
    return [usual, *(tuple(other.split()) for other in _others(name, before, after, stressed, word, first))]


def _others(name: str, before: str, after: str, stressed: bool, word: str, first: bool) -> list[str]:
    """Return the less usual phones for one mnemonic."""
    if name in _REDUCED_I and not stressed:
        front = after == ";" or (first and word.startswith(("be", "de", "re", "pre", "e")))
        return ["IY", "AH"] if front or name == "I2" else ["AH"]
    if name in _REDUCED_A and not stressed and after != "_":
        return ["ER"] if after == "r" else ["IH", "AE"] if name == "a#" else ["IH"]
    if name == "E" and not stressed:
        return ["IH"]
    if name == "w" and first and word.startswith("wh"):
        return ["HH W"]
    if name == "u:" and before in _ALVEOLAR:
        return ["Y UW"]
    if name == "3" and before == "aU":
        return ["R"]
    if name == "0":
        return ["AO"] * (after in _CLOTH)
    if name in ("O:", "O2", "O"):
        return ["AA"] * (after != "r")
    if name == "a" and after == "r":
        return ["EH"]
    if name == "N" and after in ("k", "g"):
        return ["N"]
    return []


def _fewest_deviations(slots: Sequence[Sequence[Pronunciation]]) -> list[Pronunciation]:
    """Return at most MAX_ALTERNATIVES different combinations of one option a slot, usual options first."""
    best: list[tuple[int, tuple[int, ...]]] = [(0, ())]
    for options in slots:
        longer = ((cost + choice, (*path, choice)) for cost, path in best for choice in range(len(options)))
        best = heapq.nsmallest(MAX_ALTERNATIVES, longer)
    forms = (tuple(itertools.chain(*(o[c] for o, c in zip(slots, path, strict=True)))) for _, path in best)
    return list(dict.fromkeys(forms))
