"""One run in one directory, whatever became of the run before: ended, killed, or killed with a worker left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from speechattn.errors import UserError
from speechattn.system.run_lock import RunLock

ROOT = Path(__file__).parents[2]


def test_the_lock_is_for_one(tmp_path: Path) -> None:
    with RunLock(tmp_path / "new" / "run") as lock:
        assert lock is not None
        with (
            pytest.raises(UserError, match=rf"in use by pid {os.getpid()}\. .*--out"),
            RunLock(tmp_path / "new" / "run"),
        ):
            pass
    with RunLock(tmp_path / "new" / "run"):
        pass


FORKER = """
import os, sys, time
from speechattn.system.run_lock import RunLock
with RunLock(sys.argv[1]):
    child = os.fork()
    if child == 0:
        print(os.getpid(), flush=True)  # the child says it, for only then it has certainly let go
        time.sleep(60)
        os._exit(0)
    input()
"""


def start(program: str, directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, str(directory)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_lock_of_a_killed_process_is_gone_though_its_worker_lives(tmp_path: Path) -> None:
    with start(FORKER, tmp_path) as holder:
        assert holder.stdout is not None
        worker = int(holder.stdout.readline())
        with pytest.raises(UserError, match=f"pid {holder.pid}"), RunLock(tmp_path):
            pass
        holder.kill()
        holder.wait()
        os.kill(worker, 0)  # the orphan is there
        with RunLock(tmp_path):
            pass
        os.kill(worker, signal.SIGKILL)


def test_a_lock_file_left_behind_locks_nothing(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(f"{os.getppid()}\n")
    with RunLock(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Choose another --out"), RunLock(tmp_path / "file"):
        pass
