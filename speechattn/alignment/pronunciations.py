"""The pronunciations of words: from a lexicon file where it lists them, else from espeak-ng, with a cache on disk.

espeak-ng reads every word of Latin letters, and numbers; amounts of money, which it reads in the wrong order ("dollar
five"), have no pronunciation. What it says about a word is kept in
``<cache>/pronunciations-<key>.tsv``, `word<TAB>mnemonics`; the key is a hash of the engine's version and of the code
that asks it.
"""

from __future__ import annotations

import contextlib
import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from speechattn.alignment import espeak_words
from speechattn.alignment.lexicon import read_lexicon
from speechattn.alignment.reduced_forms import Pronunciation, alternatives
from speechattn.data.synthetic import espeak
from speechattn.data.text_files import read_lines
from speechattn.errors import DataError, UserError
from speechattn.system import cache_folder
from speechattn.system.atomic_files import write_bytes


class Pronunciations:
    """Pronunciations of words, called with words in lower case.

    `lexicon` is a file for `read_lexicon`; words that it does not list are looked up in espeak-ng where that is
    installed. `cache` is the folder of the cache.

    Raises:
        DataError: the lexicon is broken.
        UserError: there is neither a lexicon nor espeak-ng.
    """

    def __init__(self, lexicon: str | Path | None = None, cache: Path | None = None) -> None:
        self._lexicon = {} if lexicon is None else read_lexicon(lexicon)
        self._cache = cache_folder.default_cache() if cache is None else cache
        try:
            self._version: str | None = espeak.engine_version()
        except UserError as error:
            if lexicon is None:
                raise UserError(
                    f"Pronunciations need espeak-ng or a lexicon: {error} Or give --lexicon FILE, a pronunciation "
                    "dictionary such as CMUdict."
                ) from error
            self._version = None

    def __call__(self, words: Iterable[str]) -> dict[str, tuple[Pronunciation, ...]]:
        """Return the alternatives of each word, the most usual first; a word without any is absent.

        Examples:
            >>> Pronunciations()(["water"])
            {'water': (('W', 'AO', 'T', 'ER'), ('W', 'AA', 'T', 'ER'))}
        """
        asked = list(dict.fromkeys(words))
        unlisted = [word for word in asked if word not in self._lexicon and _is_readable(word)]
        mnemonics = self._mnemonics(unlisted) if self._version else {}
        found = {}
        for word in asked:
            forms = self._lexicon.get(word) or _alternatives(word, mnemonics.get(word, ()))
            if forms:
                found[word] = forms
        return found

    @cached_property
    def _table(self) -> Path:
        code = b"".join(Path(str(module.__file__)).read_bytes() for module in (espeak, espeak_words))
        key = hashlib.sha256(f"{self._version} {espeak_words.ACCENT}".encode() + code).hexdigest()[:12]
        return self._cache / f"pronunciations-{key}.tsv"

    def _mnemonics(self, words: Sequence[str]) -> dict[str, list[str]]:
        """Return espeak-ng's phones of each word, from the cache if it has them."""
        known = _read_table(self._table)
        missing = [word for word in words if word not in known]
        if missing:
            known |= espeak_words.look_up(missing)
            rows = "".join(f"{word}\t{' '.join(known[word])}\n" for word in sorted(known))
            with contextlib.suppress(OSError):  # a full or read-only disk: they are looked up again next time
                self._table.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(self._table, rows.encode())
        return {word: known[word] for word in words}


def _alternatives(word: str, mnemonics: Sequence[str]) -> tuple[Pronunciation, ...]:
    """Return the pronunciations of one word; none if espeak-ng used phones of another language."""
    try:
        return alternatives(word, mnemonics) if mnemonics else ()
    except ValueError:
        return ()


def _is_readable(word: str) -> bool:
    """Return whether all letters are Latin, for of other scripts espeak-ng reads their names, and no sign is money."""
    return all(
        "LATIN" in unicodedata.name(sign, "") if sign.isalpha() else unicodedata.category(sign) != "Sc" for sign in word
    )


def _read_table(path: Path) -> dict[str, list[str]]:
    """Return the cache; empty if there is none or it is damaged."""
    try:
        rows = [line.split("\t") for line in read_lines(path)]
        return {word: mnemonics.split() for word, mnemonics in rows}
    except (DataError, ValueError):
        return {}
