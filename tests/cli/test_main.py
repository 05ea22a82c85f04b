"""The command line: quick without torch, one line for a mistake, quiet when its reader ends; and the doctor."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import types
from dataclasses import dataclass, fields
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechattn.cli import doctor, evaluate
from speechattn.cli import main as cli
from speechattn.cli import train as commands
from speechattn.cli.config_options import add_fields, field_docs
from speechattn.cli.options import Parser
from speechattn.errors import DataError, UserError
from speechattn.training.config import TrainConfig

ROOT = Path(__file__).parents[2]
REPORT_TORCH = """
import sys
from speechattn.cli.main import main
try:
    status = main(sys.argv[1:])
except SystemExit as stop:
    status = stop.code
print(f"\\nstatus {status}, torch {'torch' in sys.modules}")
"""


def shell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python on `arguments` the way a user's shell would, from another folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=300,
    )


def without_torch(*arguments: str, status: int) -> str:
    """The output of a command that must answer before torch is imported."""
    ran = shell("-c", REPORT_TORCH, *arguments)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == f"status {status}, torch False", ran.stdout + ran.stderr
    return ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--help"], 0, "COMMAND"),
        (["--version"], 0, "speechattn "),
        (["features", "--help"], 0, "--num-mels"),
        (["stream", "--help"], 0, "--realtime"),
        (["download", "dev-claen", "--to", "x"], 2, "Did you mean dev-clean?"),
        (["stream", "/absent.wav"], 2, "/absent.wav does not exist"),
        (["stream", "-", "--realtime"], 2, "at its own pace"),
        ([], 2, "COMMAND"),
        (["trian"], 2, "invalid choice: 'trian'"),
        (["features", "a.wav"], 2, "--out"),
        (["features", "/absent.wav", "--out", "x"], 2, "/absent.wav does not exist"),
        (["features", "a.wav", "--out", "x", "--num-mels", "0"], 2, "1 or more, got '0'"),
        (["features", "a.wav", "--out", "x", "--flavor", "htk"], 2, "'htk' (choose from"),
    ],
)
def test_help_and_mistakes_answer_without_torch(arguments: list[str], status: int, message: str) -> None:
    assert message in without_torch(*arguments, status=status)


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_help_and_unknown_flags_of_long_commands_answer_without_torch(command: str) -> None:
    assert "--data" in without_torch(command, "--help", status=0)
    error = without_torch(command, "--no-such-flag", status=2)
    assert "speechattn: " in error and "--no-such-flag" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-heads", "7"], "num_heads"),
        (["--config", "/absent.json"], "/absent.json cannot be read"),
        (["--epochs", "many"], "epochs"),
    ],
)
def test_config_errors_answer_without_torch(arguments: list[str], message: str) -> None:
    assert message in without_torch("train", *arguments, status=2)


@pytest.mark.parametrize(("command", "module"), [("train", commands), ("evaluate", evaluate)])
def test_a_command_gets_its_arguments_and_its_status_is_returned(
    command: str, module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[str]] = []

    def stand_in(argv: list[str], *presets: object) -> int:
        given.append(argv)
        return 143

    monkeypatch.setattr(module, "main", stand_in)
    assert cli.main([command, "--data", "synthetic", "--help"]) == 143
    assert given == [["--data", "synthetic", "--help"]]


def raising(error: BaseException) -> Any:
    def command(argv: list[str], *presets: object) -> int:
        raise error

    return command


@pytest.mark.parametrize("error", [UserError("two\n  lines"), DataError("two lines")])
def test_a_mistake_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: UserError
) -> None:
    monkeypatch.delenv("SPEECHATTN_DEBUG", raising=False)
    monkeypatch.setattr(commands, "main", raising(error))
    assert cli.main(["train"]) == 2
    assert capsys.readouterr() == ("", "speechattn: two lines\n")


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SPEECHATTN_DEBUG", "")
    monkeypatch.setattr(commands, "main", raising(UserError("wrong")))
    assert cli.main(["--debug", "train"]) == 2
    message = capsys.readouterr().err
    assert message.startswith("Traceback") and message.endswith("speechattn: wrong\n")


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(commands, "main", raising(KeyboardInterrupt()))
    assert cli.main(["train"]) == 130
    assert capsys.readouterr().err == "speechattn: interrupted\n"


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "main", raising(RuntimeError("ours")))
    with pytest.raises(RuntimeError, match="ours"):
        cli.main(["train"])


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_quiet(unbuffered: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "speechattn", "doctor"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": unbuffered},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stdout is not None and command.stderr is not None
        command.stdout.close()
        assert command.stderr.read() == ""
        assert command.wait(timeout=300) == 141


def test_it_runs_as_a_module() -> None:
    ran = shell("-m", "speechattn", "features", "/absent.wav", "--out", "x")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("speechattn: /absent.wav does not exist") and ran.stderr.count("\n") == 1


@pytest.fixture
def sounds(tmp_path: Path) -> list[Path]:
    """One second at 16 kHz, a quarter at 8 kHz, and less than a frame; from a seeded generator."""
    noise = np.random.default_rng(0)
    files = []
    for name, count, rate in (("one second.wav", 16000, 16000), ("low.flac", 2000, 8000), ("short.wav", 100, 16000)):
        files.append(tmp_path / name)
        soundfile.write(files[-1], noise.uniform(-0.1, 0.1, count), rate)
    return files


@pytest.mark.filterwarnings("ignore::speechattn.data.audio.errors.AudioWarning")
def test_features_are_frames_and_plots(sounds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "out"
    assert cli.main(["features", *map(str, sounds), "--out", str(out), "--num-mels", "40", "--plot"]) == 0
    shapes = {path.stem: np.load(path) for path in out.glob("*.npy")}
    assert {name: frames.shape for name, frames in shapes.items()} == {
        "one second": (100, 40),
        "low": (25, 40),
        "short": (0, 40),
    }
    assert all(frames.dtype == np.float32 and np.isfinite(frames).all() for frames in shapes.values())
    assert {path.stem for path in out.glob("*.png")} == shapes.keys()
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in out.glob("*.png"))
    assert "one second.npy  100 frames x 40" in capsys.readouterr().out


def test_features_are_those_of_the_frontend(sounds: list[Path], tmp_path: Path) -> None:
    from speechattn.data.audio.files import load_audio
    from speechattn.frontend.logmel import LogMel

    assert cli.main(["features", str(sounds[0]), "--out", str(tmp_path), "--flavor", "librosa"]) == 0
    frames, _ = LogMel(80, flavor="librosa")(load_audio(sounds[0])[0][None])
    np.testing.assert_array_equal(np.load(tmp_path / "one second.npy"), frames[0].numpy())


def test_a_bad_file_is_named_and_the_others_are_done(
    sounds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.flac"
    text.write_text("not sound")
    assert cli.main(["features", str(text), str(sounds[0]), "--out", str(tmp_path / "out")]) == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["one second.npy"]
    message = capsys.readouterr().err.splitlines()
    assert len(message) == 2 and "text.flac" in message[0] and "1 of 2 files" in message[1]


def test_names_that_would_collide_are_refused(
    sounds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = tmp_path / "other" / "low.wav"
    twin.parent.mkdir()
    twin.touch()
    assert cli.main(["features", str(sounds[1]), str(twin), "--out", str(tmp_path / "out")]) == 2
    assert "would both become low.npy" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_out_that_is_a_file_is_refused(sounds: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["features", str(sounds[0]), "--out", str(sounds[1])]) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_the_doctor_finds_this_environment_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main() == 0
    message = capsys.readouterr().out
    for name in (*doctor.REQUIRED, *doctor.EXTRAS, "torchaudio", "python", "memory", "cuda"):
        assert f"{name} " in message
    assert message.endswith("Ready.\n")


@pytest.mark.parametrize("error", [ImportError("no symbol"), OSError("libcudart"), RuntimeError("versions")])
def test_a_broken_torch_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    real = importlib.import_module

    def broken(name: str, package: str | None = None) -> types.ModuleType:
        if name.split(".")[0] == "torch":
            raise error
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", broken)
    assert doctor.main() == 1
    message = capsys.readouterr().out
    assert f"broken, {error}: pip install --force-reinstall torch" in message
    assert message.endswith("1 required packages need attention: torch.\n")


def test_an_absent_package_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soxr", None)
    finding = doctor.check_package("soxr")
    assert finding.state == "missing" and finding.fix == "pip install soxr"


def test_the_states_of_torchaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "torchaudio" and absent:
            raise PackageNotFoundError(package)
        return "9.9"

    def mismatched(purpose: str) -> types.ModuleType:
        raise UserError("mismatched")

    absent = False
    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "require_torchaudio", lambda purpose: types.ModuleType("torchaudio"))
    assert str(doctor.check_torchaudio()).split() == ["torchaudio", "9.9", "ok"]
    monkeypatch.setattr(doctor, "require_torchaudio", mismatched)
    assert doctor.check_torchaudio().state == "mismatched"
    assert "does not fit torch 9.9: pip install torch==2.11.0 torchaudio==2.11.0" in str(doctor.check_torchaudio())
    absent = True
    assert doctor.check_torchaudio().state == "missing"


def test_no_command_is_answered_with_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    message = capsys.readouterr()
    assert message.out == "" and message.err.startswith("usage: speechattn")
    assert all(re.search(rf"^    {name}\s", message.err, flags=re.MULTILINE) for name in cli.COMMANDS)


def test_the_doctor_knows_what_the_export_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    assert str(doctor.check_extra("export")).endswith("for models in ONNX: pip install onnx onnxscript onnxruntime")


def test_an_absent_extra_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda package: None)
    assert str(doctor.check_extra("synth")).endswith("for the synthetic corpus: pip install espeakng-loader")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["picture", "--left", "3"], "the command picture is now plot."),
        (["trian", "--epochs", "3"], "invalid choice: 'trian' (choose from"),
        (["--epochs", "3"], "unknown option --epochs. See: speechattn --help"),
        (["features", "a.wav", "--output", "x"], "--output is now --out. See: speechattn features --help"),
        (["features", "a.wav", "--out", "x", "--picture"], "--picture is now --plot. See:"),
        (["stream", "a.wav", "--json"], "--json is now --format json. See:"),
        (["stream", "a.wav", "--picture=a.png"], "--picture is now --plot. See:"),
        (["evaluate", "--json", "a.json"], "--json is now --json-out FILE. See:"),
        (["plan", "--hours", "4"], "--hours is now --duration 4h. See:"),
        (["plan", "--positions", "none"], "--position-encoding. See:"),
        (["train", "--scores", "relu"], "--scores is now --activation. See:"),
        (["profile", "--seconds", "10"], "--seconds is now --duration 30s. See:"),
        (["plan", "--execution", "dense"], "--execution is now --backend. See:"),
        (["train", "--epoch", "3"], "unknown option --epoch: did you mean --epochs? See: speechattn train --help"),
        (["doctor", "torch"], "unexpected argument 'torch'. See: speechattn doctor --help"),
        (["evaluate", "--model", "m"], "the following arguments are required: --data. See:"),
    ],
)
def test_a_renamed_or_unknown_option_is_one_line_with_what_to_write(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("speechattn: ") and error.count("\n") == 1


def test_an_option_may_be_written_with_underscores() -> None:
    config, _ = commands.parse_train(["--num_heads=4", "--batch_frames", "500"], {})
    assert (config.num_heads, config.batch_frames) == (4, 500)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "many"], "argument --epochs: must be a whole number, got 'many'"),
        (["--max-bad", "few"], "argument --max-bad: must be a number or None, got 'few'"),
        (["--encoder", "truncate"], "bigru, mlp, linear, got 'truncate': did you mean 'truncated'?"),
        (["--conv-lookahead", "half"], "must be a whole number or one of symmetric, got 'half'"),
        (["--baselines", "mlp", "rnn"], "argument --baselines: must be one of truncated, "),
        (["--noise-snr-db", "5"], "argument --noise-snr-db: expected 2 arguments"),
    ],
)
def test_a_setting_of_a_wrong_kind_is_named_with_what_it_must_be(arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        commands.parse_train(arguments, {})


def test_settings_are_read_as_their_types() -> None:
    given = ["--baselines", "--test-subsets", "a", "b", "--no-augment", "--alignments", "None", "--max-bad", "0.5"]
    given += ["--conv-lookahead", "3", "--noise-snr-db", "-5", "10", "--speed-perturb", "0.9", "1"]
    config, _ = commands.parse_train(given, {"p": TrainConfig(data="d", alignments="x")})
    assert (config.baselines, config.test_subsets, config.augment) == ((), ("a", "b"), False)
    assert (config.alignments, config.max_bad, config.conv_lookahead) == (None, 0.5, 3)
    assert (config.noise_snr_db, config.speed_perturb) == ((-5.0, 10.0), (0.9, 1.0))


@dataclass(frozen=True)
class Documented:
    """Three fields."""

    first: int = 1
    """one, which goes
    on below, 5 % of it."""
    second: str = ""
    """Documented under the field."""
    third: float = 0.5


def test_help_is_the_documentation_of_the_fields() -> None:
    assert field_docs(Documented) == {
        "first": "one, which goes on below, 5 % of it.",
        "second": "Documented under the field.",
    }
    parser = Parser("test")
    add_fields(parser, Documented())
    text = " ".join(parser.format_help().split())
    assert "one, which goes on below, 5 % of it (default: 1)" in text and "--third FLOAT (default: 0.5)" in text
    assert field_docs(TrainConfig).keys() == {field.name for field in fields(TrainConfig)}
