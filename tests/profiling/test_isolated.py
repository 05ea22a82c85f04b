"""A function in a process of its own: what it returns, how it fails, and that nothing of it is left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from speechattn.profiling.isolated import CannotRunError, in_fresh_process
from speechattn.system.process_memory import available_bytes, data_bytes, extra_bytes, machine_bytes, return_memory

MB = 10**6
OWN_PAGES_BYTES = 30 * MB
"""What Python itself touches beside what it was asked to, and what Linux counts late: some pages for each processor."""


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuses() -> None:
    raise CannotRunError("it needs something that is not there")


def holds(size: int) -> np.ndarray[Any, Any]:
    return np.ones(size, np.uint8)


def grown(size: int) -> tuple[int, int]:
    """By how much the peak grows when so many bytes are held, after twice as many were given back."""
    return_memory()
    holds(2 * size)
    return extra_bytes(lambda: holds(size)), extra_bytes(lambda: None)


def failure(function: Callable[..., Any], *arguments: Any, **limits: Any) -> CannotRunError:
    with pytest.raises(CannotRunError) as caught:
        in_fresh_process(function, *arguments, **limits)
    return caught.value


def test_every_end_is_an_answer() -> None:
    assert in_fresh_process(max, 3, 4) == 4 and in_fresh_process(os.getpid) != os.getpid()
    error = failure(time.sleep, 60, seconds=0.3)
    assert (error.kind, str(error)) == ("timeout", "takes longer than 0.3 s")
    error = failure(killed)
    assert error.kind == "killed" and "ended with -9" in str(error)
    error = failure(refuses)
    assert (error.kind, str(error)) == ("cannot", "it needs something that is not there")
    with pytest.raises(RuntimeError, match="ValueError: sleep"):
        in_fresh_process(time.sleep, -1)


def test_a_ceiling_is_of_the_whole_process() -> None:
    own = in_fresh_process(data_bytes)
    assert own > 50 * MB
    assert in_fresh_process(len, holds(8), max_bytes=own + 300 * MB) == 8
    error = failure(holds, 500 * MB, max_bytes=own + 300 * MB)
    assert error.kind == "out of memory" and "MemoryError" in error.detail
    assert in_fresh_process(os.getpid) > 0, "and the next one has no ceiling"


def test_extra_memory_is_what_was_held() -> None:
    held, nothing = in_fresh_process(grown, 200 * MB)
    assert abs(held - 200 * MB) < OWN_PAGES_BYTES, "what was given back before does not hide it"
    assert 0 <= nothing < OWN_PAGES_BYTES


def test_the_machine_has_more_than_is_free() -> None:
    free, whole = available_bytes(), machine_bytes()
    assert free is not None and whole is not None and 0 < free <= whole
