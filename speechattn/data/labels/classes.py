"""The classes of frames, and the class of each label of an alignment.

Three sets of labels, each with silence as class 0. A saved model has its classes, which identify the set:

    phones   the 41 phones: SIL, 39 of ARPAbet, SPN
    words    SIL, <OTHER>, and the most frequent words of the training subset
    speech   SIL and SPEECH

Words are compared in lower case.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from speechattn.data.labels.segment_arrays import SegmentSlice
from speechattn.data.labels.segments import SILENCE, Segment
from speechattn.data.synthetic.arpabet import CLASSES
from speechattn.errors import DataError

Labels = Literal["phones", "words", "speech"]

PHONES: tuple[str, ...] = CLASSES
"""The 41 classes: silence, 39 ARPAbet phones without stress, spoken noise."""

SPEECH = (SILENCE, "SPEECH")
"""The two classes of a voice activity detector."""

OTHER = "<OTHER>"
"""The class of all words that have none of their own."""

_SILENT_PHONES = dict.fromkeys(("", "SIL", "SP", "PAU", "SILENCE", "<EPS>", "<SIL>"), SILENCE)
_NOISES = dict.fromkeys(("SPN", "NSN", "<UNK>", "<SPN>"), "SPN")
_SILENT_WORDS = ("", "sil", "sp", "<eps>", "<sil>", "<silence>", "<sp>")  # not "silence", which is a word


def label_set(classes: Sequence[str]) -> Labels:
    """Return the set that `classes` belong to.

    Examples:
        >>> [label_set(classes) for classes in (PHONES, SPEECH, ("SIL", "<OTHER>", "the"))]
        ['phones', 'speech', 'words']
    """
    if tuple(classes) == SPEECH:
        return "speech"
    return "words" if tuple(classes[:2]) == (SILENCE, OTHER) else "phones"


def label_class(label: str, classes: Sequence[str]) -> str:
    """Return the entry of `classes` that `label`, of the same set, belongs to; an unknown word is <OTHER>.

    Raises:
        DataError: the label is an unknown phone.
    """
    if label in classes:
        return label
    return word_class(label, classes) if label_set(classes) == "words" else phone_class(label, classes)


def phone_class(label: str, classes: Sequence[str] = PHONES) -> str:
    """Return the entry of `classes` for `label`, ignoring case, stress digits, word positions and names of silence.

    Raises:
        DataError: no class matches; the nearest one is named.

    Examples:
        >>> [phone_class(label) for label in ("AH0", "ih", "T_B", "sp", "")]
        ['AH', 'IH', 'T', 'SIL', 'SIL']
    """
    if label in classes:
        return label
    plain = label.strip().upper()
    plain = re.sub(r"(?<=[A-Z])[0-2]$", "", re.sub(r"_[BIES]$", "", plain))  # Kaldi writes AH0_B
    plain = _SILENT_PHONES.get(plain, _NOISES.get(plain, plain))
    for name in classes:
        if name.upper() == plain:
            return name
    near = difflib.get_close_matches(plain, classes, n=1, cutoff=0.4)
    known = f"the nearest of the {len(classes)} classes is {near[0]!r}" if near else f"classes are {', '.join(classes)}"
    raise DataError(f"unknown phone {label!r}: {known}.")


def plain_word(label: str) -> str:
    """Return a word in lower case, or SIL for the labels that aligners give to silence; "silence" is a word.

    Examples:
        >>> [plain_word(label) for label in ("HEAR", "there's", "<eps>", "", "SILENCE")]
        ['hear', "there's", 'SIL', 'SIL', 'silence']
    """
    plain = label.strip().lower()
    return SILENCE if plain in _SILENT_WORDS else plain


def word_class(label: str, classes: Sequence[str]) -> str:
    """Return the word of `classes` that equals `label`, SIL for silence, else <OTHER>."""
    plain = plain_word(label)
    return plain if plain in classes else OTHER


def speech_class(label: str, kind: str) -> str:
    """Return SIL or SPEECH for a label of an alignment of `kind` "phones" or "words", of any set of phones or words.

    Non-speech noise (NSN) is SIL.

    Examples:
        >>> [speech_class(label, "phones") for label in ("AH0", "sp", "NSN", "SPN", "silence")]
        ['SPEECH', 'SIL', 'SIL', 'SPEECH', 'SIL']
        >>> speech_class("silence", "words")
        'SPEECH'
    """
    plain = label.strip().upper()
    silent = plain_word(label) == SILENCE if kind == "words" else plain in _SILENT_PHONES
    return SILENCE if silent or plain == "NSN" else SPEECH[1]


def word_classes(alignments: Iterable[Sequence[Segment]], num_words: int) -> tuple[str, ...]:
    """Return SIL, <OTHER> and the `num_words` most frequent words, most frequent first, ties in alphabetical order.

    Labels in brackets, such as <unk>, are not words. If there are fewer words, all are returned.

    Raises:
        DataError: there are no words.

    Examples:
        >>> word_classes([[Segment(0, 1, "the"), Segment(1, 2, "cat"), Segment(2, 3, "THE")]], num_words=1)
        ('SIL', '<OTHER>', 'the')
    """
    counts: Counter[str] = Counter()
    for segments in alignments:
        known = SegmentSlice.of(segments)
        for label, count in zip(*np.unique(known.labels, return_counts=True), strict=True):
            counts[plain_word(known.table.names[label])] += int(count)
    words = [word for word in counts if word != SILENCE and word[0] not in "<["]
    if not words:
        raise DataError("the alignments of the training subset hold no words.")
    return (SILENCE, OTHER, *sorted(words, key=lambda word: (-counts[word], word))[:num_words])
