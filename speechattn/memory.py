"""How much memory this process has touched, what it could, and what the machine has. Standard library only.

Resident memory is what Linux counts (VmHWM): the pages that were really touched, whoever asked for them. What torch's
tensors alone take is tensors.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

ResultT = TypeVar("ResultT")

MMAP_THRESHOLD, MMAP_BYTES = -3, 100_000
"""M_MMAP_THRESHOLD of malloc.h, and what `return_memory` sets it to."""


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


def return_memory() -> None:
    """Make the C library give back every block of 100 KB and more at once, from now on; for a fresh process, first.

    Otherwise what it keeps for later counts, or does not count, as luck will have it. Costs time: fresh pages.
    """
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, MMAP_BYTES)
        library.malloc_trim(0)


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
