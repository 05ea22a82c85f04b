"""A transcript as a list of words in lower case: what is a word, and what is punctuation.

Letters with accents stay, composed (NFC), and curly quotes become straight. Hyphens, dashes and slashes separate words.
An apostrophe inside a word stays (don't); those around it are quotes, but for words that begin with one ('tis). A
number is one word, with its currency or percent sign (1,900, $5, 50%): espeak-ng reads it (1900 is nineteen hundred),
but no amounts of money; a lexicon may list its reading. Marks in brackets, as [laughter] or <unk>, are not words.
"""

from __future__ import annotations

import re
import unicodedata

_QUOTES = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u0060\u00b4\uff07", "'"))
_MARKS = re.compile(r"\[[^\]]*\]|<[^>]*>")
_SEPARATORS = re.compile(r"[\s/\\_|~\u2010-\u2015\u2212\u2026-]+|\.{2,}")
_NUMBER = re.compile(r"[$£€]?\d+(?:[.,:]\d+)*(?:%|[a-z]{1,2})?")
_INITIALS = re.compile(r"(?:[^\W\d]\.)+[^\W\d]")
_AROUND = re.compile(r"^[^\w'$£€]+|[^\w'%]+$")
_INSIDE = re.compile(r"[^\w']")
_CLIPPED = {
    f"'{rest}"
    for rest in ["tis", "twas", "twere", "twill", "twould", "em", "til", "cause", "bout", "neath", "gainst", "mid"]
}


def transcript_words(text: str) -> list[str]:
    """Return the words of a transcript, in lower case and in order; empty if there are none.

    Examples:
        >>> transcript_words("“Don’t!” cried the well-known MR. O'Neill; 'tis 'late' [sighs] at 9.30, for $5 -- café.")
        ["don't", 'cried', 'the', 'well', 'known', 'mr', "o'neill", "'tis", 'late', 'at', '9.30', 'for', '$5', 'café']
    """
    plain = unicodedata.normalize("NFC", text.lower()).translate(_QUOTES)
    tokens = _SEPARATORS.split(_MARKS.sub(" ", plain))
    return [word for word in map(_word, tokens) if word]


def _word(token: str) -> str:
    """Return a token without its punctuation; empty if nothing is left."""
    bare = _AROUND.sub("", token)
    if _NUMBER.fullmatch(bare.strip("'")):
        return bare.strip("'")
    if _INITIALS.fullmatch(bare):
        return bare
    word = _INSIDE.sub("", bare)
    return word.rstrip("'") if word.rstrip("'") in _CLIPPED else word.strip("'")
