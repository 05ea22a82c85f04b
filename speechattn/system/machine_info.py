"""Which machine, which versions, which commit: what a reader of numbers asks first. Standard library only."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

PACKAGES = ("torch", "torchaudio", "numba")


def processor() -> str:
    """The processor's name as its maker writes it, where the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Processors this process may run on: fewer than there are, under a container's or a job's limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Version by package, of those that are installed; python first."""
    found = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def commit() -> str:
    """The commit of the tree this file lies in, "+" behind it if files have changed since, or "unknown"."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"]
    with contextlib.suppress(OSError):
        ran = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
        return ran.stdout.strip() or "unknown"
    return "unknown"
