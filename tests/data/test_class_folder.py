"""Folders of recordings with one class each: which layout is found, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechattn.data.audio.errors import AudioWarning
from speechattn.data.class_folder import ClassFolder
from speechattn.data.labelled_corpus import load_corpus
from speechattn.data.path_template import PathTemplate, choose_template
from speechattn.errors import DataError

DIGITS = [f"{digit}_{speaker}_{take}" for digit in "01" for speaker in ("ann", "bob") for take in "01"]


def lay_out(folder: Path, *names: str) -> Path:
    """Write files that nothing opens."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"never opened")
    return folder


def record(path: Path, rate: int = 8000, seconds: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).standard_normal(round(rate * seconds)) / 20
    soundfile.write(path, noise, rate)


def fields(folder: ClassFolder) -> set[tuple[str, str]]:
    return {(utterance.label, utterance.speaker) for utterance in folder}


@pytest.mark.parametrize(
    ("names", "template", "expected"),
    [
        (
            ["yes/0a7c_nohash_0.wav", "no/ff01_nohash_1.wav", "no/ff01_nohash_2.wav"],
            "{class}/{speaker}_nohash_{take}",
            {("yes", "0a7c"), ("no", "ff01")},
        ),
        (["dog/ann/1.flac", "cat/bob/1.flac"], "{class}/{speaker}/{file}", {("dog", "ann"), ("cat", "bob")}),
        (
            [f"{name}.wav" for name in DIGITS],
            "{class}_{speaker}_{take}",
            {(c, s) for c in "01" for s in ("ann", "bob")},
        ),
        (["dog/1.wav", "cat/1.wav", "cat/a_b_c.wav"], "{class}/{file}", {("dog", ""), ("cat", "")}),
    ],
)
def test_a_known_layout_is_found(
    names: list[str], template: str, expected: set[tuple[str, str]], tmp_path: Path
) -> None:
    folder = ClassFolder(lay_out(tmp_path / "own", *names))
    assert folder.template.text == template and fields(folder) == expected
    assert len(folder) == len(names) and [u.id for u in folder] == sorted(u.id for u in folder)
    assert set(folder.speakers) == {speaker for _, speaker in expected} - {""}
    assert folder.classes == tuple(sorted({label for label, _ in expected})) and folder.subset == "own"
    assert folder.faults == {} and folder[:1] == [folder[0]]


def test_the_folder_above_the_recordings_gives_the_same(tmp_path: Path) -> None:
    lay_out(tmp_path / "recordings", *(f"{name}.wav" for name in DIGITS))
    (tmp_path / "README.md").write_text("not a recording")
    above, below = ClassFolder(tmp_path), ClassFolder(tmp_path / "recordings")
    assert [u.id for u in above] == [u.id for u in below] == DIGITS
    assert fields(ClassFolder(tmp_path, "recordings/{class}_{speaker}_{take}")) == fields(below)


def test_a_layout_can_be_given_for_other_names(tmp_path: Path) -> None:
    lay_out(tmp_path, "ann/dog/1.wav", "ann/cat/1.wav", "bob/dog/1.wav")
    assert fields(ClassFolder(tmp_path, "{speaker}/{class}/{file}")) == {("dog", "ann"), ("cat", "ann"), ("dog", "bob")}
    assert ClassFolder(tmp_path).classes == ("ann", "bob"), (
        "the outer folder is the class unless a layout says otherwise"
    )


def test_hidden_names_and_those_with_an_underscore_are_left_out(tmp_path: Path) -> None:
    names = ["yes/a1_nohash_0.wav", "no/a1_nohash_0.wav", "_background_noise_/hum.wav", "yes/._a1_nohash_0.wav"]
    folder = ClassFolder(lay_out(tmp_path, *names))
    assert folder.classes == ("no", "yes") and len(folder) == 2


@pytest.mark.parametrize(
    ("names", "layout", "message"),
    [
        ([], "auto", "holds no sound files"),
        (["dog/1.wav", "cat/x/y/2.wav"], "auto", r"1 of 2 sound files fit none .*: cat/x/y/2\. .*--layout"),
        (["a-1.wav", "b-2.wav", "c-3.wav", "d-4.wav"], "auto", r"4 of 4 .*: a-1, b-2, c-3, \.\.\."),
        (["dog/1.wav", "cat/1.wav"], "{class}_{file}", r"2 of 2 sound files .*do not fit .*cat/1, dog/1\."),
        (["dog/1.wav", "cat/1.wav"], "{klass}/{file}", r"must have \{class\} once"),
        (["dog/1.wav", "cat/1.wav"], "{class}{file}", "with text between them"),
        (["dog/1.wav", "dog/2.wav"], "{class}/{file}", "one class only, dog"),
        (["dog/1.wav", "dog/1.flac", "cat/1.wav"], "auto", r"dog/1\.flac and dog/1\.wav have the same id dog-1"),
        (["a-b/c.wav", "a/b-c.wav"], "auto", "have the same id a-b-c"),
        (["dog/1.wav", "cat/1.wav", "owl/notes.txt"], "auto", "class owl has no examples.*remove the folder"),
        (["dog/ann/1.wav", "cat/ann/1.wav", "owl/ann/a.txt"], "auto", "class owl has no examples"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(
    names: list[str], layout: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message) as error:
        ClassFolder(lay_out(tmp_path, *names), layout)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        ClassFolder(tmp_path / "lost")


def test_fields_do_not_hold_the_signs_beside_them() -> None:
    template = PathTemplate("{class}_{speaker}_{take}")
    assert template.match("ice_cream_ann_0") is None and template.match("a/b_c_d") is None
    assert PathTemplate("{class}/{file}").match("a/b_c.d") == {"class": "a", "file": "b_c.d"}
    assert PathTemplate("x.{class}/{file}").match("xy1/b") is None, "a literal dot is a dot"
    assert choose_template(["a/1", "b/2"]).class_depth == 0 and template.class_depth is None


def test_files_of_two_sample_rates_are_said_once_with_counts_and_resampled(tmp_path: Path) -> None:
    for name in ("dog/1.wav", "dog/2.wav", "cat/1.wav"):
        record(tmp_path / name)
    folder = ClassFolder(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder.warn_of_sample_rates()
    record(tmp_path / "cat" / "2.wav", rate=16_000)
    folder = ClassFolder(tmp_path)
    with pytest.warns(AudioWarning, match=r"3 of 8000 Hz, 1 of 16000 Hz\. All are resampled") as said:
        folder.warn_of_sample_rates()
    assert len(said) == 1
    corpus = load_corpus(tmp_path, "", None, (), sample_rate=16_000, recordings=folder, needs_words=False)
    assert [item.num_samples for item in corpus.utterances] == [8000] * 4


def test_a_damaged_file_is_counted_and_its_class_is_kept(tmp_path: Path) -> None:
    for name in ("dog/1.wav", "dog/2.wav", "cat/1.wav"):
        record(tmp_path / name)
    (tmp_path / "cat" / "2.wav").write_bytes(b"RIFF")
    folder = ClassFolder(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        folder.warn_of_sample_rates()
    corpus = load_corpus(tmp_path, "", None, (), 0.3, recordings=folder, needs_words=False)
    assert [item.utterance.label for item in corpus.utterances] == ["cat", "dog", "dog"]
    assert [id for ids in corpus.skipped.values() for id in ids] == ["cat-2"]
    with pytest.raises(DataError, match=r"max_bad allows 1\.0%"):
        load_corpus(tmp_path, "", None, (), recordings=folder, needs_words=False)
