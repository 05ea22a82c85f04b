"""Labels of a whole recording: those of `Stream`, or of the model at once where it cannot stream; all formats."""

import json
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch
from small_streams import CLASSES, labels_of, logits_of, model_of, sound

from speechattn.context import Context
from speechattn.data.audio.errors import AudioError
from speechattn.data.audio.files import load_audio
from speechattn.data.labels.ctm import read_ctm
from speechattn.data.labels.frame_labels import labels_to_segments
from speechattn.data.labels.textgrid import read_textgrid
from speechattn.decoding.smoothing import Smoothing
from speechattn.decoding.viterbi import viterbi
from speechattn.errors import UserError
from speechattn.models.heads import UtteranceClassifier
from speechattn.models.speech_model import SpeechModel
from speechattn.streaming.label_formats import SUFFIXES, check_format, write_labels
from speechattn.streaming.recording import LabelledRecording, label_recording
from speechattn.streaming.segmenter import LabelledSegment
from speechattn.streaming.stream import Stream


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "my sound.wav"
    soundfile.write(path, sound(2.5).numpy(), 16_000, subtype="FLOAT")
    return path


def plain(segments: Any) -> list[tuple[float, float, str]]:
    return [(each.start_s, each.stop_s, each.label) for each in segments]


@pytest.mark.parametrize("smoothing", [None, Smoothing(4.0, 3, 5)])
@pytest.mark.parametrize("context", [Context.chunked(4, 9, 2), Context.full()], ids=["streams", "at once"])
def test_segments_are_those_of_the_whole_recording(
    wav: Path, context: Context, smoothing: Smoothing | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechattn.streaming.recording.SECONDS_AT_ONCE", 1)
    model: SpeechModel = model_of(context=context).double()
    seconds: list[float] = []
    waveform = load_audio(wav)[0].double()
    found = label_recording(model, wav, smoothing, seconds.append)
    logits = logits_of(model, waveform)
    classes = logits.argmax(-1) if smoothing is None else viterbi(logits, 4.0, 3)
    assert plain(found) == plain(labels_to_segments(classes, model.config.framing, CLASSES)) and len(found) > 3
    assert plain(found.segments) == plain(found) and found.seconds == sum(seconds) == 2.5
    frames = int((classes == classes[0]).long().cumprod(0).sum())
    probabilities = logits.softmax(-1)[:frames, classes[0]]
    assert found[0].probability == pytest.approx(float(probabilities.mean()), abs=1e-6)
    assert found[-2:] == [found[len(found) - 2], found[len(found) - 1]]


@pytest.mark.parametrize("context", [Context.chunked(4, 9, 2), Context.full()], ids=["streams", "at once"])
def test_a_ctc_model_gives_a_short_segment_for_each_label(wav: Path, context: Context) -> None:
    model = model_of("ctc", context=context).double()
    found = label_recording(model, wav)
    if context.right is not None:
        assert plain(found) == plain(labels_of(Stream(model), [load_audio(wav)[0].double()]).segments)
    assert len(found) > 5 and all(each.stop_s - each.start_s < 0.0126 for each in found)
    with pytest.raises(ValueError, match="smoothing is for one label a frame"):
        label_recording(model, wav, Smoothing())


def test_a_model_of_utterances_gives_one_segment(wav: Path) -> None:
    model = model_of()
    object.__setattr__(model.config, "head", "utterance")
    model.head = UtteranceClassifier(16, len(CLASSES)).eval()
    with torch.no_grad():
        expected = model(load_audio(wav)[0][None])[0][0].softmax(-1)
    found = label_recording(model, wav)
    assert plain(found) == [(0.0, 2.5, CLASSES[int(expected.argmax())])]
    assert found[0].probability == pytest.approx(float(expected.max()), abs=1e-6)


@pytest.mark.filterwarnings("ignore:.*(is resampled to|are averaged to one)")
def test_channels_and_rates_are_those_of_load_audio(tmp_path: Path) -> None:
    channels = torch.stack((sound(1.5, 8000), sound(1.5, 8000, seed=1)), 1).numpy()
    soundfile.write(tmp_path / "a.wav", channels, 8000, subtype="FLOAT")
    model, waveform = model_of(), load_audio(tmp_path / "a.wav")[0]
    found = label_recording(model, tmp_path / "a.wav", Smoothing(3.0))
    assert found.seconds == 1.5
    soundfile.write(tmp_path / "b.wav", waveform.numpy(), 16_000, subtype="FLOAT")
    assert plain(found) == plain(label_recording(model, tmp_path / "b.wav", Smoothing(3.0)))


def test_a_recording_without_a_frame_has_no_segments_and_a_damaged_one_is_an_error(tmp_path: Path) -> None:
    model = model_of()
    soundfile.write(tmp_path / "a.wav", torch.zeros(100).numpy(), 16_000)
    assert len(label_recording(model, tmp_path / "a.wav")) == 0
    (tmp_path / "b.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:200])
    with pytest.raises(AudioError, match=r"b\.wav"):
        label_recording(model, tmp_path / "b.wav")


@pytest.mark.parametrize("format", SUFFIXES)
@pytest.mark.parametrize("head", ["frames", "ctc"])
def test_what_is_written_is_read_back(wav: Path, tmp_path: Path, format: str, head: str) -> None:
    found = label_recording(model_of(head), wav)
    path = tmp_path / f"labels{SUFFIXES[format]}"
    write_labels(path, format, found, wav)
    text = path.read_text()
    if format == "ctm":
        (read,) = read_ctm(path).values()
        assert list(read_ctm(path)) == ["my_sound"]
        probabilities = [float(line.split()[5]) for line in text.splitlines()]
        assert probabilities == [round(each.probability, 2) for each in found]
    elif format == "textgrid":
        (tier,) = read_textgrid(path)
        assert (tier.name, tier.stop_s) == ("phones", 2.5)
        read = [each for each in tier.segments if each.label]  # type: ignore[assignment]
        assert plain(read) == plain(found), "bit for bit"
    else:
        fields = [line.split("\t") for line in text.splitlines()]
        if format == "jsonl":
            rows = [json.loads(line) for line in text.splitlines()]
            assert all(row["file"] == str(wav) and 0 <= row["probability"] <= 1 for row in rows)
            fields = [[row["start_s"], row["stop_s"], row["label"]] for row in rows]
        read = [LabelledSegment(float(start), float(stop), label, 1.0) for start, stop, label in fields]  # type: ignore[assignment]
    assert [each.label for each in read] == [each.label for each in found] and len(found) > 5
    for each, other in zip(read, found, strict=True):
        assert (each.start_s, each.stop_s) == pytest.approx((other.start_s, other.stop_s), abs=1e-7)


@pytest.mark.parametrize("format", SUFFIXES)
def test_no_segments_are_a_file_without_rows(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"a{SUFFIXES[format]}"
    write_labels(path, format, LabelledRecording(CLASSES), "a.wav")
    rows = (
        [each for tier in read_textgrid(path) for each in tier.segments] if format == "textgrid" else path.read_text()
    )
    assert not rows


def test_names_that_a_format_cannot_hold_are_refused() -> None:
    for format, classes, source, message in (
        ("ctm", CLASSES, ";;a.wav", "has a name that a CTM table cannot hold: rename it, or take --format textgrid"),
        ("ctm", ("<b>", " ", "a"), "a.wav", "the class ' ' is no field of --format ctm: take textgrid, jsonl"),
        ("audacity", ("SIL", "a\tb"), "a.wav", r"the class 'a\\tb' is no field of --format audacity"),
    ):
        with pytest.raises(UserError, match=message):
            check_format(format, classes, source)
    check_format("jsonl", (" ", "a\tb"), ";;a.wav")
    check_format("textgrid", (" ", "a\tb"), ";;a.wav")
