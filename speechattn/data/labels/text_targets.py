"""Targets of CTC: transcripts as sequences of labels without times, characters or phones.

Only the spelling is here; training/tasks/ctc_targets.py looks pronunciations up.
"""

from __future__ import annotations

import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from speechattn.data.synthetic.arpabet import ARPABET
from speechattn.errors import DataError

BLANK = "<blank>"
"""Class 0 of CTC."""
WORD_BOUNDARY = "|"
"""The class of the space between two words, as torchaudio and Hugging Face write it."""

PHONE_TARGETS: tuple[str, ...] = (BLANK, *ARPABET)
"""The 40 classes of phones: the blank and 39 ARPAbet phones."""
CHARACTERS: tuple[str, ...] = (BLANK, WORD_BOUNDARY, "'", *string.ascii_lowercase)
"""The 29 classes of characters: the blank, the space, the apostrophe, a to z."""

_QUOTES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u0060\u00b4\uff07", "'"))
_SEPARATORS = "-_/\u2010\u2011\u2012\u2013\u2014\u2015\u2026"
_MAX_LISTED = 12


def spell(text: str) -> tuple[list[str], Counter[str]]:
    """Return the characters of a transcript as labels, and what is not in the alphabet, counted.

    Case does not matter, curly quotes become apostrophes, spaces at the ends are dropped and several are one. Dashes
    and slashes that are not in the alphabet separate words; other unknown characters leave nothing.

    Examples:
        >>> spell("IT IS")
        (['i', 't', '|', 'i', 's'], Counter())
        >>> "".join(spell("Well-known, caf\u00e9!")[0]), dict(spell("Well-known, caf\u00e9!")[1])
        ('well|known|caf', {'-': 1, ',': 1, '\u00e9': 1, '!': 1})
    """
    plain = " ".join(unicodedata.normalize("NFC", text.lower()).translate(_QUOTES).split())
    unknown = Counter(sign for sign in plain if sign != " " and sign not in CHARACTERS[2:])
    kept = "".join(sign if sign in CHARACTERS[2:] else " " if sign in _SEPARATORS + " " else "" for sign in plain)
    return list(WORD_BOUNDARY.join(kept.split())), unknown


class UnknownSigns:
    """The characters outside the alphabet in transcripts, with their counts and the first utterance of each.

    Examples:
        >>> signs = UnknownSigns()
        >>> signs.add("84-1-0", "It's 5 o'clock, isn't it?")
        >>> print(signs)
        '5' 1 x (first in 84-1-0), ',' 1 x (first in 84-1-0), '?' 1 x (first in 84-1-0)
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, id: str, text: str) -> None:
        """Count the characters of one transcript."""
        outside = spell(text)[1]
        self.counts += outside
        for sign in outside:
            self.first.setdefault(sign, id)

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __str__(self) -> str:
        kept = self.counts.most_common(_MAX_LISTED)
        listed = ", ".join(f"{_name(sign)} {count:,} x (first in {self.first[sign]})" for sign, count in kept)
        return listed + (f" and {len(self.counts) - _MAX_LISTED} others" if len(self.counts) > _MAX_LISTED else "")

    def error(self) -> DataError:
        """Return the error for a user who has not chosen to leave them out."""
        return DataError(
            f"transcripts have {len(self.counts)} characters that are not a to z, apostrophe or space: {self}. Correct "
            "the transcripts, or leave these characters out with --unknown-characters drop."
        )


def num_frames_needed(labels: Sequence[object]) -> int:
    """Return the fewest frames in which CTC can give `labels`: one each, and a blank between equal neighbours.

    Examples:
        >>> num_frames_needed("hello"), num_frames_needed("")
        (6, 0)
    """
    return len(labels) + sum(first == second for first, second in pairwise(labels))


def target_text(labels: Iterable[str]) -> str:
    """Return labels as text to read: characters joined to words, phones with spaces.

    Examples:
        >>> target_text(["i", "t", "|", "i", "s"]), target_text(["HH", "AY"])
        ('it is', 'HH AY')
    """
    listed = list(labels)
    is_text = all(label in CHARACTERS for label in listed)
    return "".join(listed).replace(WORD_BOUNDARY, " ") if is_text else " ".join(listed)


def _name(sign: str) -> str:
    """Return a character as an error names it, with its code if it does not print."""
    return repr(sign) if sign.isprintable() else f"U+{ord(sign):04X}"
