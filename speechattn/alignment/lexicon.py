"""A pronunciation dictionary in a text file: a word and its ARPAbet phones on each line, one line for each form.

Known forms are CMUdict (`READ(2)  R IY1 D`, comments after `;;;` or ` #`), `word<TAB>phones`, and the dictionaries of
Kaldi and of the Montreal Forced Aligner, which have up to four probabilities between word and phones. Stress digits and
Kaldi's word positions are dropped. Phones of other sets, as IPA, are refused.
"""

from __future__ import annotations

import re
from pathlib import Path

from speechattn.alignment.reduced_forms import Pronunciation
from speechattn.alignment.transcripts import transcript_words
from speechattn.data.labels.classes import phone_class
from speechattn.data.labels.segments import SILENCE
from speechattn.data.text_files import read_table
from speechattn.errors import DataError

_VARIANT = re.compile(r"(?<=.)\(\d+\)$")
_COMMENT = re.compile(r"\s#.*")
_PROBABILITY = re.compile(r"\d*\.?\d+(?:[eE][-+]?\d+)?")


def read_lexicon(path: str | Path) -> dict[str, tuple[Pronunciation, ...]]:
    """Return the pronunciations of each word in lower case, those of the highest probability first, else in order.

    Lines of silence and noise (`<eps> SIL`, `<unk> spn`) are no words.

    Raises:
        DataError: the file cannot be read, a line has no phones or an unknown one (file and line are named), or there
            is no word.
    """
    found: dict[str, dict[Pronunciation, float]] = {}
    for number, line in enumerate(read_table(Path(path)), start=1):
        text = _COMMENT.sub("", _decoded(line)).strip()
        if not text or text.startswith((";;;", "#")):
            continue
        word, _, rest = text.partition("\t") if "\t" in text else text.partition(" ")
        fields = rest.split()
        probabilities = _leading_numbers(fields)
        try:
            phones = tuple(phone_class(field) for field in fields[len(probabilities) :])
        except DataError as error:
            raise DataError(f"{path}:{number}: word {word!r}: {str(error).removesuffix('.')}; use ARPAbet.") from error
        if not phones:
            raise DataError(f"{path}:{number}: expected 'word phone phone ...' (ARPAbet), got {text[:80]!r}.")
        if SILENCE in phones or "SPN" in phones or word.startswith(("<", "[")):
            continue
        key = _VARIANT.sub("", word)
        words = transcript_words(key)
        found.setdefault(words[0] if len(words) == 1 else key.lower(), {}).setdefault(
            phones, probabilities[0] if probabilities else 1.0
        )
    if not found:
        raise DataError(f"{path} holds no words: expected lines 'word phone phone ...', as 'hello HH AH L OW'.")
    return {word: tuple(sorted(forms, key=lambda form: -forms[form])) for word, forms in found.items()}


def _decoded(line: str) -> str:
    """Return a line of `read_table`; one that is not UTF-8 is Latin-1, as a few lines of CMUdict are."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return line.encode("utf-8", "surrogateescape").decode("latin-1")
    return line


def _leading_numbers(fields: list[str]) -> list[float]:
    """Return the probabilities that begin the fields after a word."""
    numbers: list[float] = []
    for field in fields:
        if not _PROBABILITY.fullmatch(field):
            break
        numbers.append(float(field))
    return numbers
