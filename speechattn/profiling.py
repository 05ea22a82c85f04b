"""How much memory this process has touched."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path


def reset_peak_memory() -> None:
    """Start a new measurement of `peak_memory_bytes` where the kernel allows it (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int:
    """The largest resident size of this process, in bytes, since `reset_peak_memory` (or since its start)."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
