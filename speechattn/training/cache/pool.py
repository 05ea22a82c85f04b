"""Work divided among worker processes (worker.py), or done here: the same results.

New interpreters, not forks: a fork next to torch's threads could hang. Each worker has a session of its own, which
keeps Ctrl-C from it, and does not outlive the call, nor this process.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

from speechattn.errors import DataError
from speechattn.system.stop_signal import StopSignal
from speechattn.training.cache.jobs import make_handler

MAX_WORKERS = 8
POLL_S = 0.1
WORKER_THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}

Answer = tuple[int, Any]


def choose_workers(wanted: int | Literal["auto"], seconds: float) -> int:
    """Return the number of worker processes for work that takes one of them about `seconds`; 0 is this process.

    A worker needs two seconds to start.
    """
    if wanted != "auto":
        return wanted
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cpus, MAX_WORKERS) if seconds > 15 else 0


def run_jobs(
    kind: str, settings: dict[str, Any], tasks: Sequence[dict[str, Any]], num_workers: int, stop: StopSignal | None
) -> Iterator[Answer]:
    """Yield (index of the task, result) of every task, in the order in which they are done.

    Raises:
        DataError: a task raised it, or a worker process died; the files of its task are named.
        OSError: a task could not write.
        Interrupted: a signal was received.
    """
    poll: Callable[[], object] = (lambda: None) if stop is None else stop.poll
    num_workers = min(num_workers, len(tasks))
    if num_workers == 0:
        handle = make_handler(kind, settings, poll)
        yield from ((index, handle(task)) for index, task in enumerate(tasks))
        return
    pending: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(tasks)):
        pending.put(index)
    answers: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()
    with tempfile.TemporaryFile() as errors:
        workers = [_start(errors) for _ in range(num_workers)]
        first = json.dumps({"kind": kind, "settings": settings})
        threads = [
            threading.Thread(target=_drive, args=(worker, first, tasks, pending, answers), daemon=True)
            for worker in workers
        ]
        try:
            for thread in threads:
                thread.start()
            for _ in tasks:
                yield _next(answers, poll)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
            for thread in threads:
                thread.join()


def _start(errors: IO[bytes]) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "speechattn.training.cache.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={**os.environ, **WORKER_THREADS, "PYTHONPATH": path},
        start_new_session=True,
    )


def _drive(
    worker: subprocess.Popen[bytes],
    first: str,
    tasks: Sequence[dict[str, Any]],
    pending: queue.SimpleQueue[int],
    answers: queue.SimpleQueue[Answer | BaseException],
) -> None:
    """Give tasks to one worker and take its results, in a thread of its own."""
    assert worker.stdin is not None and worker.stdout is not None
    index = 0
    try:
        with worker.stdin, worker.stdout:
            message = first + "\n"
            while True:
                try:
                    index = pending.get_nowait()
                except queue.Empty:
                    worker.wait()  # its input stays open until all work is done
                    return
                worker.stdin.write((message + json.dumps(tasks[index]) + "\n").encode())
                worker.stdin.flush()
                message = ""
                line = worker.stdout.readline()
                if not line.endswith(b"\n"):
                    raise BrokenPipeError
                answers.put(_answer(index, json.loads(line)))
    except (OSError, ValueError):
        answers.put(_death(worker, tasks[index]))


def _answer(index: int, answer: dict[str, Any]) -> Answer | BaseException:
    error = answer.get("error")
    if error is None:
        return index, answer["result"]
    if "errno" in error:
        return OSError(error["errno"], error["text"], error["path"])
    return DataError(error["user"]) if "user" in error else RuntimeError(error["traceback"])


def _death(worker: subprocess.Popen[bytes], task: dict[str, Any]) -> DataError:
    names = task["paths"] if "paths" in task else [row[2] for row in task["utterances"]]
    return DataError(
        f"a worker process ended with status {worker.wait()} while it read {len(names)} recordings, from {names[0]} to "
        f"{names[-1]}: memory may be short. Start again, with --workers 0 to see more."
    )


def _next(answers: queue.SimpleQueue[Answer | BaseException], poll: Callable[[], object]) -> Answer:
    while True:
        poll()
        try:
            answer = answers.get(timeout=POLL_S)
        except queue.Empty:
            continue
        if isinstance(answer, BaseException):
            raise answer
        return answer
