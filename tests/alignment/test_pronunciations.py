"""Pronunciations come from the lexicon, else from espeak-ng in another process, and are kept on disk."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from speechattn.alignment import espeak_words
from speechattn.alignment.pronunciations import Pronunciations
from speechattn.alignment.reduced_forms import MAX_ALTERNATIVES, alternatives
from speechattn.data.labels.ctm import read_ctm
from speechattn.data.labels.segments import SILENCE
from speechattn.data.synthetic.arpabet import ARPABET
from speechattn.errors import DataError, UserError

RUSSIAN = "мир"
"""A word that espeak-ng's English voice cannot read."""


@pytest.fixture
def espeak() -> None:
    pytest.importorskip("espeakng_loader", reason="the extra [synth] is not installed")


def texts(forms: Iterable[tuple[str, ...]]) -> list[str]:
    return [" ".join(form) for form in forms]


@pytest.mark.usefixtures("espeak")
def test_words_are_read_by_espeak_and_the_others_are_absent(tmp_path: Path) -> None:
    found = Pronunciations(cache=tmp_path)(["water", "the", "history", "written", "1900", "мир", "$5", "café", "water"])
    assert texts(found["water"]) == ["W AO T ER", "W AA T ER"]
    assert texts(found["the"]) == ["DH AH", "DH IY"]
    assert texts(found["history"]) == ["HH IH S T ER IY"]
    assert texts(found["written"])[0] == "R IH T AH N"
    assert texts(found["1900"])[0] == "N AY N T IY N HH AH N D R IH D"
    assert list(found) == ["water", "the", "history", "written", "1900", "café"]
    assert all(set(form) <= set(ARPABET) for forms in found.values() for form in forms)


@pytest.mark.usefixtures("espeak")
def test_a_word_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    look_up = espeak_words.look_up

    def counted(words: Iterable[str]) -> dict[str, list[str]]:
        asked.extend(words)
        return look_up(words)

    monkeypatch.setattr(espeak_words, "look_up", counted)
    first = Pronunciations(cache=tmp_path)(["hello", "world"])
    assert Pronunciations(cache=tmp_path)(["world", "again", "hello"]).keys() == {"hello", "world", "again"}
    assert Pronunciations(cache=tmp_path)(["hello", "world"]) == first
    assert asked == ["hello", "world", "again"]
    (table,) = tmp_path.glob("pronunciations-*.tsv")
    table.write_text("damaged\n")
    assert Pronunciations(cache=tmp_path)(["hello", "world"]) == first


@pytest.mark.usefixtures("espeak")
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "hello" in Pronunciations(cache=tmp_path / "file")(["hello"])


@pytest.mark.usefixtures("espeak")
def test_a_lexicon_comes_first(tmp_path: Path) -> None:
    (tmp_path / "my.dict").write_text(f"the\tDH AH0\n{RUSSIAN} M IY1 R\n", encoding="utf-8")
    found = Pronunciations(tmp_path / "my.dict", cache=tmp_path)(["the", RUSSIAN, "cat"])
    assert {word: texts(forms) for word, forms in found.items()} == {
        "the": ["DH AH"],
        RUSSIAN: ["M IY R"],
        "cat": ["K AE T"],
    }


def test_without_espeak_a_lexicon_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(UserError, match=r"pip install espeakng-loader .*Or give --lexicon FILE"):
        Pronunciations(cache=tmp_path)
    (tmp_path / "my.dict").write_text("cat K AE1 T\n")
    assert Pronunciations(tmp_path / "my.dict", cache=tmp_path)(["cat", "dog"]) == {"cat": (("K", "AE", "T"),)}
    (tmp_path / "my.dict").write_text("cat K AE1 T\ndog\n")
    with pytest.raises(DataError, match=r"my\.dict:2: "):
        Pronunciations(tmp_path / "my.dict", cache=tmp_path)


def test_alternatives_are_few_and_different() -> None:
    unstressed = ["'a#", *["@", "t"] * 8]
    found = alternatives("x", unstressed)
    assert len(found) == MAX_ALTERNATIVES == len(set(found))
    assert texts(found[:1]) == [" ".join(["AH", *["AH", "T"] * 8])]
    assert alternatives("x", ["_", "_:"]) == ()
    with pytest.raises(ValueError, match=r"'x-' .* no ARPAbet equivalent"):
        alternatives("x", ["x-"])


@pytest.mark.parametrize(
    ("word", "mnemonics", "forms"),
    [
        ("furry", "f '3: r i", "F ER IY"),
        ("where", "w 'e@", "W EH R, HH W EH R"),
        ("news", "n 'u: z", "N UW Z, N Y UW Z"),
        ("before", "b I# f 'o@", "B IH F AO R, B IY F AO R, B AH F AO R"),
        ("carry", "k 'a r i", "K AE R IY, K EH R IY"),
        ("button", "b 'V ? n-", "B AH T AH N"),
        ("dog", "d '0 g", "D AA G, D AO G"),
    ],
)
def test_regular_variations_of_american_english(word: str, mnemonics: str, forms: str) -> None:
    assert ", ".join(texts(alternatives(word, mnemonics.split()))) == forms


@pytest.mark.usefixtures("espeak")
def test_the_pronunciations_of_librispeech_are_those_of_a_dictionary(tmp_path: Path, librispeech_shared: Path) -> None:
    folder = librispeech_shared / "alignments"
    phones, words = read_ctm(folder / "test-other.phones.ctm"), read_ctm(folder / "test-other.words.ctm")
    tokens = [
        (word.label, tuple(p.label for p in phones[id] if word.start_s - 1e-6 < p.start_s < word.stop_s - 1e-6))
        for id, row in words.items()
        for word in row
        if not word.label.startswith("<")
    ]
    found = Pronunciations(cache=tmp_path)(word for word, _ in tokens)
    equal = sum(tuple(p for p in form if p != SILENCE) in found[word] for word, form in tokens)
    assert equal / len(tokens) > 0.95
