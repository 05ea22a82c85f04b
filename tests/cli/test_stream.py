"""`speechattn stream`: the offline labels in lines, from a file or a pipe, and nothing recognised is ever lost."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from rounding import assert_labels

from speechattn.cli import main as cli
from speechattn.cli.stream import make_room
from speechattn.cli.stream_runner import LatencyRecord
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.data.audio.files import load_audio
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.pretrained import FOLDER, load_pretrained
from speechattn.models.speech_model import SpeechModel
from speechattn.plots.stream_latency import arrivals
from speechattn.streaming.labels import FrameLabels
from speechattn.streaming.segmenter import LabelledSegment, Segments
from speechattn.streaming.stream import Stream

ROOT = Path(__file__).parents[2]
CLASSES = ("SIL", "AA", "B", "S", "T", "N")
ENCODER = EncoderConfig(
    8, d_model=8, num_heads=2, num_layers=2, d_ff=12, context=(Context.truncated(9, 2), Context.chunked(4, 7))
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models") / "model"
    SpeechModel(ModelConfig(CLASSES, ENCODER, num_mels=8)).save(folder)
    return folder


@pytest.fixture
def flac(librispeech_tiny: Path) -> Path:
    """The shortest of seven utterances."""
    return min(librispeech_tiny.rglob("*.flac"), key=lambda path: path.stat().st_size)


def assert_are_offline(lines: str, model: SpeechModel, waveform: torch.Tensor) -> None:
    """Fail where a frame of the printed segments has another label than in the whole waveform [N]."""
    with torch.inference_mode():
        logits = model(waveform[None])[0][0]
    names = [label for label, frames in streamed(lines) for _ in range(frames)]
    assert_labels(names, logits, model.config.classes)


def streamed(lines: str) -> list[tuple[str, int]]:
    """The same from lines of JSON, or of text."""
    rows = [json.loads(line) if line[0] == "{" else line.split() for line in lines.splitlines()]
    fields = [(row["start_s"], row["stop_s"], row["label"]) if isinstance(row, dict) else row[:3] for row in rows]
    starts, stops = ([float(row[i]) for row in fields] for i in (0, 1))
    assert starts[1:] == stops[:-1] and starts[:1] in ([], [0.0])
    # the first frame is shorter by 7.5 ms: it begins with the sound
    return [(row[2], round(100 * (stops[i] - starts[i]) + 0.75 * (i == 0))) for i, row in enumerate(fields)]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put bytes into stdin and close it."""
    ends = []

    def fill(data: bytes) -> None:
        reading, writing = os.pipe()
        os.write(writing, data)
        os.close(writing)
        ends.append(os.fdopen(reading))
        monkeypatch.setattr(sys, "stdin", ends[-1])

    yield fill
    for end in ends:
        end.close()


@pytest.mark.parametrize("push_ms", ["100", "37", "5000"])
def test_a_file_gives_the_offline_labels(
    model: Path, flac: Path, push_ms: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from speechattn.models.speech_model import load

    assert cli.main(["stream", str(flac), "--model", str(model), "--push-ms", push_ms]) == 0
    printed = capsys.readouterr()
    assert_are_offline(printed.out, load(model), load_audio(flac)[0])
    assert printed.err == ""


def test_the_shipped_model_recognises_phones(flac: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stream", str(flac), "--format", "json"]) == 0
    lines = capsys.readouterr().out
    assert_are_offline(lines, load_pretrained("small-en-phones"), load_audio(flac)[0])
    rows = [json.loads(line) for line in lines.splitlines()]
    assert all(set(row) == {"start_s", "stop_s", "label", "probability"} for row in rows)
    assert all(0 < row["probability"] <= 1 for row in rows)


def test_the_shipped_model_is_small_and_has_its_card() -> None:
    assert sum(path.stat().st_size for path in (FOLDER / "small-en-phones").iterdir()) <= 4_000_000
    card = (FOLDER / "small-en-phones" / "README.md").read_text()
    assert all(word in card for word in ("LibriSpeech", "CC BY 4.0", "pocketsphinx"))
    model = load_pretrained("small-en-phones")
    assert not model.training and len(model.config.classes) == 41 and model.config.classes[0] == "SIL"
    assert Stream(model).algorithmic_latency_ms < 250


def test_samples_on_stdin_are_those_of_the_file(
    model: Path, flac: Path, pipe: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    samples, _ = soundfile.read(flac, dtype="int16")
    samples = samples[:20_000]  # what a pipe holds while it is not read
    pipe(samples.tobytes())
    assert cli.main(["stream", "-", "--model", str(model)]) == 0
    from speechattn.models.speech_model import load

    assert_are_offline(capsys.readouterr().out, load(model), torch.from_numpy(samples / 32768).float())


@pytest.mark.filterwarnings("default::speechattn.data.audio.errors.AudioWarning")
def test_stdin_that_closes_inside_a_sample(model: Path, pipe: Any, capsys: pytest.CaptureFixture[str]) -> None:
    samples = (1000 * np.sin(np.arange(8000))).astype("<i2").tobytes()
    pipe(samples)
    assert cli.main(["stream", "-", "--model", str(model)]) == 0
    whole = capsys.readouterr().out
    pipe(samples + b"\1")
    assert cli.main(["stream", "-", "--model", str(model)]) == 0
    printed = capsys.readouterr()
    assert printed.out == whole and "closed in the middle of a sample" in printed.err


def test_the_model_has_computed_before_stdin_is_read(model: Path, pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While native attention is compiled nothing is taken from the pipe, and no push of real sound waits for it."""
    order: list[str] = []
    push, read = Stream.push, os.read

    def noted_push(self: Stream, *given: Any) -> FrameLabels:
        order.append("push")
        return push(self, *given)

    def noted_read(*given: Any) -> bytes:
        order.append("read")
        return read(*given)

    monkeypatch.setattr(Stream, "push", noted_push)
    monkeypatch.setattr(os, "read", noted_read)
    pipe(np.zeros(8000, np.int16).tobytes())
    assert cli.main(["stream", "-", "--model", str(model)]) == 0
    assert order[:2] == ["push", "read"] and order.count("push") == 1 + 5


def test_a_pipe_has_room_for_the_sound_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a megabyte is 16 s; a pipe as it is made would hold 2 s, and a microphone would lose the rest."""
    pytest.importorskip("fcntl")
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb", buffering=0) as microphone:
        if not hasattr(__import__("fcntl"), "F_SETPIPE_SZ"):
            pytest.skip("pipes have one size here")
        monkeypatch.setattr(sys, "stdin", stdin)
        make_room()
        os.set_blocking(microphone.fileno(), False)
        assert microphone.write(bytes(2**19)) == 2**19
    for closed in (None, stdin, io.StringIO()):
        monkeypatch.setattr(sys, "stdin", closed)
        make_room()  # nothing to widen: no trouble


def test_another_rate_on_stdin(model: Path, pipe: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pipe(np.zeros(8000, np.int16).tobytes())
    assert cli.main(["stream", "-", "--rate", "8000", "--model", str(model), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["stop_s"] == pytest.approx(1.0, abs=0.01)


def test_the_rate_on_stdin_is_the_models_unless_given(
    tmp_path: Path, pipe: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ModelConfig(CLASSES, ENCODER, num_mels=8, framing=Framing(sample_rate=8000))
    SpeechModel(config).save(tmp_path / "model")
    pipe(np.zeros(8000, np.int16).tobytes())
    assert cli.main(["stream", "-", "--model", str(tmp_path / "model"), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["stop_s"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("data", "printed"), [(b"", "closed before a sample came"), (b"RIFF\0\0\0\0WAVEfmt ", "holds a sound file")]
)
def test_stdin_without_samples(
    model: Path, pipe: Any, data: bytes, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(data)
    assert cli.main(["stream", "-", "--model", str(model)]) == 2
    assert printed in capsys.readouterr().err


def test_damage_further_in_comes_after_the_labels_before_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 2**18 + 9000)
    noise[2**18 + 5000] = np.nan  # in the second block that is read
    soundfile.write(tmp_path / "a.wav", noise, 16000, subtype="FLOAT")
    assert cli.main(["stream", str(tmp_path / "a.wav"), "--model", str(model)]) == 2
    printed = capsys.readouterr()
    assert sum(frames for _, frames in streamed(printed.out)) == (2**18 + 5000) // 160
    assert f"sample {2**18 + 5000} is nan" in printed.err


def test_damage_in_the_first_block_comes_after_the_labels_before_it(
    model: Path, flac: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = flac.read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) * 6 // 10])
    assert cli.main(["stream", str(tmp_path / "cut.flac"), "--model", str(model)]) == 2
    printed = capsys.readouterr()
    assert "decoding broke off" in printed.err and printed.err.count("\n") == 1
    received = 160 * sum(frames for _, frames in streamed(printed.out))
    waveform, _ = load_audio(flac)
    assert received > 0.4 * len(waveform)
    from speechattn.models.speech_model import load

    assert_are_offline(printed.out, load(model), waveform[:received])


def test_unscaled_floats_in_a_file_are_refused(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(16_000)) * 9000, 16_000, subtype="FLOAT")
    assert cli.main(["stream", str(tmp_path / "a.wav"), "--model", str(model)]) == 2
    assert "looks like 16-bit samples as floats; divide by 32768. Export it again." in capsys.readouterr().err


def test_less_than_a_frame_says_how_much_came(
    model: Path, tmp_path: Path, pipe: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe(b"hello world\n")
    assert cli.main(["stream", "-", "--model", str(model)]) == 0
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err == "speechattn: no label: 6 samples came (0.4 ms), less than a frame.\n"
    for samples, message in ((159, "speechattn: no label: 159 samples came (9.9 ms), less than a frame.\n"), (160, "")):
        soundfile.write(tmp_path / "a.wav", np.zeros(samples), 16_000)
        assert cli.main(["stream", str(tmp_path / "a.wav"), "--model", str(model)]) == 0
        assert capsys.readouterr().err == message


def test_real_time_reports_and_draws(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 3200)
    soundfile.write(tmp_path / "a.wav", noise, 16000)
    picture = tmp_path / "a.png"
    options = ["--realtime", "--plot", str(picture), "--model", str(model)]
    assert cli.main(["stream", str(tmp_path / "a.wav"), *options]) == 0
    printed = capsys.readouterr()
    assert sum(frames for _, frames in streamed(printed.out)) == 20
    assert "latency of 20 labels: 50 % " in printed.err and re.search(r"real-time factor \d", printed.err)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ([__file__, "--rate", "8000"], "a sound file states its own rate"),
        ([__file__, "--plot", "absent/a.png"], "its folder is missing"),
        ([__file__, "--plot", "a.foo"], "--plot a.foo must end in .png"),
        ([__file__], "holds text, not audio"),
        ([__file__, "--model", "absent"], "absent is not a saved model"),
        (["-", "--rate", "10"], "--rate must be 1000 to 768000 Hz"),
    ],
)
def test_what_is_refused(arguments: list[str], printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stream", *arguments]) == 2
    error = capsys.readouterr()
    assert printed in error.err and error.err.count("\n") == 1 and error.out == ""


def test_a_model_that_waits_for_the_end_is_refused(
    tmp_path: Path, flac: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ModelConfig(
        CLASSES, EncoderConfig(8, d_model=8, num_heads=2, num_layers=1, context=Context.full()), num_mels=8
    )
    SpeechModel(config).save(tmp_path)
    assert cli.main(["stream", str(flac), "--model", str(tmp_path)]) == 2
    assert "cannot stream: a layer with unlimited right context" in capsys.readouterr().err


def command(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "speechattn", "stream", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_ctrl_c_prints_the_pending_labels(model: Path, flac: Path) -> None:
    samples, _ = soundfile.read(flac, dtype="int16")
    samples = samples[:20_800]
    with command("-", "--model", str(model)) as listening:
        assert listening.stdin is not None and listening.stdout is not None and listening.stderr is not None
        listening.stdin.write(samples.tobytes())
        listening.stdin.flush()
        first = listening.stdout.readline()
        listening.send_signal(signal.SIGINT)
        rest = listening.stdout.read()
        assert listening.wait(timeout=300) == 130
        assert listening.stderr.read() == b""
    from speechattn.models.speech_model import load

    assert_are_offline((first + rest).decode(), load(model), torch.from_numpy(samples / 32768).float())


def test_a_reader_that_leaves_is_no_trouble(model: Path, flac: Path, tmp_path: Path) -> None:
    with command(str(flac), "--model", str(model), "--plot", str(tmp_path / "a.png")) as speaking:
        assert speaking.stdout is not None and speaking.stderr is not None
        speaking.stdout.close()
        assert speaking.stderr.read() == b""
        assert speaking.wait(timeout=300) == 141
    assert (tmp_path / "a.png").exists()


def rows(*labels: str, start: float = 0.0) -> FrameLabels:
    edges = [start + i / 8 for i in range(len(labels) + 1)]
    return FrameLabels(tuple(edges[:-1]), tuple(edges[1:]), labels, tuple(0.5 for _ in labels))


def test_a_segment_is_given_when_it_has_ended() -> None:
    segments = Segments()
    assert segments.add(rows("A", "A")) == []
    assert segments.add(rows("A", "B", start=0.25)) == [LabelledSegment(0.0, 0.375, "A", 0.5)]
    assert segments.end() == [LabelledSegment(0.375, 0.5, "B", 0.5)]
    assert segments.end() == []


def test_labels_of_ctc_are_whole_at_once() -> None:
    assert [segment.label for segment in Segments(whole=True).add(rows("A", "A"))] == ["A", "A"]


def test_latency_is_counted_from_the_middle_of_a_frame() -> None:
    record = LatencyRecord()
    record.add(rows("A", "B"), 0.5)
    record.busy_s = 0.25
    assert record.latency_ms.tolist() == [437.5, 312.5]
    report = record.report(10.0, 300.0, 100)
    assert "latency of 2 labels: 50 % 375 ms" in report and "100 % 438 ms" in report
    assert "real-time factor 0.0250: 40 times as fast as speech" in report


@pytest.mark.parametrize("push", [2, 10])
def test_names_in_the_picture_stand_apart(push: int, tmp_path: Path) -> None:
    """Ten short phones a second, as many as anybody speaks: "AH" and "D" must not read as "AHD"."""
    lengths = np.random.default_rng(0).integers(2, 9, 40)
    labels = [name for i, n in enumerate(lengths) for name in [("AH", "D", "M", "OW")[i % 4]] * n]
    start = np.arange(len(labels)) / 100
    appeared = (np.arange(len(labels)) // push + 1) * push / 100 + 0.2
    figure = arrivals(start, start + 0.01, labels, appeared, 200.0)
    figure.savefig(tmp_path / "a.png")
    names = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text() in labels]
    letter = names[0].width / len("OW")
    rows = [(a, b) for a, b in combinations(sorted(names, key=lambda box: box.x0), 2) if abs(a.y0 - b.y0) < a.height]
    assert len(names) > 8 and (rows or push == 2)
    assert all(b.x0 - a.x1 > 0.25 * letter for a, b in rows)


@pytest.mark.parametrize("labels", [[], ["SIL"], ["SIL", "AA", "AA", "AA", "word"] * 100])
def test_the_picture_of_any_number_of_labels(labels: list[str], tmp_path: Path) -> None:
    start = np.arange(len(labels)) / 100
    figure = arrivals(start, start + 0.01, labels, start + 0.3, 200.0, "title")
    figure.savefig(tmp_path / "a.png")
    names = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text() in labels]
    assert not any(one.overlaps(other) for one, other in combinations(names, 2))
    printed = " ".join(text.get_text() for text in figure.texts)
    assert ("within 295 ms" if labels else "nothing was recognised") in printed
