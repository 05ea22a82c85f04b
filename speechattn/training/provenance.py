"""Where a result comes from: command, commit, date and machine, kept in its row of results.json."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import torch

from speechattn.system.machine_info import commit, processor, usable_cores, versions


def provenance(device: str = "cpu") -> dict[str, Any]:
    """Return command, commit, date (UTC), machine, threads and versions of this process, as plain JSON types."""
    found = {
        "command": command(sys.argv),
        "commit": commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": processor(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }
    return {**found, "gpu": torch.cuda.get_device_name()} if device == "cuda" else found


def command(argv: list[str]) -> str:
    """Return a command line to type, from sys.argv.

    Examples:
        >>> command(["/usr/local/bin/speechattn", "train", "--out", "my run"])
        "speechattn train --out 'my run'"
        >>> command(["recipes/frame_classifier/train.py", "--preset", "demo"])
        'python recipes/frame_classifier/train.py --preset demo'
    """
    program, arguments = (argv or [""])[0], argv[1:]
    if program.endswith("__main__.py"):
        start = ["python", "-m", "speechattn"]
    elif program.endswith(".py"):
        start = ["python", program]
    else:
        start = [program.replace("\\", "/").rpartition("/")[2] or "python"]
    return shlex.join([*start, *arguments])


def format_machine(made: Mapping[str, Any]) -> str:
    """Return the machine of a result in one sentence: processor, threads, versions."""
    threads = made.get("threads")
    used = "one thread" if threads == 1 else f"{threads} threads"
    gpu = f"{made['gpu']}; " if made.get("gpu") else ""
    packages = ", ".join(f"{name} {version}" for name, version in (made.get("versions") or {}).items())
    return f"{gpu}{made.get('cpu')}, {used} of {made.get('cores')} cores; {packages}"
