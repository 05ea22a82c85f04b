"""Folders of sound files with a transcript each, and the choice between this layout and LibriSpeech's."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest

from speechattn.data.labelled_corpus import load_corpus
from speechattn.data.labels.segments import Utterance
from speechattn.data.librispeech import LibriSpeech
from speechattn.data.plain_folder import PlainFolder
from speechattn.data.recordings import open_recordings
from speechattn.data.speaker_split import split_by_speaker
from speechattn.errors import DataError


def lay_out(folder: Path, *names: str, words: str = "hello world") -> Path:
    """Write sound files without sound, and texts with `words`."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(words if path.suffix.lower() in (".txt", ".lab") else "never opened")
    return folder


def own_recordings(folder: Path, librispeech: Path) -> Path:
    """Ten recordings of two people as a user keeps them: links to real ones, `<name>.txt` or `<name>.lab` each."""
    utterances = list(LibriSpeech(librispeech, "test-other"))
    first, last = utterances[0].speaker, utterances[-1].speaker
    for speaker, name, suffix in ((first, "ann", ".txt"), (last, "ben", ".lab")):
        mine = [utterance for utterance in utterances if utterance.speaker == speaker][:5]
        (folder / name).mkdir(parents=True)
        for utterance in mine:
            (folder / name / utterance.path.name).symlink_to(utterance.path)
            (folder / name / f"{utterance.id}{suffix}").write_text(f"{utterance.transcript}\n")
    return folder


def test_sound_files_at_any_depth_are_read_with_their_transcripts(tmp_path: Path) -> None:
    folder = lay_out(
        tmp_path / "my speech", "a.wav", "a.txt", "ann/b.FLAC", "ann/b.lab", "x/y/ben/c d.mp3", "x/y/ben/c d.TXT"
    )
    for subset in ("", "."):
        recordings = open_recordings(folder, subset)
        assert isinstance(recordings, PlainFolder)
        assert list(recordings) == [
            Utterance("a", "my speech", folder / "a.wav", "hello world", "my speech"),
            Utterance("b", "ann", folder / "ann" / "b.FLAC", "hello world", "my speech"),
            Utterance("c_d", "ben", folder / "x" / "y" / "ben" / "c d.mp3", "hello world", "my speech"),
        ]
        assert (recordings.subset, recordings.folder, recordings.faults) == ("my speech", folder, {})
        assert list(recordings.speakers) == ["ann", "ben", "my speech"]
        assert recordings[1:] == [recordings[1], recordings[2]] and len(recordings) == 3
    assert repr(recordings).endswith("'my speech'): 3 utterances, 3 speakers")


def test_a_relative_folder_has_the_name_of_the_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lay_out(tmp_path / "me", "a.wav", "a.txt"))
    (utterance,) = open_recordings(".", ".")
    assert (utterance.subset, utterance.speaker, utterance.path) == ("me", "me", Path("a.wav"))


def test_equal_names_in_several_folders_get_their_paths_as_ids(tmp_path: Path) -> None:
    names = ("ann/hello.wav", "ann/hello.txt", "ben/hello.wav", "ben/hello.txt", "ben/bye.wav", "ben/bye.txt")
    recordings = PlainFolder(lay_out(tmp_path, *names))
    assert [(u.id, u.speaker) for u in recordings] == [("ann-hello", "ann"), ("ben-hello", "ben"), ("bye", "ben")]
    assert recordings.faults == {}


def test_an_id_is_the_same_composed_and_decomposed(tmp_path: Path) -> None:
    lay_out(tmp_path, "zoe\u0308/a.wav", "zoe\u0308/a.txt", "b/a.wav", "b/a.txt", "b/zoe\u0308.wav", "b/zo\u00eb.txt")
    recordings = PlainFolder(tmp_path)
    assert [u.id for u in recordings] == ["b-a", "zo\u00eb", "zo\u00eb-a"] and recordings.faults == {}


def test_an_id_that_two_files_would_share_is_a_fault(tmp_path: Path) -> None:
    lay_out(tmp_path, "a b.wav", "a b.txt", "a_b.wav", "a_b.txt", "a  b.wav", "a  b.txt", "c.wav", "c.txt")
    recordings = PlainFolder(tmp_path)
    assert recordings.faults == {"a_b": "two recordings"}
    assert [u.id for u in recordings] == ["c"]


def test_incomplete_utterances_are_named_with_the_reason(tmp_path: Path) -> None:
    lay_out(tmp_path, "good.wav", "good.txt", "no_text.wav", "two.wav", "two.flac", "two.txt", "no_sound.txt")
    lay_out(tmp_path, "same.wav", "same.txt", "same.lab", "differ.wav", "differ.txt", "empty.wav", "latin.wav")
    (tmp_path / "differ.lab").write_text("other words")
    (tmp_path / "empty.txt").write_text(" \n\n")
    (tmp_path / "latin.txt").write_bytes("zwölf".encode("latin-1"))
    (tmp_path / "good.txt").write_bytes("\ufeffgood\r\n morning \r\n".encode())
    lay_out(tmp_path, "README.txt", "License.TXT", "notes/todo.txt", "._good.wav", "list.csv", "1.trans.txt")
    recordings = open_recordings(tmp_path)
    latin = recordings.faults.pop("latin")
    assert latin.endswith("latin.txt is not UTF-8 text (byte 2): save it as UTF-8")
    assert recordings.faults == {
        "differ": "two transcripts",
        "empty": "no words in the transcript",
        "no_sound": "no recording",
        "no_text": "no transcript",
        "two": "two recordings",
    }
    words = {u.id: u.transcript for u in recordings}
    assert words == {
        **{"good": "good morning", "same": "hello world"},
        **dict.fromkeys(("differ", "empty", "latin", "no_text")),
    }


def test_a_folder_needs_no_transcripts(tmp_path: Path) -> None:
    recordings = open_recordings(lay_out(tmp_path / "x", "a.wav", "ann/b.ogg", "README.txt"))
    assert recordings.faults == {} and [u.transcript for u in recordings] == [None, None]


def test_folders_without_sound_say_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nowhere is not a folder: expected one with sound files, each with <name>\.txt"
    ):
        open_recordings(tmp_path / "nowhere")
    with pytest.raises(
        DataError, match=r"holds no recordings: expected sound files, each with <name>\.txt or <name>\.lab"
    ):
        open_recordings(lay_out(tmp_path / "texts", "a.txt", "b.csv"))


def test_a_subset_can_be_a_plain_folder(tmp_path: Path) -> None:
    lay_out(tmp_path / "train", "ann/a.wav", "ann/a.lab", "ben/b.wav", "ben/b.lab")
    recordings = open_recordings(tmp_path, "train/")
    assert isinstance(recordings, PlainFolder)
    assert [(u.id, u.speaker, u.subset) for u in recordings] == [("a", "ann", "train"), ("b", "ben", "train")]


def test_a_subset_of_speakers_and_chapters_keeps_its_speakers_with_transcripts_of_single_files(tmp_path: Path) -> None:
    lay_out(tmp_path / "train", "ann/1/a.wav", "ann/1/a.txt", "ann/2/b.wav", "ann/2/b.txt")
    recordings = open_recordings(tmp_path, "train")
    assert [(u.speaker, u.transcript) for u in recordings] == [("ann", "hello world")] * 2
    assert [u.speaker for u in PlainFolder(tmp_path / "train")] == ["1", "2"]


def test_librispeech_stays_librispeech(tmp_path: Path) -> None:
    base = lay_out(tmp_path / "LibriSpeech", "dev/1/2/1-2-0.flac", "dev/1/2/1-2-0.txt", words="wrong words")
    (base / "dev" / "1" / "2" / "1-2.trans.txt").write_text("1-2-0 RIGHT WORDS\n")
    recordings = open_recordings(tmp_path, "dev")
    assert isinstance(recordings, LibriSpeech)
    assert [u.transcript for u in recordings] == ["RIGHT WORDS"]
    lay_out(tmp_path / "bare", "dev/1/2/1-2-0.flac")  # without transcripts
    assert isinstance(open_recordings(tmp_path / "bare", "dev"), LibriSpeech)
    for root in (tmp_path, base):
        with pytest.raises(
            DataError, match="LibriSpeech is in LibriSpeech's layout: give a subset with --subset, found dev"
        ):
            open_recordings(root, "")
    with pytest.raises(DataError, match="LibriSpeech has no subset 'train': found dev"):
        open_recordings(tmp_path, "train")
    with pytest.raises(DataError, match=rf"dev is a subset in LibriSpeech's layout: use --data {base} --subset dev\."):
        open_recordings(base / "dev", "")  # the speakers would be the chapters
    lay_out(base, "flat/1/1-2-0.flac", "flat/1/1-2.trans.txt")
    with pytest.raises(DataError, match="flat holds no recordings: expected <subset>/<speaker>/<chapter>"):
        open_recordings(tmp_path, "flat")


def test_a_pipe_named_like_a_transcript_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(lay_out(tmp_path, "a.wav", "b.wav", "b.txt") / "a.txt")
    (fault,) = PlainFolder(tmp_path).faults.values()
    assert fault.endswith("a.txt is a pipe or a device, not a text file")


def test_own_recordings_become_a_labelled_corpus_split_by_speaker(tmp_path: Path, librispeech_shared: Path) -> None:
    folder = own_recordings(tmp_path / "mine", librispeech_shared)
    source = (librispeech_shared / "alignments" / "test-other.phones.ctm").read_text()
    (tmp_path / "mine.phones.ctm").write_text(source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        corpus = load_corpus(folder, ".", tmp_path)
    assert corpus.summary().startswith("mine: 10 utterances, 2 speakers")
    assert corpus.skipped == {} and all(item.utterance.transcript and item.segments for item in corpus.utterances)
    train, valid = split_by_speaker(corpus.utterances)
    assert {item.speaker for item in train} != {item.speaker for item in valid}
    with pytest.raises(
        DataError, match=r"needs at least 2 speakers, got 1 \(ann\): .*each folder with recordings is one"
    ):
        split_by_speaker([item for item in corpus.utterances if item.speaker == "ann"])


def test_the_real_corpus_reads_alike_in_both_layouts(tmp_path: Path, librispeech_tiny: Path) -> None:
    wanted = list(LibriSpeech(librispeech_tiny, "test-clean"))
    for utterance in wanted:
        speaker = tmp_path / "tiny" / utterance.speaker
        speaker.mkdir(parents=True, exist_ok=True)
        (speaker / utterance.path.name).symlink_to(utterance.path)
        (speaker / f"{utterance.id}.txt").write_text(utterance.transcript or "")
    found = open_recordings(tmp_path / "tiny")
    assert [(u.id, u.speaker, u.transcript) for u in found] == [(u.id, u.speaker, u.transcript) for u in wanted]
