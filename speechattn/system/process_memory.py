"""Memory of this process and of the machine, and how the C library returns freed memory. Standard library only.

Resident memory is what Linux counts (VmHWM): the pages that were touched, by any library. Memory of torch's tensors
alone: profiling/tensor_memory.py.
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
    """Reset `peak_memory_bytes` to the current size, where the kernel allows it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int:
    """Return the peak resident size of this process in bytes, since `reset_peak_memory` or its start."""
    found = _kilobytes("/proc/self/status", "VmHWM:")
    if found is not None:
        return found
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident_bytes() -> int:
    """Return the resident size of this process in bytes; 0 where the system does not report it."""
    return _kilobytes("/proc/self/status", "VmRSS:") or 0


def return_blocks(min_bytes: int) -> None:
    """Make the C library return freed blocks of `min_bytes` and more to the system, from now on in this process.

    glibc keeps freed blocks of up to 32 MB in its heap. torch's blocks are aligned, and an aligned request does not fit
    into a hole of its own size, so that a training that repeats the same sizes leaves holes: 1.3 to 3.6 times the
    memory that is in use. Costs time: fresh pages. A smaller size that was set before stays, and so does what the
    environment sets; SPEECHATTN_MALLOC=0 turns it off. Nothing happens with another C library.
    """
    if keeps_blocks(min_bytes):
        _set_threshold(min_bytes)


def keeps_blocks(min_bytes: int) -> bool:
    """Return whether `return_blocks` would change anything."""
    if min_bytes >= _returned_from or os.environ.get(SWITCH) == "0":
        return False
    chosen = "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", "")
    return not chosen


def return_memory() -> None:
    """Make the C library return every freed block of 100 KB and more at once, from now on; call it first in a process.

    Otherwise memory that it keeps for later counts in some runs and not in others. Costs time: fresh pages.
    """
    _set_threshold(MEASURED_BLOCK)


def trim() -> None:
    """Return freed memory from the C library to the system once; its settings stay."""
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _set_threshold(min_bytes: int) -> None:
    global _returned_from
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        library = ctypes.CDLL(None)
        library.mallopt(MMAP_THRESHOLD, min_bytes)
        # As glibc does itself; with the 128 KB it begins with, a block at the end of the heap costs fresh pages.
        library.mallopt(TRIM_THRESHOLD, 2 * min_bytes)
    _returned_from = min_bytes
    trim()


def extra_bytes(run: Callable[[], object]) -> int:
    """Return the growth of peak memory of this process by `run`, its result included, after `return_memory`."""
    return with_extra_bytes(run)[1]


def with_extra_bytes(run: Callable[[], ResultT]) -> tuple[ResultT, int]:
    """Return the result of `run`, and its `extra_bytes`."""
    return_memory()  # memory freed before would hide part of the growth
    reset_peak_memory()
    before = peak_memory_bytes()
    result = run()
    return result, peak_memory_bytes() - before


def data_bytes() -> int:
    """Return what RLIMIT_DATA counts now: private writable memory of this process, touched or not."""
    return _kilobytes("/proc/self/status", "VmData:") or 0


def machine_bytes() -> int | None:
    """Return the memory of the machine, or of the container if less; None where the system does not report it."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limit = _cgroup_bytes("memory.max")
    return total if limit is None else min(total, limit)


def available_bytes() -> int | None:
    """Return the free memory, reclaimable caches included; None where the system does not report it."""
    free = _kilobytes("/proc/meminfo", "MemAvailable:")
    limit, used = _cgroup_bytes("memory.max"), _cgroup_bytes("memory.current")
    if free is None or limit is None or used is None:
        return free
    return min(free, max(0, limit - used))


def _cgroup_bytes(name: str) -> int | None:
    """Return a number of the control group, if there is one with a limit."""
    with contextlib.suppress(OSError, ValueError):
        return int(Path("/sys/fs/cgroup", name).read_text())
    return None


def _kilobytes(path: str, key: str) -> int | None:
    """Return a line of a file of /proc, `VmHWM:   123 kB`, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return None
