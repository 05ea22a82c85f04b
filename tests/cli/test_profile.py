"""`speechattn profile` as a person runs it: real processes, a real ceiling, Ctrl-C, and every mistake in one line."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from speechattn.cli import main as cli
from speechattn.cli import profile_actions as show
from speechattn.profiling.isolated import in_fresh_process
from speechattn.system.process_memory import data_bytes
from speechattn.system.units import format_bytes

ROOT = Path(__file__).parents[2]
TINY = ["--d-model", "32", "--num-heads", "2", "--num-layers", "1", "--num-mels", "8"]


def profile(*arguments: object) -> int:
    return cli.main(["profile", *map(str, arguments)])


def recorded(out: Path) -> dict[tuple[str, float], dict[str, Any]]:
    """The points of profile.json by encoder and length."""
    data = json.loads((out / "profile.json").read_text())
    assert data["machine"]["cpu"] and data["machine"]["versions"]["torch"]
    return {(point["encoder"], point["audio_s"]): point for point in data["points"]}


def test_running_out_of_memory_is_a_result_and_the_same_command_measures_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ceiling = (in_fresh_process(data_bytes) + 450_000_000) / 1e9  # of which the interpreter takes some when it computes
    given = [*TINY, "--memory", f"{ceiling}GB", "--out", tmp_path]
    assert profile("--duration", 2, 6000, 9000, "--encoders", "truncated", *given) == 0
    points = recorded(tmp_path)
    assert points["truncated", 2.0]["status"] == "ok"
    assert points["truncated", 6000.0]["status"] == "out of memory", "600 000 frames of more than a kilobyte"
    message = f"ran out at {format_bytes(round(ceiling * 1e9))}, wanted another "
    assert points["truncated", 6000.0]["note"].startswith(message)
    assert points["truncated", 9000.0]["note"] == "skipped: out of memory at 1.67 h"
    printed = capsys.readouterr().out
    assert message in printed and str(tmp_path / "report.html") in printed
    assert (tmp_path / "profile.csv").read_text().count("\n") == 4
    assert (tmp_path / "pictures" / "lengths.png").read_bytes().startswith(b"\x89PNG")
    assert profile("--duration", 10, 20, "--encoders", "streaming", *given) == 0
    assert {key: point for key, point in recorded(tmp_path).items() if key in points} == points
    streaming = [recorded(tmp_path)["streaming", seconds] for seconds in (10.0, 20.0)]
    for point in streaming:
        assert point["status"] == "ok" and point["seconds"] > 0 and point["output"] == [1, point["frames"], 32]
        assert 4 * 2 * 128 * 32 <= point["state_bytes"] <= 4 * 4 * 128 * 32, (
            "keys and values of 128 frames, and no more"
        )
        assert point["real_time_factor"] == pytest.approx(point["seconds"] / point["audio_s"])
        assert point["bytes_per_frame"] == pytest.approx(point["peak_extra_bytes"] / point["frames"])
        assert 0 < point["weights_bytes"] < 100_000 < point["peak_resident_bytes"]
    assert streaming[0]["peak_tensor_bytes"] == streaming[1]["peak_tensor_bytes"], "the same at any length"
    before = (tmp_path / "profile.json").read_bytes()
    monkeypatch.setattr("speechattn.profiling.runner.measure", None)
    assert profile("--duration", 10, 20, "--encoders", "streaming", *given) == 0
    assert (tmp_path / "profile.json").read_bytes() == before
    capsys.readouterr()
    assert profile("--duration", 10, "--encoders", "streaming", *given, "--left", 5) == 2
    printed = capsys.readouterr().err
    assert "left 64 there, 5 here" in printed and "--restart" in printed


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "scripts" / "profile_memory.py"), *TINY, "--encoders", "streaming"]
    command += ["--duration", "0.5", "500000", "--memory", "2GB", "--timeout", "1e6", "--out", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, env=environment, stdout=-1, stderr=-1, text=True, start_new_session=True, preexec_fn=_accept_interrupts
    ) as process:
        deadline = time.monotonic() + 300
        while not (out / "profile.csv").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1.0)  # into the next point, which would take minutes
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: everybody hears it
        try:
            printed, errors = process.communicate(timeout=300)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever went wrong, nothing goes on for minutes
    assert process.returncode == 130, errors
    assert [point["status"] for point in recorded(out).values()] == ["ok"]
    assert "0.5 s" in (out / "report.html").read_text() and "same command measures the rest" in printed
    assert errors.rstrip().endswith("speechattn: interrupted") and "Traceback" not in errors
    assert not _alive_in(process.pid), "the child is gone"


def _accept_interrupts() -> None:
    """Tests that a shell runs in the background ignore SIGINT, and so would everything that they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _alive_in(group: int) -> list[str]:
    """Processes of a group that are still at work."""
    deadline = time.monotonic() + 60
    while True:
        listed = subprocess.run(["ps", "-eo", "pgid=,stat=,args="], capture_output=True, text=True).stdout
        alive = [line for line in listed.splitlines() if line.split()[0] == str(group) and line.split()[1][0] != "Z"]
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.1)


OUT = ["--out", "x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs --out DIR"),
        (
            ["--encoders", "truncated", "longformer", *OUT],
            "must be among truncated, chunked, full, streaming, emformer",
        ),
        (["--encoders", "model", *OUT], "give its folder, --model DIR"),
        (["--duration", "0", *OUT], '--duration: must be a duration as "4h", "90min" or "30s", got \'0\''),
        (["--duration", "10", "-60", *OUT], "got '-60'"),
        (["--duration", "nan", *OUT], "got 'nan'"),
        (["--duration", "inf", *OUT], "got 'inf'"),
        (["--duration", "1e12", *OUT], "got '1e12'"),
        (["--duration", "0.001", *OUT], "must be a duration from 0.01s (a frame) to 366d, got '0.001'"),
        (["--duration", "an hour", *OUT], "got 'an hour'"),
        (["--memory", "-1", *OUT], '--memory: must be a size as "8GB", "512MB" or "2GiB", got \'-1\''),
        (["--memory", "8", *OUT], '--memory: 8 has no unit and is 8 bytes: write "8GB"'),
        (["--timeout", "nan", *OUT], "--timeout: must be a duration"),
        (["--left", "-1", *OUT], "--left: must be a whole number of frames"),
        (["--mode", "testing", *OUT], "invalid choice: 'testing'"),
        (["--device", "tpu", *OUT], "invalid choice: 'tpu'"),
        (["--d-model", "100", "--num-heads", "3", *OUT], "num_heads must divide d_model"),
        (["--checkpointing", *OUT], "--mode training"),
        (["--model", "x", "--d-model", "8", *OUT], "leave out --d-model"),
        (["--redraw", "a.json", "--trace"], "give one"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(show, "run_profile", None)
    assert profile(*arguments) == 2
    printed = capsys.readouterr().err
    assert message in printed and printed.startswith("speechattn: ") and printed.count("\n") == 1, printed
    assert not list(tmp_path.iterdir()), "nothing was made"


def test_files_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("{")
    for arguments, message in (
        (["--out", tmp_path / "file"], "Choose another --out."),
        (["--model", tmp_path, "--out", tmp_path / "out"], "is not a saved model"),
        (["--redraw", tmp_path / "file"], "is not JSON"),
        (["--redraw", tmp_path / "absent"], "cannot be read"),
        (["--compare", tmp_path / "file", tmp_path / "absent"], "is not JSON"),
    ):
        assert profile(*arguments) == 2
        printed = capsys.readouterr().err
        assert message in printed and printed.count("\n") == 1, printed


def test_no_gpu_and_a_ceiling_below_the_interpreter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    assert profile(*TINY, "--memory", "50MB", "--out", tmp_path) == 2
    printed = capsys.readouterr().err
    assert "--memory 50 MB is below what Python and torch need by themselves here" in printed and "or more" in printed
    if not torch.cuda.is_available():
        assert profile(*TINY, "--device", "cuda", "--out", tmp_path) == 2
        assert "--device cuda: " in capsys.readouterr().err
    assert not (tmp_path / "profile.json").exists()


def test_help_answers_without_torch() -> None:
    program = (
        "import sys; from speechattn.cli.main import main\ntry: main(['profile', '--help'])\nexcept SystemExit: pass\n"
    )
    program += "print('torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.stdout.splitlines()[-1] == "False" and "--encoders" in ran.stdout


@pytest.mark.slow
def test_a_saved_model_is_profiled_as_it_is(tmp_path: Path) -> None:
    from speechattn.models.pretrained import FOLDER

    assert profile("--model", FOLDER / "small-en-phones", "--duration", 1, 10, "--out", tmp_path) == 0
    points = recorded(tmp_path)
    assert {encoder for encoder, _ in points} == {"model", "streaming"}
    assert all(point["status"] == "ok" for point in points.values())


@pytest.mark.slow
def test_every_encoder_runs_in_both_modes(tmp_path: Path) -> None:
    pytest.importorskip("torchaudio")
    for mode in ("inference", "training"):
        how = ["--mode", mode, *(["--checkpointing"] if mode == "training" else [])]
        assert profile(*TINY, *how, "--duration", 1, 4, "--batch-size", 2, "--out", tmp_path / mode) == 0
        points = recorded(tmp_path / mode)
        assert len(points) == (12 if mode == "inference" else 10)
        assert all(point["status"] == "ok" and point["output"][0] == 2 for point in points.values())
    assert (
        profile(*TINY, "--mode", "training", "--encoders", "streaming", "--duration", 1, "--out", tmp_path / "no") == 0
    )
    (point,) = recorded(tmp_path / "no").values()
    assert point["status"] == "cannot" and "carries no gradient" in point["note"]


@pytest.mark.gpu
def test_on_a_gpu_the_ceiling_is_the_devices(tmp_path: Path) -> None:
    given = ["--device", "cuda", "--encoders", "truncated", "streaming", "--out", tmp_path]
    assert profile(*TINY, "--memory", "1GB", "--duration", 10, 20000, *given) == 0
    points = recorded(tmp_path)
    assert points["truncated", 10.0]["status"] == "ok" and points["truncated", 10.0]["peak_tensor_bytes"] > 0
    assert points["truncated", 20000.0]["note"].startswith("ran out at 1 GB")
    assert points["streaming", 10.0]["status"] == "ok"
    assert json.loads((tmp_path / "profile.json").read_text())["machine"]["gpu"]
