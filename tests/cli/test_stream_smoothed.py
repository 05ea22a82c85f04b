"""`speechattn stream --smooth`: smoothed labels, as many ms later as is reported and drawn."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import soundfile
from small_streams import CLASSES, logits_of, model_of, sound

from speechattn.cli import main as cli
from speechattn.cli.smoothing_options import SmoothingMs
from speechattn.data.audio.files import load_audio
from speechattn.data.labels.frame_labels import labels_to_segments
from speechattn.decoding.smoothing import Smoothing
from speechattn.decoding.viterbi import viterbi
from speechattn.framing import Framing
from speechattn.models.speech_model import load
from speechattn.plots import stream_latency


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("models") / "model"
    model_of().save(folder)
    return folder


@pytest.fixture
def wav(tmp_path: Path) -> str:
    soundfile.write(tmp_path / "a.wav", sound(1.0).numpy(), 16_000, subtype="FLOAT")
    return str(tmp_path / "a.wav")


def labels(text: str) -> list[str]:
    return [json.loads(line)["label"] for line in text.splitlines()]


def test_labels_are_smoothed_with_the_cost_and_the_minimum(
    wav: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded, found = load(model), []
    for options, least in (([], 1), (["--min-ms", "30", "--change-cost", "1.5"], 3)):
        command = ["stream", wav, "--model", str(model), "--format", "json", "--smooth", "--lag-ms", "5000", *options]
        assert cli.main(command) == 0
        cost = 3.0 if least == 1 else 1.5
        classes = viterbi(logits_of(loaded, load_audio(wav)[0]), cost, least)
        expected = [each.label for each in labels_to_segments(classes, loaded.config.framing, CLASSES)]
        found.append(labels(capsys.readouterr().out))
        assert found[-1] == expected and len(expected) > 2
    assert found[0] != found[1]


def test_the_report_and_the_picture_have_the_larger_latency(
    wav: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[float] = []
    waits: list[str] = []
    original = stream_latency.arrivals

    def noted(*arguments: Any) -> Any:
        drawn.append(arguments[4])
        return original(*arguments)

    monkeypatch.setattr(stream_latency, "arrivals", noted)
    for options in ([], ["--smooth"], ["--smooth", "--lag-ms", "47"]):
        command = ["stream", wav, "--model", str(model), "--realtime", "--plot", str(tmp_path / "a.png"), *options]
        assert cli.main(command) == 0
        waits.append(re.findall(r"\((the model waits .*)\)", capsys.readouterr().err)[0])
    model_ms = drawn[0]
    assert drawn == [model_ms, model_ms + 100, model_ms + 40]
    assert waits == [
        f"the model waits {model_ms:.0f} ms, a push up to 100 ms",
        f"the model waits {model_ms:.0f} ms, smoothing 100 ms, a push up to 100 ms",
        f"the model waits {model_ms:.0f} ms, smoothing 40 ms, a push up to 100 ms",
    ]


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["--lag-ms", "50"], "--lag-ms is a setting of the smoothing: add --smooth."),
        (["--min-ms", "50"], "--min-ms is a setting of the smoothing: add --smooth."),
        (["--change-cost", "0"], "--change-cost is a setting of the smoothing: add --smooth."),
        (["--smooth", "--change-cost", "nan"], "must be a number, 0 or more, got 'nan'"),
        (["--smooth", "--lag-ms", "-1"], "must be a number, 0 or more, got '-1'"),
    ],
)
def test_what_is_refused(wav: str, arguments: list[str], printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stream", wav, *arguments]) == 2
    error = capsys.readouterr()
    assert printed in error.err and error.err.count("\n") == 1 and error.out == ""


def test_a_ctc_model_is_not_smoothed(wav: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_of("ctc").save(tmp_path / "ctc")
    assert cli.main(["stream", wav, "--model", str(tmp_path / "ctc"), "--smooth"]) == 2
    assert "--smooth is for one label a frame" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "hop", "expected"),
    [
        (SmoothingMs(2.0, 0.0, None), 160, Smoothing(2.0, 1, None)),
        (SmoothingMs(2.0, 30.0, 100.0), 160, Smoothing(2.0, 3, 10)),
        (SmoothingMs(2.0, 30.1, 99.0), 160, Smoothing(2.0, 4, 9)),
        (SmoothingMs(2.0, 30.0, 100.0), 320, Smoothing(2.0, 2, 5)),
        (SmoothingMs(2.0, 5.0, 5.0), 160, Smoothing(2.0, 1, 0)),
    ],
)
def test_milliseconds_become_frames(given: SmoothingMs, hop: int, expected: Smoothing) -> None:
    assert given.frames(Framing(hop=hop)) == expected
