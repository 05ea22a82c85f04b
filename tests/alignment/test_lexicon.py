"""Dictionaries of CMU, Kaldi and the Montreal Forced Aligner are read; a broken line is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from speechattn.alignment.lexicon import read_lexicon
from speechattn.errors import DataError


def lexicon(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "my.dict"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_cmudict_is_read_with_variants_and_comments(tmp_path: Path) -> None:
    path = lexicon(
        tmp_path,
        b";;; # CMUdict\nREAD  R EH1 D\nREAD(2)  R IY1 D # present\n\nDON'T  D OW1 N T\r\nD\xc9J\xc0  D EY2 ZH AA1\n",
    )
    assert read_lexicon(path) == {
        "read": (("R", "EH", "D"), ("R", "IY", "D")),
        "don't": (("D", "OW", "N", "T"),),
        "déjà": (("D", "EY", "ZH", "AA"),),
    }


def test_tabs_probabilities_positions_and_silence_are_understood(tmp_path: Path) -> None:
    path = lexicon(
        tmp_path,
        "<eps>\tSIL\n<unk> spn\n!SIL SIL\nThe\t0.2\t0.1\t1.0\t1.0\tDH IY0\nthe\t0.9\tDH AH0\nhello\tHH AH0 L OW1\n"
        "world 1.0 W_B ER1_I L_I D_E\n",
    )
    assert read_lexicon(path) == {
        "the": (("DH", "AH"), ("DH", "IY")),
        "hello": (("HH", "AH", "L", "OW"),),
        "world": (("W", "ER", "L", "D"),),
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hello h ə l oʊ", "my.dict:2: word 'hello': unknown phone 'h': .*; use ARPAbet."),
        ("hello HH AH L OWW", "my.dict:2: word 'hello': unknown phone 'OWW': the nearest .* is 'OW'; use ARPAbet."),
        ("hello", r"my.dict:2: expected 'word phone phone ...' \(ARPAbet\), got 'hello'"),
        ("hello 0.5", "my.dict:2: expected 'word phone phone ...'"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_lexicon(lexicon(tmp_path, f"a AH0\n{line}\n"))


def test_a_file_without_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no words: expected lines"):
        read_lexicon(lexicon(tmp_path, ";;; nothing\n"))
    with pytest.raises(DataError, match=r"none\.dict cannot be read"):
        read_lexicon(tmp_path / "none.dict")
