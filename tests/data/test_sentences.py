"""Sentences are all different, in letters that the engine can read."""

from __future__ import annotations

import re

from speechattn.data.synthetic.sentences import sentences


def test_sentences_are_different_and_filled() -> None:
    texts = sentences(2000, seed=3)
    assert len(set(texts)) == 2000
    assert all(re.fullmatch(r"[A-Z][A-Za-z]*(,? [A-Za-z]+)+[.?]", text) for text in texts)


def test_a_seed_decides() -> None:
    assert sentences(50, seed=1) == sentences(50, seed=1)
    assert set(sentences(50, seed=1)).isdisjoint(sentences(50, seed=2))
