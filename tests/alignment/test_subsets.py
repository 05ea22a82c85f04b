"""Subsets are aligned into tables that our readers take; what is left out is listed, and a second call continues."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from noise_corpus import WORDS, write_corpus, write_utterance

from speechattn.alignment import results
from speechattn.alignment.folder import find_model
from speechattn.alignment.settings import AlignSettings
from speechattn.alignment.subsets import align_subsets
from speechattn.data.labelled_corpus import load_corpus
from speechattn.data.labels.alignments import load_alignments
from speechattn.data.labels.classes import PHONES, SPEECH
from speechattn.data.labels.segments import Segment
from speechattn.data.labels.textgrid import read_textgrid
from speechattn.errors import ConfigError, DataError, UserError
from speechattn.system.run_lock import RunLock
from speechattn.system.stop_signal import Interrupted, StopSignal


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path)
    return tmp_path


@pytest.fixture
def settings(corpus: Path) -> AlignSettings:
    """Settings with the pretrained model, for which noise is as good as speech."""
    return AlignSettings(
        data=str(corpus),
        subset=("train",),
        out=str(corpus / "out"),
        lexicon=str(corpus / "my.dict"),
        model="small-en-phones",
        min_score=-100.0,
    )


def align(settings: AlignSettings) -> Path:
    """Align, and return the folder."""
    with StopSignal() as stop:
        align_subsets(settings, stop)
    return Path(settings.out)


def scores(out: Path, subset: str = "train") -> dict[str, list[str]]:
    lines = (out / f"{subset}.scores.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "utterance\tscore\tseconds\tstatus"
    return {id: rest for id, *rest in (line.split("\t") for line in lines[1:])}


def test_tables_are_read_as_phones_words_and_speech(
    settings: AlignSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    out = align(replace(settings, subset=("train", "test/")))
    for classes, first in ((PHONES, "SIL"), (None, "hello"), (SPEECH, "SIL")):
        found = load_alignments(out, "train", classes)
        assert sorted(found) == [f"{speaker}-1-0000" for speaker in range(1, 6)]
        segments = found["1-1-0000"].over(1.5)
        assert {first} <= {segment.label for segment in segments} and segments[-1].stop_s == pytest.approx(1.5)
        assert all(before.stop_s == pytest.approx(after.start_s) for before, after in pairwise(segments))
    words = [segment.label for segment in load_alignments(out, "test", None)["9-1-0000"].segments]
    assert words == ["hello", "world"]
    assert load_corpus(settings.data, "train", out).skipped == {}
    assert all(row[2] == "aligned" and float(row[0]) < 0 and row[1] == "1.500" for row in scores(out).values())
    assert "train: 5 utterances aligned, 0.1 minutes" in capsys.readouterr().out


def test_a_finished_alignment_is_not_made_again(settings: AlignSettings, capsys: pytest.CaptureFixture[str]) -> None:
    table = align(settings) / "train.phones.ctm"
    before = table.stat().st_mtime_ns
    capsys.readouterr()
    align(replace(settings, threads=1))
    assert capsys.readouterr().out.startswith("train: aligned before") and table.stat().st_mtime_ns == before
    write_utterance(Path(settings.data), "train", "6-1-0000", WORDS)  # a new recording
    align(settings)
    assert "6-1-0000" in scores(Path(settings.out))


def test_other_settings_are_refused(settings: AlignSettings) -> None:
    align(settings)
    with pytest.raises(
        UserError, match=r"with other settings: min_score was -100\.0 and is -2\.1\. Choose another --out"
    ):
        align(replace(settings, min_score=-2.1))
    with pytest.raises(UserError, match="other settings: model was 'small-en-phones' and is None"):
        align(replace(settings, model=None))
    (Path(settings.out) / "align.json").write_text("{")
    with pytest.raises(UserError, match=r"align\.json is damaged .* remove it to align again"):
        align(settings)


def test_a_folder_in_use_is_refused(settings: AlignSettings) -> None:
    with RunLock(settings.out), pytest.raises(UserError, match="is in use by pid"):
        align(settings)
    align(settings)
    with RunLock(settings.out):
        align(settings)  # a finished one may be read by many


def test_words_without_pronunciation_are_listed_and_can_be_added(
    settings: AlignSettings, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_utterance(corpus, "train", "6-1-0000", "hello мир $5 мир")
    out = align(settings)
    printed = capsys.readouterr().out
    assert "left out, no pronunciation of a word: 1 (6-1-0000)" in printed
    assert "2 words have no pronunciation (мир, $5)" in printed and "--lexicon FILE" in printed
    assert (out / "train.missing_words.tsv").read_text(encoding="utf-8") == "мир\t2\n$5\t1\n"
    assert scores(out)["6-1-0000"] == ["", "", "no pronunciation of $5, мир"]
    with (corpus / "my.dict").open("a", encoding="utf-8") as file:
        file.write("мир M IH1 R\n$5 F AY1 V D AA1 L ER0 Z\n")
    align(settings)
    assert scores(out)["6-1-0000"][2] == "aligned" and not (out / "train.missing_words.tsv").exists()


def test_incomplete_utterances_are_left_out_and_counted_under_a_limit(
    settings: AlignSettings, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_utterance(corpus, "train", "6-1-0000", None)
    assert align(settings) and scores(Path(settings.out))["6-1-0000"] == ["", "", "no transcript"]
    write_utterance(corpus, "train", "7-1-0000", WORDS, seconds=None)
    write_utterance(corpus, "train", "8-1-0000", "")
    write_utterance(corpus, "train", "9-1-0000", "!?")
    write_utterance(corpus, "train", "9-1-0001", WORDS, seconds=0.05)
    damaged = next((corpus / "LibriSpeech" / "train" / "5").rglob("*.flac"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    capsys.readouterr()
    with pytest.raises(DataError, match=r"train: 4 of 10 utterances \(40\.0%\) cannot be aligned: .* --max-bad 0\.4\."):
        align(settings)
    with pytest.raises(DataError, match=r"train: 6 of 10 utterances \(60\.0%\) cannot be aligned: .* --max-bad 0\.6\."):
        align(replace(settings, max_bad=0.4))  # those that are short and damaged are found when they are decoded
    found = {id: row[2] for id, row in scores(Path(settings.out)).items() if row[2] != "aligned"}
    assert found.pop("5-1-0000").startswith("cannot be decoded: ")
    assert found.pop("9-1-0001").startswith("shorter than its phones: ")
    assert found == {
        "6-1-0000": "no transcript",
        "7-1-0000": "no recording",
        "8-1-0000": "no words in the transcript",
        "9-1-0000": "no words in the transcript",
    }
    assert len(scores(Path(settings.out))) == 10
    align(replace(settings, max_bad=0.6))


def test_one_utterance_of_few_may_be_left_out(settings: AlignSettings, corpus: Path) -> None:
    write_utterance(corpus, "test", "9-1-0001", "мир")
    align(replace(settings, subset=("test",)))
    with pytest.raises(DataError, match=r"1 of 2 utterances .* 1 word has no pronunciation"):
        align(replace(settings, subset=("test",), max_bad=0.0, out=str(corpus / "other")))


def test_a_low_score_is_left_out(settings: AlignSettings) -> None:
    out = align(replace(settings, min_score=-0.01, max_bad=1.0))
    assert all(row[2].startswith("score -") and row[2].endswith("below -0.01") for row in scores(out).values())


def test_textgrids_cover_the_audio(settings: AlignSettings) -> None:
    out = align(settings)
    (out / "train").mkdir()  # as after a stop
    align(replace(settings, textgrids=True))
    path = out / "train" / "3" / "1" / "3-1-0000.TextGrid"
    words, phones = read_textgrid(path)
    for tier in (words, phones):
        assert tier.segments[0].start_s == 0 and tier.segments[-1].stop_s == tier.stop_s == 1.5
        assert all(before.stop_s == after.start_s for before, after in pairwise(tier.segments))
    assert (words.name, phones.name) == ("words", "phones")
    from_ctm = load_alignments(out, "train")["3-1-0000"].segments
    from_grid = load_alignments(path, "train")["3-1-0000"].segments
    assert [s.label for s in from_ctm] == [s.label for s in from_grid]
    assert [s.start_s for s in from_ctm] == pytest.approx([s.start_s for s in from_grid], abs=0.00051)


def test_a_stopped_alignment_continues_to_the_same_result(settings: AlignSettings, corpus: Path) -> None:
    with StopSignal() as stop, pytest.raises(Interrupted):
        stop.received = signal.SIGINT
        align_subsets(settings, stop)
    out = align(settings)
    other = align(replace(settings, out=str(corpus / "at once")))
    assert (out / "train.phones.ctm").read_bytes() == (other / "train.phones.ctm").read_bytes()


def test_the_first_subset_trains_the_model_of_all(settings: AlignSettings, corpus: Path) -> None:
    own = replace(settings, model=None, start="flat", rounds=1, steps=2, subset=("train", "test"))
    out = align(own)
    model = find_model(out)
    assert model.name == "round-1" and len(list((out / "work").glob("*/round-1"))) == 1
    again = align(replace(settings, model=str(out), subset=("test",), out=str(corpus / "again")))
    assert (again / "test.phones.ctm").read_bytes() == (out / "test.phones.ctm").read_bytes()
    with pytest.raises(UserError, match=r"--model .* holds no finished alignment"):
        find_model(corpus)


def test_a_subset_without_transcripts_is_refused_before_the_work(settings: AlignSettings, corpus: Path) -> None:
    write_utterance(corpus, "silent", "1-1-0000", None)
    with pytest.raises(DataError, match="silent holds no transcripts, and alignment needs them"):
        align(replace(settings, subset=("train", "silent")))
    with pytest.raises(DataError, match="has no subset 'none': found silent, test, train"):
        align(replace(settings, subset=("train", "none")))
    assert not Path(settings.out).exists()


def test_a_part_of_a_subset_is_aligned(settings: AlignSettings) -> None:
    out = align(replace(settings, max_hours=3.1 / 3600))
    few = set(scores(out))
    assert len(few) == 2
    align(replace(settings, max_hours=4.6 / 3600))  # more hours in the same folder
    assert len(scores(out)) == 3 and few < set(scores(out))
    align(replace(settings, speakers=("4", "2"), subset=("train", "test")))
    assert list(scores(out)) == ["2-1-0000", "4-1-0000"] and list(scores(out, "test")) == ["9-1-0000"]
    with pytest.raises(DataError, match="no utterance of speaker '77'"):
        align(replace(settings, speakers=("77",)))


def test_own_recordings_are_aligned_where_they_lie(settings: AlignSettings, corpus: Path) -> None:
    folder = corpus / "mine"
    for number, source in enumerate(sorted((corpus / "LibriSpeech" / "train").rglob("*.flac"))):
        (folder / "me").mkdir(parents=True, exist_ok=True)
        source.rename(folder / "me" / f"take {number}.flac")
        (folder / "me" / f"take {number}.txt").write_text("Hello, world!\nYes.\n", encoding="utf-8")
    out = align(replace(settings, data=str(folder), subset=(".",), out=str(folder), textgrids=True))
    assert set(scores(out, "mine")) == {f"take_{number}" for number in range(5)}
    assert len(list((out / "mine").rglob("*.TextGrid"))) == 5
    found = load_corpus(folder, ".", out)
    assert len(found.utterances) == 5 and found.skipped == {}
    align(replace(settings, data=str(folder), subset=(".",), out=str(folder)))  # its own files are no transcripts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subset": ()}, "names no subset"),
        ({"subset": ("train", "deep/test")}, "give its parent as --data, and --subset test"),
        ({"subset": ("/corpus/train",)}, "directly below data, got '/corpus/train'"),
        ({"subset": ("train/../..",)}, r"directly below data, got '\.\.'"),
        ({"max_hours": 0.0}, "half an hour is 0.5"),
        ({"rounds": -1}, "rounds must be a whole number from 0"),
        ({"start": "flatt"}, "Did you mean 'flat'"),
        ({"train_hours": 0.0}, "train_hours must be positive"),
        ({"min_score": 1.0}, "min_score must be 0 or less"),
        ({"max_bad": 5.0}, "5 % is 0.05"),
        ({"steps": 10}, "steps has no effect with model='small-en-phones'"),
    ],
)
def test_impossible_settings_are_refused(settings: AlignSettings, change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(settings, **change)  # type: ignore[arg-type]


def write_folder(folder: Path, names: list[bytes]) -> None:
    """Write a plain folder of recordings with these names, all of the same noise."""
    folder.mkdir()
    noise = np.random.default_rng(0).standard_normal(24_000) / 20
    for name in names:
        path = folder / os.fsdecode(name)
        soundfile.write(os.fsencode(path) + b".wav", noise, 16_000, format="WAV")
        path.with_name(f"{path.name}.txt").write_text(WORDS)


def test_a_link_that_leads_nowhere_is_left_out(settings: AlignSettings, corpus: Path) -> None:
    write_folder(corpus / "mine", [b"a", b"b"])
    (corpus / "mine" / "b.wav").unlink()
    (corpus / "mine" / "b.wav").symlink_to("nowhere.wav")
    out = align(replace(settings, data=str(corpus / "mine"), subset=(".",)))
    assert scores(out, "mine")["b"][2].startswith("cannot be decoded: ")


def test_a_filtered_file_of_the_same_size_is_aligned_again(
    settings: AlignSettings, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(corpus / "mine", [b"a", b"b"])
    mine = replace(settings, data=str(corpus / "mine"), subset=(".",))
    before = scores(align(mine), "mine")
    soundfile.write(corpus / "mine" / "b.wav", np.random.default_rng(1).standard_normal(24_000) / 20, 16_000)
    after = scores(align(mine), "mine")
    assert "aligned before" not in capsys.readouterr().out
    assert after["a"] == before["a"] and after["b"] != before["b"]


def test_a_name_that_no_table_can_hold_is_left_out(settings: AlignSettings, corpus: Path) -> None:
    write_folder(corpus / "mine", [b"a", b";;b", b"c\xff", b" "])
    out = align(replace(settings, data=str(corpus / "mine"), subset=(".",), max_bad=0.75))
    for classes in (PHONES, None, SPEECH):
        assert list(load_alignments(out, "mine", classes)) == ["a"]


def test_a_name_of_the_greatest_length_gets_a_textgrid(settings: AlignSettings, corpus: Path) -> None:
    name = "x" * (255 - len(".TextGrid"))
    write_folder(corpus / "mine", [name.encode()])
    out = align(replace(settings, data=str(corpus / "mine"), subset=(".",), textgrids=True))
    assert [path.name for path in (out / "mine" / "mine").iterdir()] == [f"{name}.TextGrid"]


def test_a_full_disk_says_how_to_continue(settings: AlignSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(results, "write_lines", full)
        with pytest.raises(UserError, match=r"out cannot be written \(No space left on device\), .* same command"):
            align(settings)
    assert len(scores(align(settings))) == 5


def test_a_removed_model_is_an_error_of_one_line(settings: AlignSettings, corpus: Path) -> None:
    trained = replace(settings, model=None, start="flat", rounds=0, steps=1)
    shutil.rmtree(align(trained) / "work")
    align(trained)  # nothing is left to do, and no model is needed
    with pytest.raises(UserError, match="no acoustic model any more"):
        align(replace(trained, subset=("train", "test")))


@pytest.mark.parametrize(
    "state",
    [
        '{"settings": 3, "subsets": {}}',
        '{"settings": {}, "subsets": 3}',
        '{"settings": {}, "subsets": {"train": 4}}',
        '{"settings": {}, "subsets": {"train": {"inputs": "x"}}}',
    ],
)
def test_a_damaged_state_is_an_error_of_one_line(settings: AlignSettings, state: str) -> None:
    out = Path(settings.out)
    out.mkdir()
    (out / "align.json").write_text(state)
    with pytest.raises(UserError, match=r"align\.json is damaged"):
        align(settings)
    with pytest.raises(UserError, match=r"align\.json is damaged"):
        find_model(out)


def test_real_speech_agrees_with_another_aligner(tmp_path: Path, librispeech_tiny: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="the extra [synth] is not installed")
    settings = AlignSettings(str(librispeech_tiny), str(tmp_path), ("dev-clean",), model="small-en-phones")
    ours, theirs = (
        load_alignments(align(settings), "dev-clean"),
        load_alignments(librispeech_tiny / "alignments", "dev-clean"),
    )

    def label(segments: list[Segment], at_s: float) -> str:
        return next((s.label for s in segments if s.start_s <= at_s < s.stop_s), "")

    for id, alignment in theirs.items():
        times = [frame / 100 for frame in range(5, int(100 * alignment.segments[-1].stop_s) - 5)]
        equal = [label(list(ours[id].segments), at) == label(list(alignment.segments), at) for at in times]
        assert sum(equal) / len(equal) > 0.75
