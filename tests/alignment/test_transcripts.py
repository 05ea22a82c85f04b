"""Words of transcripts: punctuation is taken off, and letters, apostrophes and numbers stay."""

from __future__ import annotations

import pytest

from speechattn.alignment.transcripts import transcript_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("THERE'S IRON THEY SAY", ["there's", "iron", "they", "say"]),
        ("Well, “yes” — or (maybe) no…", ["well", "yes", "or", "maybe", "no"]),
        (
            "don\u2019t 'quote me', he cried: 'tis the boys' own",
            ["don't", "quote", "me", "he", "cried", "'tis", "the", "boys", "own"],
        ),
        ("well-known and/or e-mail--now", ["well", "known", "and", "or", "e", "mail", "now"]),
        ("in 1900, 1,900.50 or £5; 50% (2nd) 1990s.", ["in", "1900", "1,900.50", "or", "£5", "50%", "2nd", "1990s"]),
        ("U.S. and p.m., Mr. Smith.", ["u.s", "and", "p.m", "mr", "smith"]),
        ("cafe\u0301 NAÏVE Straße", ["café", "naïve", "straße"]),
        ("yes [laughter] <unk> no", ["yes", "no"]),
        ("rock'n'roll O'Neill", ["rock'n'roll", "o'neill"]),
        ("мир, мир", ["мир", "мир"]),
        ("a\u00a0b\u3000c\td\ne", ["a", "b", "c", "d", "e"]),
        ("— ... ' \" !", []),
        ("", []),
    ],
)
def test_a_transcript_becomes_its_words(text: str, words: list[str]) -> None:
    assert transcript_words(text) == words


def test_words_of_words_are_the_same() -> None:
    words = transcript_words("“Don\u2019t!” 'tis 9.30 at the O'Neill-café: $5, 50%, u.s., 2nd")
    assert transcript_words(" ".join(words)) == words
