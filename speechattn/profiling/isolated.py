"""Run a function in its own process with limits of time and memory; return its result, or the reason of its failure.

The process is forked from one that has imported everything and computed nothing (Python's forkserver), which takes a
fraction of a second. Timeouts, exceeded memory and kills are answers. The parent is safe: the memory limit is the
kernel's (RLIMIT_DATA, on Linux), and if the machine runs out of memory first, the kernel kills the child. A child
whose parent is gone ends too.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

EXIT_S = 10.0
"""Seconds for a process to end after its answer."""
RAN_OUT = ("allocate memory", "out of memory", "bad_alloc", "could not create a primitive", "start new thread")
"""Parts of the messages of torch, CUDA, C++, oneDNN and Python without memory for a tensor, a kernel or a stack."""
OUT_OF_MEMORY, TIMEOUT, KILLED, CANNOT = "out of memory", "timeout", "killed", "cannot"
Answer = tuple[Any, str, str]
"""(value, "", ""), or (None, kind of failure, its text)."""


class CannotRunError(Exception):
    """Error of a case that cannot run here.

    `kind` is "cannot", "timeout", "out of memory" or "killed"; `detail` is the original message.
    """

    def __init__(self, reason: str, kind: str = CANNOT, detail: str = "") -> None:
        super().__init__(reason)
        self.kind, self.detail = kind, detail


def in_fresh_process(
    function: Callable[..., Any],
    *arguments: Any,
    seconds: float | None = None,
    max_bytes: int | None = None,
    threads: int = 1,
    preload: Sequence[str] = (),
) -> Any:
    """Return function(*arguments), called in a fresh process on so many threads of torch.

    `max_bytes` limits the whole process, the interpreter included; `preload` are modules that the first call imports
    for all later ones.

    Raises:
        CannotRunError: it took longer than `seconds`, needed more than `max_bytes`, or raised CannotRunError.
        RuntimeError: it raised something else.
    """
    context = multiprocessing.get_context("forkserver")
    # Also the main program: otherwise every process would read it again, perhaps changed by then.
    context.set_forkserver_preload(["__main__", "torch", *preload])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(theirs, function, arguments, max_bytes, threads), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            raise CannotRunError(f"takes longer than {seconds:g} s", TIMEOUT)
        value, kind, text = ours.recv()
        process.join(EXIT_S)
    except EOFError:
        process.join()
        ended = f"its process ended with {process.exitcode}, as when memory runs out"
        raise CannotRunError(ended, KILLED) from None
    finally:
        process.kill()
        process.join()
        ours.close()
    if kind == OUT_OF_MEMORY:
        limit = "this machine has" if max_bytes is None else f"{max_bytes / 1e9:.1f} GB"
        raise CannotRunError(f"needs more memory than {limit}", kind, text)
    if kind == CANNOT:
        raise CannotRunError(text)
    if kind:
        raise RuntimeError(text)
    return value


def _work(
    connection: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    max_bytes: int | None,
    threads: int,
) -> None:
    """Run in the child: send one Answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if max_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (max_bytes, max_bytes))
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")
    answer = _answer(function, arguments)
    connection.send(answer)


def _answer(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Answer:
    try:
        return function(*arguments), "", ""
    except CannotRunError as error:
        return None, CANNOT, str(error)
    except Exception as error:
        ran_out = isinstance(error, MemoryError) or any(part in str(error) for part in RAN_OUT)
        return None, OUT_OF_MEMORY if ran_out else "error", f"{type(error).__name__}: {error}"


def _end_with_parent() -> None:
    """End this process when its parent has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
