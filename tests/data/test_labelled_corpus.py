"""Each fault in a small corpus on disk is left out, named and counted."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from speechattn.data.audio import files
from speechattn.data.audio.errors import AudioError, AudioWarning
from speechattn.data.labelled_corpus import Corpus, load_corpus
from speechattn.data.labels.classes import PHONES, SPEECH
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segments import Segment
from speechattn.errors import DataError
from speechattn.framing import Framing

SECONDS = 0.2
IDS = [f"{10 + i % 10}-1-{i:04}" for i in range(100)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One hundred recordings of ten speakers, 0.2 s each, with alignments that fit."""
    folder = tmp_path_factory.mktemp("whole")
    lines = []
    for number, id in enumerate(IDS):
        chapter = folder / "LibriSpeech" / "train" / id.split("-")[0] / "1"
        chapter.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).uniform(-0.1, 0.1, int(SECONDS * 16_000))
        soundfile.write(chapter / f"{id}.flac", noise, 16_000)
        with (chapter / f"{chapter.parent.name}-1.trans.txt").open("a") as file:
            file.write(f"{id} HELLO\n")
        lines += [f"{id} 1 0.00 0.10 sil", f"{id} 1 0.10 0.09 AH1"]
    (folder / "train.phones.ctm").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy of that corpus, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path, dirs_exist_ok=True))


def flac(root: Path, id: str) -> Path:
    return root / "LibriSpeech" / "train" / id.split("-")[0] / "1" / f"{id}.flac"


def truncate(root: Path, *ids: str) -> None:
    for id in ids:
        data = flac(root, id).read_bytes()
        flac(root, id).write_bytes(data[: len(data) // 2])


def without(root: Path, *ids: str) -> None:
    path = root / "train.phones.ctm"
    kept = [line for line in path.read_text().splitlines() if line.split()[0] not in ids]
    path.write_text("\n".join(kept))


def load(root: Path, max_bad: float = 0.01) -> Corpus:
    return load_corpus(root, "train", root, max_bad=max_bad)


def test_an_undamaged_corpus_is_complete(root: Path) -> None:
    got = load(root, max_bad=0)
    assert [item.id for item in got.utterances] == sorted(IDS)
    first = got.utterances[0]
    assert (first.speaker, first.num_samples, first.utterance.transcript) == ("10", 3200, "HELLO")
    assert first.segments == [Segment(0.0, 0.1, "SIL"), Segment(0.1, 0.19, "AH")]
    assert got.skipped == {}
    assert got.summary() == "train: 100 utterances, 10 speakers, 0.3 minutes"
    pairs = list(got.waveforms())
    assert [item for item, _ in pairs] == got.utterances
    assert all(waveform.shape == (3200,) and waveform.dtype == torch.float32 for _, waveform in pairs)
    assert torch.equal(got.read(first), pairs[0][1])


def test_missing_alignments_are_counted_and_are_no_damage(root: Path) -> None:
    without(root, *IDS[:60])
    got = load(root, max_bad=0)
    assert len(got.utterances) == 40
    assert got.skipped == {"no alignment": sorted(IDS[:60])}
    assert "left out, no alignment: 60 (10-1-0000, 10-1-0010, 10-1-0020, ...)" in got.summary()


def test_a_corpus_without_any_alignment_is_an_error(root: Path) -> None:
    (root / "train.phones.ctm").write_text("other-1 1 0 1 AA\n")
    with pytest.raises(DataError, match=r"none of the 100 recordings in .* called 10-1-0000, alignments other-1\."):
        load(root)
    with pytest.raises(DataError, match=r"other-1\. Give the folder that holds those of train too\.$"):
        load_corpus(root, "train", root / "train.phones.ctm")
    (root / "train.phones.ctm").write_text("")
    with pytest.raises(DataError, match="alignments nothing"):
        load(root)


def test_an_unknown_phone_in_the_alignments(root: Path) -> None:
    with (root / "train.phones.ctm").open("a") as file:
        file.write(f"{IDS[0]} 1 0.19 0.01 OYY\n")
    assert load(root).skipped == {"damaged alignment": [IDS[0]]}
    with pytest.raises(DataError, match=f"utterance {IDS[0]}: unknown phone 'OYY': .* 'OY'"):
        load(root, max_bad=0)


def test_one_bad_header_in_a_hundred_is_left_out_two_stop(root: Path) -> None:
    flac(root, IDS[7]).write_text("404 not found\n")
    got = load(root)
    assert got.skipped == {"text": [IDS[7]]}
    assert len(got.utterances) == 99
    assert f"left out, text: 1 ({IDS[7]})" in got.summary()
    with pytest.raises(DataError, match=f"1 of 100 utterances .*{IDS[7]} .text.*max_bad allows 0.0%"):
        load(root, max_bad=0)
    flac(root, IDS[3]).write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load(root)
    message = str(caught.value)
    assert f"train: 2 of 100 utterances (2.0%) cannot be used: {IDS[3]} (empty file), {IDS[7]} (text)." in message
    assert "max_bad allows 1.0%" in message
    assert "\n" not in message


def test_at_most_ten_are_named(root: Path) -> None:
    for id in IDS[:12]:
        flac(root, id).write_text("404")
    with pytest.raises(DataError) as caught:
        load(root)
    assert "12 of 100" in str(caught.value)
    assert str(caught.value).count("(text)") == 10
    assert len(load(root, max_bad=0.12).utterances) == 88


@pytest.mark.parametrize(("seconds", "fits"), [(0.69, True), (0.71, False)])
def test_an_alignment_that_is_longer_than_its_audio(root: Path, seconds: float, fits: bool) -> None:
    with (root / "train.phones.ctm").open("a") as file:
        file.write(f"{IDS[0]} 1 0.19 {seconds - 0.19} SIL\n")
    got = load(root)
    assert got.skipped == ({} if fits else {"alignment and audio differ in length": [IDS[0]]})
    if fits:
        item = got.utterances[0]
        assert len(frame_labels(item.segments, item.num_samples, Framing(), PHONES)) == 20


def test_audio_that_is_longer_than_its_alignment(root: Path) -> None:
    soundfile.write(flac(root, IDS[0]), np.zeros(16_000), 16_000)
    assert load(root).skipped == {"alignment and audio differ in length": [IDS[0]]}


def test_rows_of_frame_labels_count_with_their_unlabelled_end(root: Path) -> None:
    """A row that fits its audio, whose last second is -100, was once taken for the row of another audio."""
    (root / "train.phones.ctm").unlink()
    for id in IDS:
        soundfile.write(flac(root, id), np.full(32_000, 0.1), 16_000)
    rows = [f"{id} 0 1 {'-100 ' * 196}\n" for id in IDS]  # 1 + (32000 - 400) // 160 = 198 frames
    rows[7] = f"{IDS[7]} 0 1 {'-100 ' * 100}\n"
    (root / "train.frame_labels.txt").write_text("".join(rows))
    got = load(root)
    assert got.skipped == {"alignment and audio differ in length": [IDS[7]]}
    item = got.utterances[0]
    assert frame_labels(item.segments, item.num_samples, Framing(align="snip")).tolist() == [0, 1] + [-100] * 196


def damage(root: Path, number: int) -> str:
    """Damage recording, transcript or alignment of one utterance, in a way of its own; returns the reason for it."""
    path = flac(root, IDS[number])
    words = path.parent / f"{path.parent.parent.name}-1.trans.txt"
    table = root / "train.phones.ctm"
    if number == 0:
        path.unlink()
        return "no recording"
    if number == 1:
        soundfile.write(path.with_suffix(".WAV"), np.zeros(3200), 16_000)
        return "two recordings"
    if number == 2:
        words.write_text(words.read_text().replace(f"{path.stem} HELLO", path.stem))
        return "no words in the transcript"
    if number == 3:
        words.write_text(words.read_text().replace(f"{path.stem} HELLO\n", ""))
        return "no transcript"
    table.write_text(table.read_text().replace(f"{path.stem} 1 0.10", f"{path.stem} 1 zero"))
    return "damaged alignment"


@pytest.mark.parametrize("number", range(5))
def test_an_incomplete_utterance_is_left_out_and_counted(root: Path, number: int) -> None:
    reason = damage(root, number)
    got = load(root)
    assert got.skipped == {reason: [IDS[number]]} and len(got.utterances) == 99
    assert f"left out, {reason}: 1 ({IDS[number]})" in got.summary()
    with pytest.raises(DataError, match=rf"1 of 100 utterances \(1\.0%\) cannot be used: {IDS[number]} \(") as caught:
        load(root, max_bad=0)
    assert str(caught.value).endswith("leave them out with --max-bad 0.01 (in Python max_bad=0.01).")
    if reason == "damaged alignment":
        assert "train.phones.ctm:10: expected 'utterance channel start duration label'" in str(caught.value)


def test_an_utterance_without_alignment_is_not_damage(root: Path) -> None:
    for number in range(4):
        damage(root, number)
    without(root, *IDS[:4])
    got = load(root, max_bad=0)
    assert len(got.utterances) == 96
    assert sorted(id for ids in got.skipped.values() for id in ids) == sorted(IDS[:4])


def test_the_share_that_the_limit_proposes_is_enough(root: Path) -> None:
    for bad in (3, 29, 57):  # 0.29 * 100 and 0.57 * 100 are less than 29 and 57 in binary
        for id in IDS[:bad]:
            flac(root, id).write_text("404")
        with pytest.raises(DataError) as caught:
            load(root)
        share = float(str(caught.value).split("--max-bad ")[1].split()[0])
        assert share == bad / 100 and len(load(root, share).utterances) == 100 - bad


def test_detected_speech_needs_no_words_and_no_alignment(root: Path) -> None:
    for number in range(5):
        damage(root, number)
    got = load_corpus(root, "train", None, SPEECH, max_bad=0.02)
    assert got.skipped == {"no recording": [IDS[0]], "two recordings": [IDS[1]]}
    for path in (root / "LibriSpeech").rglob("*.trans.txt"):
        path.unlink()
    assert load_corpus(root, "train", None, SPEECH, 0.02).skipped == {"two recordings": [IDS[1]]}
    assert load(root, 0.03).skipped == {"two recordings": [IDS[1]], "damaged alignment": [IDS[4]]}


def test_damage_to_alignments_of_other_recordings_is_a_warning(root: Path) -> None:
    with (root / "train.phones.ctm").open("a") as file:
        file.write("10-1-00\n")  # the rest of a line is lost
    with pytest.warns(
        AudioWarning, match=r"1 damaged alignments belong to no recording of train: .*phones.ctm:201: exp"
    ):
        assert load(root, max_bad=0).skipped == {}


def test_a_tier_that_ends_before_its_last_label_does_not_hide_how_long_it_is(root: Path) -> None:
    """The end that a TextGrid announces was compared with the audio, and its labels stopped the run later."""
    (root / "train.phones.ctm").unlink()
    for number, id in enumerate(IDS):
        size = 9.0 if number == 7 else 0.2
        rows = f'"IntervalTier" "phones" 0 0.2 1 0 {size} "AH"'
        flac(root, id).with_suffix(".TextGrid").write_text(f'"ooTextFile" "TextGrid" 0 0.2 <exists> 1 {rows}')
    assert load(root).skipped == {"alignment and audio differ in length": [IDS[7]]}


def test_words_without_any_silence_leave_it_to_the_gaps(root: Path) -> None:
    (root / "train.words.ctm").write_text("".join(f"{id} 1 0.05 0.05 The\n" for id in IDS))
    for classes in (None, ("SIL", "<OTHER>", "the")):
        got = load_corpus(root, "train", root, classes)
        assert len(got.utterances) == 100
        assert got.utterances[0].segments == [
            Segment(0, 0.05, "SIL"),
            Segment(0.05, 0.1, "the"),
            Segment(0.1, 0.2, "SIL"),
        ]
    soundfile.write(flac(root, IDS[0]), np.zeros(160_000), 16_000)  # ten seconds of silence behind one word
    assert load_corpus(root, "train", root, None, max_bad=0).utterances[0].segments[-1] == Segment(0.1, 10.0, "SIL")
    with (root / "train.words.ctm").open("a") as file:
        file.write(f"{IDS[1]} 1 0.70 0.05 cat\n")
    assert load_corpus(root, "train", root, None).skipped == {"alignment and audio differ in length": [IDS[1]]}


# Speech without alignments


def test_speech_is_detected_in_what_is_read_and_nothing_is_left_out(root: Path) -> None:
    without(root, *IDS)
    rng = np.random.default_rng(0)
    for id in IDS[:20]:
        burst = np.concatenate([np.zeros(8000), rng.uniform(-0.5, 0.5, 8000), np.zeros(8000)])
        soundfile.write(flac(root, id), burst, 16_000)
    truncate(root, IDS[5])
    got = load_corpus(root, "train", None, SPEECH)
    assert len(got.utterances) == 100 and got.skipped == {}
    assert all(item.segments == [] for item in got.utterances)
    with pytest.warns(AudioWarning, match=rf"1 of 100 utterances \(1.0%\) cannot be used: {IDS[5]} "):
        read = {item.id: item for item, _ in got.waveforms()}
    assert len(read) == 99
    assert [segment.label for segment in read[IDS[0]].segments] == ["SIL", "SPEECH", "SIL"]
    assert [segment.label for segment in read[IDS[50]].segments] == ["SIL"]  # steady noise
    assert dict((item.id, item) for item, _ in got.waveforms()) == read


def test_only_speech_can_be_detected(root: Path) -> None:
    for classes in (PHONES, None, ("SIL", "<OTHER>", "the")):
        with pytest.raises(ValueError, match=r"without alignments the classes can only be .*SPEECH"):
            load_corpus(root, "train", None, classes)


def test_damage_that_only_decoding_finds(root: Path) -> None:
    truncate(root, IDS[5])
    got = load(root)
    before = got.utterances
    assert len(before) == 100
    with pytest.warns(AudioWarning, match=rf"train: 1 of 100 utterances \(1.0%\) cannot be used: {IDS[5]} \(corrupt\)"):
        read = [item.id for item, _ in got.waveforms()]
    assert read == sorted(set(IDS) - {IDS[5]})
    assert got.skipped == {"corrupt": [IDS[5]]}
    assert [item.id for item in got.utterances] == read
    assert len(before) == 100
    assert len(list(got.waveforms(before))) == 99  # counted once, and not tried again
    assert got.skipped == {"corrupt": [IDS[5]]}
    with pytest.raises(AudioError, match="truncated or corrupted"):
        got.read(next(item for item in before if item.id == IDS[5]))


def test_the_limit_holds_for_headers_and_decoding_together_over_the_whole_corpus(root: Path) -> None:
    flac(root, IDS[0]).write_text("404")
    truncate(root, IDS[55])
    got = load(root)
    few = [item for item in got.utterances if item.speaker == "16"]
    list(got.waveforms(few))
    with pytest.raises(DataError, match=r"2 of 100 utterances .*: 10-1-0000 \(text\), 15-1-0055 \(corrupt\)"):
        list(got.waveforms())
    got = load(root, max_bad=0.02)
    with pytest.warns(AudioWarning, match="2 of 100"):
        assert len(list(got.waveforms())) == 98


def test_any_damage_in_a_test_set_stops_at_once(root: Path) -> None:
    truncate(root, IDS[0])
    with pytest.raises(DataError, match=r"max_bad allows 0.0%"):
        next(load(root, max_bad=0).waveforms())


def test_a_header_and_its_sound_must_agree(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got = load(root)
    soundfile.write(flac(root, IDS[0]), np.zeros(3000), 16_000)  # replaced while we were running
    with pytest.raises(AudioError, match="promised 3200 samples, decoding gave 3000"):
        got.read(got.utterances[0])


def test_other_rates_are_counted_in_the_rate_of_the_corpus(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_warned", set())
    soundfile.write(flac(root, IDS[0]), np.zeros(1600), 8000)
    got = load(root)
    assert got.utterances[0].num_samples == 3200
    with pytest.warns(AudioWarning, match="8000 Hz is resampled"):
        assert got.read(got.utterances[0]).shape == (3200,)
    low = load_corpus(root, "train", root, sample_rate=8000)
    assert [item.num_samples for item in low.utterances] == [1600] * 100


@pytest.mark.parametrize("max_bad", [-0.1, 1.5, float("nan"), None, "0.5", True])
def test_max_bad_is_a_share(root: Path, max_bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^max_bad must be a share from 0 to 1, got .*\.$"):
        load(root, max_bad)


def test_the_real_corpus_has_no_damage(librispeech_shared: Path) -> None:
    for subset, speakers in (("train-clean-100", 200), ("test-other", 5)):
        got = load_corpus(librispeech_shared, subset, librispeech_shared / "alignments", PHONES, max_bad=0)
        assert got.skipped == {}
        assert len({item.speaker for item in got.utterances}) == speakers
        item = got.utterances[0]
        assert len(got.read(item)) == item.num_samples
