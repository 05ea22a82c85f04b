"""Transcripts as sequences of characters, what is outside the alphabet, and the frames that CTC needs."""

import pytest

from speechattn.data.labels.text_targets import (
    BLANK,
    CHARACTERS,
    PHONE_TARGETS,
    UnknownSigns,
    num_frames_needed,
    spell,
    target_text,
)


def test_the_blank_is_the_first_class_and_silence_is_none() -> None:
    assert CHARACTERS[0] == PHONE_TARGETS[0] == BLANK
    assert (len(CHARACTERS), len(PHONE_TARGETS)) == (29, 40)
    assert len(set(CHARACTERS)) == 29 and not {"SIL", "SPN"} & set(PHONE_TARGETS)


@pytest.mark.parametrize(
    ("text", "characters", "unknown"),
    [
        ("", "", {}),
        (" \t\n ", "", {}),
        ("HELLO", "hello", {}),
        ("  TWO   WORDS ", "two|words", {}),
        ("DON\u2019T", "don't", {}),
        ("'TIS", "'tis", {}),
        ("cafe\u0301", "caf", {"\u00e9": 1}),  # composed: one character
        ("a - b", "a|b", {"-": 1}),
        ("well\u2014known...", "well|known", {"\u2014": 1, ".": 3}),
        ("12 men", "men", {"1": 1, "2": 1}),
        ("\u4f60\u597d", "", {"\u4f60": 1, "\u597d": 1}),
        ("a|b", "ab", {"|": 1}),
        ("<blank>", "blank", {"<": 1, ">": 1}),
    ],
)
def test_transcripts_are_spelt_in_lower_case_and_the_rest_is_counted(
    text: str, characters: str, unknown: dict[str, int]
) -> None:
    labels, outside = spell(text)
    assert ("".join(labels), dict(outside)) == (characters, unknown)
    assert set(labels) <= set(CHARACTERS[1:])


def test_spelling_and_reading_are_inverse() -> None:
    assert target_text(spell("It isn't  so")[0]) == "it isn't so"
    assert target_text(["HH", "AY"]) == "HH AY" and target_text([]) == ""


def test_unknown_signs_are_listed_with_count_and_first_utterance_the_most_frequent_first() -> None:
    signs = UnknownSigns()
    assert not signs
    for id, text in (("1-1-0", "plain"), ("1-1-1", "a, b, c"), ("1-1-2", "\u00e9, \u200b")):
        signs.add(id, text)
    assert signs and signs.counts[","] == 3
    message = str(signs.error())
    assert "3 characters that are not a to z" in message
    assert message.index("',' 3 x (first in 1-1-1)") < message.index("'\u00e9' 1 x (first in 1-1-2)")
    assert "U+200B 1 x" in message and "--unknown-characters drop" in message and "\n" not in message


def test_a_long_list_of_unknown_signs_is_cut() -> None:
    signs = UnknownSigns()
    signs.add("1-1-0", "".join(chr(0x4E00 + i) for i in range(30)))
    assert str(signs).endswith("and 18 others")


@pytest.mark.parametrize(("labels", "frames"), [("", 0), ("a", 1), ("ab", 2), ("aa", 3), ("aaa", 5), ("abba", 5)])
def test_equal_neighbours_need_a_blank_between_them(labels: str, frames: int) -> None:
    assert num_frames_needed(labels) == frames
