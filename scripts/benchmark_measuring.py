"""Measuring for the benchmarks: interleaved rounds, fresh processes, a calibrating matrix product, the machine.

Time: every round runs every job once, so that disturbances affect all jobs, and a job's time is its minimum over the
rounds. On one thread it is CPU time, because machines are shared; on more it is elapsed time. Beside every measurement
a product of two 512 x 512 matrices is timed, the calibration.

Memory: growth of the peak resident size (VmHWM of Linux) of a fresh process, by speechattn.system.process_memory. The
process is forked from one that has imported everything and computed nothing, by speechattn.profiling.isolated.
1 KB is 1000 bytes.
"""

from __future__ import annotations

import csv
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from speechattn.profiling import isolated as processes
from speechattn.profiling.isolated import CannotRunError
from speechattn.system.machine_info import commit, processor, versions
from speechattn.system.process_memory import extra_bytes, return_memory

__all__ = ["CannotRunError", "extra_bytes", "return_memory"]

MATRIX = 512
SHORTEST_S = 0.005
"""A faster call is repeated until it takes so long, for the resolution of the clock."""
MOST_CALLS = 100
HEAVY_IMPORTS = ("local_attention", "transformers.models.longformer.modeling_longformer", "librosa")
"""Modules that fresh processes inherit if they are imported here."""
PACKAGES = ("torch", "torchaudio", "numba", "local-attention", "transformers", "librosa")


@dataclass
class Timing:
    """Measurement of one job on one number of threads."""

    seconds: float = math.inf
    """Minimum time of a call."""
    runs: int = 0
    spent: float = 0.0
    calls: int = 1
    """Calls per measurement."""
    gemm: float = 0.0
    """Multiplications and additions per second of the fastest calibration beside this job."""


def time_jobs(
    jobs: Mapping[Hashable, Callable[[], object]],
    threads: Sequence[int] = (1,),
    rounds: int = 10,
    seconds: float = 5.0,
    title: str = "",
    alone: Container[Hashable] = (),
) -> dict[tuple[Any, int], Timing]:
    """Return a Timing for each job and number of threads; a job ends after `seconds`, but not before its second round.

    A job that took longer than `seconds` at once is measured once. Jobs in `alone` run on one thread only.
    """
    square = torch.randn(MATRIX, MATRIX)
    timings = {(key, count): Timing() for count in threads for key in jobs if count == 1 or key not in alone}
    with tqdm(total=rounds * len(timings), desc=title, leave=False, mininterval=1) as bar:
        for _ in range(rounds):
            for (key, count), timing in timings.items():
                bar.update()
                if timing.spent > seconds and (timing.runs > 1 or timing.seconds > seconds):
                    continue
                torch.set_num_threads(count)
                clock = time.thread_time if count == 1 else time.perf_counter
                timing.gemm = max(timing.gemm, 2 * MATRIX**3 / elapsed(lambda: square @ square, clock))
                taken = elapsed(jobs[key], clock, timing.calls)
                timing.spent += taken
                timing.runs += 1
                timing.seconds = min(timing.seconds, taken / timing.calls)
                timing.calls = max(1, min(MOST_CALLS, round(SHORTEST_S / timing.seconds)))
    torch.set_num_threads(1)
    return timings


def elapsed(run: Callable[[], object], clock: Callable[[], float] = time.thread_time, calls: int = 1) -> float:
    """Return the seconds of `calls` calls."""
    started = clock()
    for _ in range(calls):
        run()
    return max(clock() - started, 1e-9)


def gemm_speed(clock: Callable[[], float] = time.thread_time) -> float:
    """Return multiplications and additions per second of the calibration, the fastest of ten."""
    square = torch.randn(MATRIX, MATRIX)
    return 2 * MATRIX**3 / min(elapsed(lambda: square @ square, clock) for _ in range(10))


def in_fresh_process(
    function: Callable[..., Any], *arguments: Any, seconds: float | None = None, max_bytes: int | None = None
) -> Any:
    """Call `function` in a fresh process on one thread, with the modules that this process has imported."""
    preload = [name for name in HEAVY_IMPORTS if name in sys.modules]
    return processes.in_fresh_process(function, *arguments, seconds=seconds, max_bytes=max_bytes, preload=preload)


def machine() -> dict[str, Any]:
    """Return processor, cores, versions and commit, to be stored with the numbers."""
    found = {"cpu": processor(), "cores": os.cpu_count(), "vectors": torch.backends.cpu.get_cpu_capability()}
    return found | {"system": platform.system(), "commit": commit()} | versions(PACKAGES)


def format_machine(about: Mapping[str, Any]) -> str:
    """Return `machine()` in two lines."""
    versions = ", ".join(f"{name} {about[name]}" for name in ("python", *PACKAGES) if name in about)
    return f"{about['cpu']}, {about['cores']} cores, {about['vectors']}; commit {about['commit']}\n{versions}"


def write(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any], table: Path | None, data: Path | None) -> None:
    """Write the rows as CSV to `table`, and with the machine as JSON to `data`."""
    for path in (table, data):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
    if table:
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)))
            writer.writeheader()
            writer.writerows(rows)
    if data:
        data.write_text(json.dumps({"machine": dict(about), "rows": list(rows)}, indent=2) + "\n")
