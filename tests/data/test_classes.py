"""Labels of foreign alignments find their class, and the classes of a model identify its label set."""

from pathlib import Path

import pytest

from speechattn.data.labels.classes import (
    OTHER,
    PHONES,
    SPEECH,
    label_class,
    label_set,
    phone_class,
    plain_word,
    speech_class,
    word_class,
    word_classes,
)
from speechattn.data.labels.frame_labels import read_classes
from speechattn.data.labels.segments import Segment
from speechattn.errors import DataError


def test_the_41_phones_are_those_of_the_data(librispeech_shared: Path, librispeech_tiny: Path) -> None:
    assert len(PHONES) == len(set(PHONES)) == 41
    for folder in (librispeech_shared, librispeech_tiny):
        assert read_classes(folder / "alignments" / "classes.txt") == PHONES


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        ("AH0", "AH"),
        ("AH1", "AH"),
        ("er2", "ER"),
        ("zh", "ZH"),
        ("T_B", "T"),
        ("IY1_E", "IY"),
        ("sil", "SIL"),
        ("sp", "SIL"),
        ("<eps>", "SIL"),
        ("", "SIL"),
        ("spn", "SPN"),
    ],
)
def test_labels_of_others_find_their_class(label: str, wanted: str) -> None:
    assert phone_class(label) == wanted


def test_classes_of_another_set_keep_their_case() -> None:
    assert phone_class("AH0", ["sil", "ah"]) == "ah"
    assert phone_class("sp", ["sil", "ah"]) == "sil"


@pytest.mark.parametrize(("label", "near"), [("OYY", "OY"), ("AH3", "AH"), ("silence!", "SIL")])
def test_an_unknown_phone_names_the_nearest(label: str, near: str) -> None:
    with pytest.raises(DataError, match=f"unknown phone '{label}': the nearest of the 41 classes is '{near}'"):
        phone_class(label)


def test_a_phone_like_no_other_gets_the_list() -> None:
    with pytest.raises(DataError, match=r"unknown phone 'Q': classes are SIL, AA, AE, .*, SPN\."):
        phone_class("Q")


# Sets


def test_a_model_s_classes_tell_its_labels() -> None:
    assert label_set(PHONES) == label_set(["sil", "ah"]) == "phones"
    assert label_set(list(SPEECH)) == "speech"
    assert label_set(["SIL", OTHER, "the"]) == label_set(("SIL", OTHER)) == "words"


def test_label_class_depends_on_the_label_set() -> None:
    assert label_class("AH0", PHONES) == "AH"
    words = ("SIL", OTHER, "the", "silence")
    labels = ["THE", "the", "silence", "SILENCE", "<eps>", "", "cat", "<unk>", "SIL", OTHER]
    assert [label_class(label, words) for label in labels] == [
        *("the", "the", "silence", "silence", "SIL", "SIL", OTHER, OTHER, "SIL", OTHER)
    ]
    with pytest.raises(DataError, match="unknown phone 'the'"):
        label_class("the", SPEECH)


# Words


def test_silence_is_a_word_and_sil_is_none() -> None:
    assert plain_word("SILENCE") == "silence"
    assert {plain_word(label) for label in ("", " ", "sil", "SIL", "sp", "<eps>", "<sil>", "<SILENCE>")} == {"SIL"}
    assert word_class("Sil", ["SIL", OTHER]) == "SIL"


def spoken(*words: str) -> list[Segment]:
    return [Segment(float(start), float(start + 1), word) for start, word in enumerate(words)]


def test_the_most_frequent_words_first_and_ties_by_the_alphabet() -> None:
    alignments = [spoken("<sil>", "b", "A", "the", "<unk>", ""), spoken("The", "a", "c", "SIL", "[noise]", "the")]
    assert word_classes(alignments, 100) == ("SIL", OTHER, "the", "a", "b", "c")
    assert word_classes(alignments, 3) == ("SIL", OTHER, "the", "a", "b")
    assert word_classes(alignments, 1) == ("SIL", OTHER, "the")


def test_alignments_without_words_are_refused() -> None:
    with pytest.raises(DataError, match="hold no words"):
        word_classes([spoken("<sil>", "<unk>"), []], 10)


# Speech


@pytest.mark.parametrize(
    ("kind", "silent", "voiced"),
    [
        ("phones", ["SIL", "sil", "", "sp", "pau", "silence", "NSN"], ["AH0", "spn", "ʃ", "a_1", "S"]),
        ("words", ["<sil>", "", "<eps>", "sil", "SIL", "sp"], ["silence", "PAU", "<unk>", "there's", "of_the"]),
    ],
)
def test_speech_is_what_is_not_silence_in_any_set_of_phones_or_words(
    kind: str, silent: list[str], voiced: list[str]
) -> None:
    assert {speech_class(label, kind) for label in silent} == {"SIL"}
    assert {speech_class(label, kind) for label in voiced} == {"SPEECH"}
