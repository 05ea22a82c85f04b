"""The recipe under torchrun: the same weights after signals and kill -9 of one process, of all, and while saving."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from speechattn.training.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]
TINY = (
    "--subset test-clean --valid-fraction 0.3 --baselines --left 4 --right 3 --d-model 16 --num-heads 2 --num-layers 2 "
    "--d-ff 32 --num-mels 20 --warmup-steps 2 --device cpu --epochs 40 --batch-frames 1000 --crop-frames 120 "
    "--valid-every 5 --checkpoint-seconds 0"
)


@contextlib.contextmanager
def torchrun(data: Path, out: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start the recipe in two processes; at the end of the body nothing of it runs any more."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += [str(ROOT / "recipes" / "frame_classifier" / "train.py"), "--out", str(out), *TINY.split(), *options]
    command += ["--data", str(data / "LibriSpeech"), "--alignments", str(data / "alignments")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    process = subprocess.Popen(command, env=environment, text=True, stderr=subprocess.STDOUT, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        for worker in workers(process).values():
            os.kill(worker, signal.SIGKILL)
        process.kill()
        process.communicate()


def workers(process: "subprocess.Popen[str]") -> dict[int, int]:
    """Return the pid of each rank that runs."""
    found = {}
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            variables = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            ranks = [int(entry[5:]) for entry in variables if entry.startswith(b"RANK=")]
            found.update({rank: int(child) for rank in ranks})
    return found


def newest(out: Path) -> int:
    names = (path.name for path in (out / "checkpoints").glob("step-????????"))
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def wait_for_step(process: "subprocess.Popen[str]", out: Path, step: int, half_written: bool = False) -> None:
    def reached() -> bool:
        return newest(out) >= step and (not half_written or any((out / "checkpoints").glob("step-*.tmp-*")))

    while process.poll() is None and not reached():
        time.sleep(0.0005)
    assert process.poll() is None, process.communicate()[0]


@pytest.mark.slow
def test_the_recipe_in_two_processes_survives_signals_and_kills(librispeech_tiny: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    with torchrun(librispeech_tiny, whole) as process:
        assert process.wait(300) == 0, process.communicate()[0]
    for number in (signal.SIGTERM, signal.SIGINT):
        with torchrun(librispeech_tiny, cut) as process:
            wait_for_step(process, cut, newest(cut) + 3)
            process.send_signal(number)
            text, _ = process.communicate(timeout=60)
            assert f"stopped by signal {int(number)}; everything is saved" in text
            checkpoint = load_checkpoint(cut / "checkpoints")
            assert checkpoint is not None and checkpoint.step == newest(cut)
    for rank in (1, 0):
        with torchrun(librispeech_tiny, cut) as process:
            wait_for_step(process, cut, newest(cut) + 3)
            os.kill(workers(process)[rank], signal.SIGKILL)
            text, _ = process.communicate(timeout=60)
            assert process.returncode != 0 and "-9" in text
    for half_written in (False, True):
        with torchrun(librispeech_tiny, cut) as process:
            wait_for_step(process, cut, newest(cut) + 3, half_written)
            for worker in workers(process).values():
                os.kill(worker, signal.SIGKILL)
    with torchrun(librispeech_tiny, cut) as process:
        assert process.wait(300) == 0, process.communicate()[0]
    expected, found = (load_file(folder / "model" / "model.safetensors") for folder in (whole, cut))
    for name in expected:  # dropout and augmentation included
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-6)
