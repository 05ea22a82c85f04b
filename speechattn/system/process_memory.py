"""How much memory this process has touched, what it could, and what the machine has. Standard library only.

Resident memory is what Linux counts (VmHWM): the pages that were really touched, whoever asked for them. What torch's
tensors alone take is profiling/tensor_memory.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ResultT = TypeVar("ResultT")

SWITCH = "SPEECHATTN_MALLOC"
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h."""
MEASURED_BLOCK = 100_000
"""Bytes of a block that goes back at once where memory is measured, however small it is."""
TRAINING_BLOCK = 500_000
"""And where an encoder is trained: smaller ones are a few percent of what a step keeps, and fresh pages cost time."""
LARGE_TRAINING = 400_000_000
"""Planned bytes from which a training returns blocks. The steps of a smaller one would be slower by up to a half, for
fresh pages, to save some hundred MB."""
INFERENCE_BLOCK = 9_000_000
"""And without gradients, where few tensors are alive. The inside of a feed-forward layer of 2048, a thousand frames of
float32 at a time, is less, and stays in the cache; planning/memory.py counts what the heap keeps of such blocks."""

_returned_from = math.inf
"""The block size that is set now."""


def reset_peak_memory() -> None:
    """Start a new measurement of `peak_memory_bytes` where the kernel allows it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int:
    """The largest resident size of this process, in bytes, since `reset_peak_memory` (or since its start)."""
    found = _kilobytes("/proc/self/status", "VmHWM:")
    if found is not None:
        return found
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_bytes() -> int:
    """What of this process is in memory now, in bytes; 0 where the system does not tell."""
    return _kilobytes("/proc/self/status", "VmRSS:") or 0


def return_blocks(least_bytes: int) -> None:
    """Make the C library give freed blocks of `least_bytes` and more back to the system, from now on in this process.

    glibc keeps freed blocks of up to 32 MB in its heap. torch's blocks are aligned, and an aligned request does not fit
    into a hole of its own size, so that a training that repeats the same sizes leaves holes: 1.3 to 3.6 times the
    memory that is in use. Costs time: fresh pages. A smaller size that was set before stays, and so does what the
    environment sets; SPEECHATTN_MALLOC=0 turns it off. Nothing happens with another C library.
    """
    if keeps_blocks(least_bytes):
        _set_threshold(least_bytes)


def keeps_blocks(least_bytes: int) -> bool:
    """Return whether `return_blocks` would change anything."""
    if least_bytes >= _returned_from or os.environ.get(SWITCH) == "0":
        return False
    chosen = "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", "")
    return not chosen


def return_memory() -> None:
    """Make the C library give back every block of 100 KB and more at once, from now on; for a fresh process, first.

    Otherwise what it keeps for later counts, or does not count, as luck will have it. Costs time: fresh pages.
    """
    _set_threshold(MEASURED_BLOCK)


def trim() -> None:
    """Give back to the system what the C library holds of freed memory; its settings stay."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _set_threshold(least_bytes: int) -> None:
    global _returned_from
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, least_bytes)
        # As glibc does itself; with the 128 KB it begins with, a block at the end of the heap costs fresh pages.
        library.mallopt(TRIM_THRESHOLD, 2 * least_bytes)
    _returned_from = least_bytes
    trim()


def extra_bytes(run: Callable[[], object]) -> int:
    """By how much `run` makes the peak memory of this process grow, its result included, after `return_memory`."""
    return with_extra_bytes(run)[1]


def with_extra_bytes(run: Callable[[], ResultT]) -> tuple[ResultT, int]:
    """What `run` returns, and `extra_bytes` of it."""
    return_memory()  # what was freed before is no longer resident, and does not hide what comes
    reset_peak_memory()
    before = peak_memory_bytes()
    result = run()
    return result, peak_memory_bytes() - before


def data_bytes() -> int:
    """What a ceiling (RLIMIT_DATA) counts now: memory of this process alone that it may write, touched or not."""
    return _kilobytes("/proc/self/status", "VmData:") or 0


def machine_bytes() -> int | None:
    """Memory of the machine, or of the container if that is less; None where the system does not tell."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit = _container("memory.max")
    return total if limit is None else min(total, limit)


def available_bytes() -> int | None:
    """What of it is free now, caches that the system would give up included; None where the system does not tell."""
    free = _kilobytes("/proc/meminfo", "MemAvailable:")
    limit, used = _container("memory.max"), _container("memory.current")
    if free is None or limit is None or used is None:
        return free
    return min(free, max(0, limit - used))


def _container(name: str) -> int | None:
    """A number of the control group, if there is one and it has a limit."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/sys/fs/cgroup", name).read_text())
    return None


def _kilobytes(path: str, key: str) -> int | None:
    """A line of a file of /proc, `VmHWM:   123 kB`, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return None
