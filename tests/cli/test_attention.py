"""`speechattn attention`: tables, JSON and the page, and one line for everything that a user can get wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from rounding import assert_same

from speechattn.analysis.heads import analyse_heads
from speechattn.analysis.recording import Recording
from speechattn.cli import attention_run
from speechattn.cli.main import main
from speechattn.cli.spoken import Spoken, find_spoken
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.data.labels.segments import Segment
from speechattn.errors import UserError
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.pretrained import load_pretrained
from speechattn.models.speech_model import SpeechModel

RATE = Framing().sample_rate
CLASSES = ("SIL", "AA", "T", "N")


def sound(seconds: float = 1.0) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(scale=0.1, size=round(seconds * RATE)).astype(np.float32)


def write(path: Path, samples: NDArray[np.float32]) -> Path:
    soundfile.write(path, samples, RATE)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "hello.wav", sound())


def save(tmp_path: Path, head: str = "frames", framing: Framing | None = None, **options: Any) -> Path:
    mfcc = options.pop("features", "logmel") == "mfcc"
    context = options.pop("context", Context.truncated(5, 2))
    width = 39 if mfcc else 10
    config = EncoderConfig(width, d_model=8, num_heads=2, num_layers=2, context=context, **options)
    features: Any = {"features": "mfcc", "num_mels": 23} if mfcc else {"num_mels": 10}
    SpeechModel(ModelConfig(CLASSES, config, head=head, framing=framing or Framing(), **features)).save(
        tmp_path / "model"
    )
    return tmp_path / "model"


def run(*arguments: Any) -> int:
    return main(["attention", *map(str, arguments)])


def fails(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    assert run(*arguments) == 2
    output = capsys.readouterr()
    assert output.out == "" and output.err.startswith("speechattn: ") and output.err.count("\n") == 1
    return output.err


def test_the_tables_of_the_shipped_model(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(file, "--json-out", tmp_path / "heads.json") == 0
    printed = capsys.readouterr().out
    config = load_pretrained().config
    waits = config.framing.latency_ms(sum(context.right or 0 for context in config.contexts))
    assert str(config.encoder.layer_contexts[0]) in printed and "looks farthest" in printed
    assert "1/2 of it" in printed and f"{waits} ms" in printed and "itself only" in printed
    found = json.loads((tmp_path / "heads.json").read_text())
    assert len(found["heads"]) == 32 and found["labels"] == "model" and found["model"] == "small-en-phones"
    assert [window["name"] for window in found["windows"]][:2] == ["trained", "1/2 of it"]


def test_the_page_has_a_picture_of_everything(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.with_suffix(".txt").write_text("HELLO WORLD\n")
    ctm = tmp_path / "a.phones.ctm"
    ctm.write_text("hello 1 0.000 0.500 AA\nhello 1 0.500 0.500 T\n")
    out = tmp_path / "page"
    assert run(file, "--model", save(tmp_path), "--alignment", ctm, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "HELLO WORLD" in printed and printed.splitlines()[-1] == str(out / "report.html")
    pictures = {path.name for path in (out / "pictures").iterdir()}
    assert pictures == {"heads.png", "layer-1.png", "layer-2.png", "distances.png", "windows.png"}
    page = (out / "report.html").read_text()
    assert "Hello world" in page and "Accuracy falls from" in page and "mean distance" in page


def test_json_on_stdout_is_one_object_with_the_numbers_of_the_analysis(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(file, "--model", save(tmp_path), "--format", "json", "--windows", "1/3", "3,1,2") == 0
    found = json.loads(capsys.readouterr().out)
    from speechattn.models.speech_model import load

    model = load(tmp_path / "model")
    recording = Recording(file, model)
    expected = analyse_heads(model, recording.frames(), recording.num_frames)
    assert [head["all"]["distance_ms"] for head in found["heads"]] == pytest.approx(
        [head.all.distance_ms for head in expected.heads]
    )
    assert [window["contexts"][0] for window in found["windows"]] == [
        "left 5, right 2",
        "left 1, right 0",
        "left 3, right 1, chunk 2",
    ]


def test_a_reference_gives_classes_and_accuracy(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ctm = tmp_path / "all.phones.ctm"
    ctm.write_text("hello 1 0.000 0.500 AA\nhello 1 0.500 0.500 T\nother 1 0 1 N\n")
    arguments = (file, "--model", save(tmp_path), "--alignment", ctm, "--format", "json")
    assert run(*arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["labels"] == "reference" and found["groups"] == ["vowel", "stop"]
    assert all(0 <= window["accuracy"] <= 1 for window in found["windows"])
    assert run(*arguments, "--start", "0.6s") == 0
    assert json.loads(capsys.readouterr().out)["groups"] == ["stop"]


@pytest.mark.parametrize(
    ("options", "frames"),
    [
        ({"features": "mfcc"}, 100),
        ({"head": "ctc", "stack": 4}, 25),
        ({"context": Context.full()}, 100),
        ({"context": (Context.truncated(5, 2), Context.chunked(4, 8))}, 100),
        ({"activation": "relu", "position_encoding": "learned"}, 100),
        ({"block": "conformer", "framing": Framing(align="center")}, 101),
    ],
    ids=["mfcc", "ctc", "full", "a context per layer", "relu", "conformer, centred"],
)
def test_models_of_every_kind_are_analysed(options: dict[str, Any], frames: int, file: Path, tmp_path: Path) -> None:
    assert run(file, "--model", save(tmp_path, **options), "--json-out", tmp_path / "a.json") == 0
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["frames"] == frames and len(found["heads"]) == 4


def test_layers_with_windows_of_their_own_have_a_page(file: Path, tmp_path: Path) -> None:
    contexts = (Context.causal(), Context.truncated(3, 0))
    model = save(tmp_path, context=contexts, head="ctc", stack=4)
    assert run(file, "--model", model, "--out", tmp_path / "page", "--windows") == 0
    pictures = {path.name for path in (tmp_path / "page" / "pictures").iterdir()}
    assert pictures == {"heads.png", "layer-1.png", "layer-2.png"}  # no classes, no windows


def test_unlimited_windows_read_a_minute_and_say_so(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_run, "MAX_WHOLE_S", 0.7)
    model = save(tmp_path, context=Context.causal())
    assert run(file, "--model", model, "--windows") == 0
    printed = capsys.readouterr().out
    assert "70 frames" in printed and "Note: only 0.7 s were read, as its windows are unlimited" in printed
    assert run(file, "--model", model, "--windows", "--duration", "0.8s") == 0
    assert "80 frames" in capsys.readouterr().out


def test_silence_is_said_to_be_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = write(tmp_path / "silent.wav", np.zeros(RATE, np.float32))
    assert run(silent) == 0
    assert "every frame is labelled silence" in capsys.readouterr().out


def test_mistakes_are_one_line(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "less than one frame of 10 ms" in fails(capsys, write(tmp_path / "short.wav", sound(0.005)))
    assert "0 ms of sound from 3 s on" in fails(capsys, file, "--start", "3s")
    assert "less than one frame" in fails(capsys, write(tmp_path / "none.wav", sound(0)))
    assert "does not exist" in fails(capsys, tmp_path / "missing.wav")
    assert "is a folder" in fails(capsys, tmp_path)
    assert "two references" in fails(capsys, file, "--text", "a", "--alignment", file)
    assert "must be a part of the trained window" in fails(capsys, file, "--windows", "2")
    assert "must end in .json" in fails(capsys, file, "--json-out", tmp_path / "a.txt")
    assert "is a file" in fails(capsys, file, "--out", file)
    ctm = tmp_path / "a.phones.ctm"
    ctm.write_text("one 1 0 1 AA\ntwo 1 0 1 AA\n")
    assert "has no utterance 'hello'" in fails(capsys, file, "--alignment", ctm)
    assert "no attention layers, it is a 'bigru' encoder" in fails(
        capsys, file, "--model", save(tmp_path, block="bigru")
    )


def test_a_part_of_a_recording_has_the_frames_of_the_cut_samples(file: Path, tmp_path: Path) -> None:
    import torch

    from speechattn.data.audio.files import load_audio
    from speechattn.models.speech_model import load

    model = load(save(tmp_path, features="mfcc"))
    part = Recording(file, model, start_s=0.2, duration_s=0.5)
    waveform, _ = load_audio(file, RATE)
    expected = model.frontend(waveform[None, round(0.2 * RATE) : round(0.7 * RATE)])[0][0]
    assert part.num_frames == len(expected) == 50
    assert_same(torch.cat(list(part.frames())), expected)
    inside = part.inside([Segment(0.0, 0.25, "AA"), Segment(0.25, 0.9, "T"), Segment(0.9, 1.0, "N")])
    assert [(round(s.start_s, 6), round(s.stop_s, 6), s.label) for s in inside] == [(0.0, 0.05, "AA"), (0.05, 0.5, "T")]
    with pytest.raises(UserError, match="less than one frame"):
        Recording(file, model, start_s=0.999)


def test_titles_are_the_sentence_and_the_speaker(tmp_path: Path) -> None:
    folder = tmp_path / "19" / "227"
    folder.mkdir(parents=True)
    (folder / "19-227.trans.txt").write_text("19-227-0000 IT WAS A DARK NIGHT\n19-227-0001\n")
    assert find_spoken(folder / "19-227-0000.flac") == Spoken("IT WAS A DARK NIGHT", "19")
    assert find_spoken(folder / "19-227-0000.flac", "other words").text == "other words"
    assert find_spoken(folder / "19-227-0001.flac").text == ""
    assert Spoken("IT WAS A DARK NIGHT", "19").title() == '"It was a dark night" (speaker 19)'
    assert Spoken("IT WAS A DARK NIGHT", "19").title(30) == '"It was a ..." (speaker 19)'
    assert Spoken("", "19").title() == "" and Spoken("Hi Ann", "").title() == '"Hi Ann"'
