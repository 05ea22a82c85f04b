"""`speechattn label`: a file of labels for each recording, once; nothing that is finished or foreign is lost."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import soundfile
from small_streams import model_of, sound

from speechattn.cli import label, label_runner
from speechattn.cli import main as cli
from speechattn.cli.label_index import NAME, LabelIndex
from speechattn.data.labels.ctm import read_ctm
from speechattn.data.labels.textgrid import read_textgrid
from speechattn.decoding.smoothing import Smoothing
from speechattn.models.speech_model import SpeechModel, load
from speechattn.streaming import label_formats
from speechattn.streaming.recording import label_recording


def write(path: Path, seed: int = 0, seconds: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound(seconds, seed=seed).numpy(), 16_000)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    made: SpeechModel = model_of()
    made.save(folder)
    return folder


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Three recordings in two folders, and what is none."""
    folder = tmp_path / "in"
    for seed, name in enumerate(("a.wav", "sub/b.flac", "sub/deep/c.WAV")):
        write(folder / name, seed)
    (folder / "sub/notes.txt").write_text("no sound")
    shutil.copy(folder / "a.wav", folder / "._a.wav")
    return folder


@pytest.fixture
def labelled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were labelled."""
    names: list[str] = []

    def count(model: Any, source: Any, *rest: Any) -> Any:
        names.append(Path(source).name)
        return label_recording(model, source, *rest)

    monkeypatch.setattr(label_runner, "label_recording", count)
    return names


def run(*arguments: Any) -> int:
    return cli.main(["label", *map(str, arguments)])


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("[!.]*") if path.is_file())


def test_each_recording_has_its_labels_in_the_same_subfolder(
    sounds: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(sounds, "--out", out, "--format", "ctm", "--model", model) == 0
    assert files(out) == ["a.ctm", "sub/b.ctm", "sub/deep/c.ctm"]
    for name in ("a.wav", "sub/b.flac", "sub/deep/c.WAV"):
        expected = label_recording(load(model), sounds / name, Smoothing())
        (found,) = read_ctm((out / name).with_suffix(".ctm")).values()
        assert [each.label for each in found] == [each.label for each in expected] and len(found) > 2
    printed = capsys.readouterr()
    assert printed.out.count(" segments, 1.0 s\n") == 3 and "label:" in printed.err


@pytest.mark.parametrize(
    ("options", "smoothing"),
    [
        (["--no-smoothing"], None),
        (["--change-cost", "9"], Smoothing(9.0)),
        (["--change-cost", "0", "--min-ms", "25"], Smoothing(0.0, 3)),
    ],
)
def test_options_set_the_smoothing(
    sounds: Path, model: Path, tmp_path: Path, options: list[str], smoothing: Smoothing | None
) -> None:
    assert run(sounds / "a.wav", "--out", tmp_path, "--format", "textgrid", "--model", model, *options) == 0
    expected = label_recording(load(model), sounds / "a.wav", smoothing)
    (tier,) = read_textgrid(tmp_path / "a.TextGrid")
    assert [each.label for each in tier.segments if each.label] == [each.label for each in expected]


def test_the_same_command_makes_nothing_again(
    sounds: Path, model: Path, tmp_path: Path, labelled: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sounds, "--out", tmp_path / "out", "--format", "jsonl", "--model", model]
    assert run(*command) == 0 and labelled == ["a.wav", "b.flac", "c.WAV"]
    assert run(*command) == 0 and len(labelled) == 3
    assert "3 of 3 files were there already" in capsys.readouterr().out
    write(sounds / "sub/b.flac", seed=7)
    assert run(*command) == 0 and labelled[3:] == ["b.flac"], "another sound"
    (tmp_path / "out/a.jsonl").unlink()
    assert run(*command) == 0 and labelled[4:] == ["a.wav"], "a file that is lost"
    assert run(*command, "--change-cost", 1) == 0 and len(labelled) == 8, "other settings"
    assert len((tmp_path / "out" / NAME).read_text().splitlines()) == 9
    assert run(*command, "--change-cost", 1) == 0 and len(labelled) == 8
    assert len((tmp_path / "out" / NAME).read_text().splitlines()) == 3, "outdated lines are dropped at the next start"


def test_another_model_makes_everything_again(sounds: Path, model: Path, tmp_path: Path, labelled: list[str]) -> None:
    command = [sounds / "a.wav", "--out", tmp_path / "out", "--format", "audacity", "--model"]
    other = load(model)
    head: Any = other.head
    head.output.bias.data += 1
    other.save(tmp_path / "other")
    shutil.copytree(model, tmp_path / "copy")
    assert run(*command, model) == 0 and run(*command, tmp_path / "copy") == 0 and len(labelled) == 1
    assert run(*command, tmp_path / "other") == 0 and len(labelled) == 2


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_finished_files_and_the_next_call_makes_the_rest(
    sounds: Path,
    model: Path,
    tmp_path: Path,
    number: int,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, count = tmp_path / "out", [0]

    def second_is_stopped(model: Any, source: Any, smoothing: Any, progress: Any) -> Any:
        count[0] += 1
        if count[0] == 2:
            os.kill(os.getpid(), number)
        return label_recording(model, source, smoothing, progress)

    monkeypatch.setattr(label_runner, "label_recording", second_is_stopped)
    command = [sounds, "--out", out, "--format", "ctm", "--model", model]
    assert run(*command) == status
    assert files(out) == ["a.ctm"]
    assert "finished files are kept. The same command continues." in capsys.readouterr().err
    assert run(*command) == 0 and count[0] == 4 and len(files(out)) == 3


@pytest.mark.parametrize("at", ["the begin of a line", "the middle of a line"])
def test_a_kill_between_a_file_and_its_line_in_the_index_costs_one_file(
    sounds: Path, model: Path, tmp_path: Path, labelled: list[str], at: str
) -> None:
    out = tmp_path / "out"
    command = [sounds, "--out", out, "--format", "ctm", "--model", model]
    assert run(*command) == 0
    lines = (out / NAME).read_text().splitlines(keepends=True)
    assert len(lines) == 6, "two for each file"
    (out / NAME).write_text("".join(lines[:5]) + (lines[5][:40] if at == "the middle of a line" else ""))
    assert [name for name, entry in LabelIndex(out).entries.items() if entry.sound] == ["a.ctm", "sub/b.ctm"]
    assert run(*command) == 0 and labelled[3:] == ["c.WAV"]
    assert all(entry.sound for entry in LabelIndex(out).entries.values())


def test_a_damaged_file_is_named_and_the_others_go_on(
    sounds: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sounds / "sub/b.flac").write_bytes((sounds / "sub/b.flac").read_bytes()[:5000])
    (sounds / "sub/empty.wav").touch()
    assert run(sounds, "--out", tmp_path / "out", "--format", "ctm", "--model", model) == 2
    assert files(tmp_path / "out") == ["a.ctm", "sub/deep/c.ctm"]
    errors = capsys.readouterr().err
    assert "b.flac" in errors and "empty.wav is an empty file" in errors
    assert errors.endswith("speechattn: 2 of 4 files gave no labels; they are named above.\n")


def test_files_of_somebody_else_and_changed_files_are_not_overwritten(
    sounds: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Audacity's labels end in .txt, as transcripts beside recordings do."""
    command = ["--out", sounds, "--format", "audacity", "--model", model]
    (sounds / "a.txt").write_text("hello world\n")
    assert run(sounds, *command) == 2
    assert "a.txt exists and is not of this command" in capsys.readouterr().err
    assert (sounds / "a.txt").read_text() == "hello world\n" and not (sounds / "sub/b.txt").exists()
    (sounds / "a.txt").unlink()
    assert run(sounds, *command) == 0
    (sounds / "sub/b.txt").write_text("0\t1\tcorrected\n")
    assert run(sounds, *command) == 0, "up to date"
    assert run(sounds, *command, "--no-smoothing") == 2
    assert "b.txt was changed after it had been written: remove it" in capsys.readouterr().err
    assert (sounds / "sub/b.txt").read_text() == "0\t1\tcorrected\n"


def test_two_files_with_one_name_are_refused_before_any_work(
    sounds: Path, model: Path, tmp_path: Path, labelled: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    write(sounds / "a.flac")
    assert run(sounds, "--out", tmp_path / "out", "--format", "ctm", "--model", model) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "a.flac and " in error and "a.wav would both become a.ctm" in error
    (sounds / "a.flac").unlink()
    assert run(sounds, sounds / "a.wav", sounds, "--out", tmp_path / "out", "--format", "ctm", "--model", model) == 0
    assert labelled == ["a.wav", "b.flac", "c.WAV"], "the same file twice is one"
    other = write(tmp_path / "other/b.wav")
    assert run(sounds / "sub", other.parent, "--out", tmp_path / "out2", "--format", "ctm", "--model", model) == 2
    assert not (tmp_path / "out2").exists()


MISTAKES: list[tuple[list[str], str]] = [
    (["lost.wav", "--out", "o", "--format", "ctm"], "lost.wav does not exist. Give sound files, or folders"),
    (["empty", "--out", "o", "--format", "ctm"], "empty holds no sound files: expected .aif"),
    (["in", "--out", "o"], "required: --format"),
    (["in", "--out", "o", "--format", "srt"], "invalid choice: 'srt'"),
    (["in", "--out", "o", "--format", "ctm", "--no-smoothing", "--min-ms", "3"], "contradict each other: give one"),
    (["in", "--out", "o", "--format", "ctm", "--change-cost", "-1"], "must be a number, 0 or more, got '-1'"),
    (["in", "--out", "o", "--format", "ctm", "--model", "lost"], "lost"),
    (["in", "--out", "in/a.wav", "--format", "ctm"], "Cannot write to the output directory"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_a_mistake_is_one_line(
    sounds: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "o").exists()


def test_a_ctc_model_is_not_smoothed(sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model_of("ctc").save(tmp_path / "ctc")
    command = [sounds / "a.wav", "--out", tmp_path / "out", "--format", "audacity", "--model", tmp_path / "ctc"]
    assert run(*command) == 0
    rows = [line.split("\t") for line in (tmp_path / "out/a.txt").read_text().splitlines()]
    assert len(rows) > 2 and all(float(stop) - float(start) < 0.0126 for start, stop, _ in rows)
    assert run(*command, "--min-ms", "30") == 2
    assert 'has head="ctc": leave them out' in capsys.readouterr().err


def test_the_command_knows_the_formats_and_their_suffixes() -> None:
    assert label.SUFFIXES == label_formats.SUFFIXES
