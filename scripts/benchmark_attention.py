"""How fast truncated attention is, beside the fastest that this processor multiplies matrices.

    python scripts/benchmark_attention.py
    python scripts/benchmark_attention.py --frames 4096 16384 65536 --rounds 15 --csv attention.csv

Measured: `speechattn.attention` by each execution on q, k and v [1, 4, T, 64] in float32, strided views of one packed
projection [1, T, 3, 4, 64] as a model's are, on one thread of the CPU; forward without gradients, and forward +
backward with the gradients of q, k and v for a gradient of the output that exists beforehand.

How: every round runs every job once, so that what disturbs the machine disturbs all; a job's time is its least over
the rounds. It is the time the thread was on the processor, not the time that passed, because machines are shared. One
of the jobs is a product of two 512 x 512 matrices. `x` is the job's time over what its products alone would take at
that product's speed: 4 * D * H multiplications and additions for every query and key that it sees, 12 with backward.
`error` is the largest difference from banded attention in float64, of output and gradients, over the largest value.
`KB/frame` is by how much a fresh process's peak memory grows in one pass, the output included (1 KB = 1000 bytes a
frame is one tensor of 4 heads of 64 features, but for 24 bytes). Not here yet: other implementations.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import speechattn as sa

HEADS, HEAD_DIM = 4, 64
CONTEXTS = {
    "64,64": sa.Context.truncated(64, 64),
    "128,0": sa.Context.truncated(128, 0),
    "chunk 64,128,32": sa.Context.chunked(64, 128, 32),
    "16,16": sa.Context.truncated(16, 16),
}
PASSES = ("forward", "forward+backward")
EXECUTIONS = ("banded", "native")
MATRIX = 512
LONGEST_CHECK = 16384
"""Frames up to which errors are measured: float64 takes twice the memory."""
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if options.memory:
        print(extra_bytes(*options.memory[:3], int(options.memory[3])))
        return
    rows: list[dict[str, Any]] = []
    head = f"{'T':>8} {'context':16}{'pass':18}{'by':8}{'ms':>10}{'x':>7}{'error':>10}{'KB/frame':>10}{'GFLOP/s':>10}"
    for frames in options.frames:
        found = measure(frames, options)
        print("\n".join([head, *map(line, found)]), flush=True)
        rows += found
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    if options.json:
        about = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=2))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time and memory of truncated attention on one thread.")
    parser.add_argument("--frames", type=int, nargs="+", default=[4096], metavar="T")
    parser.add_argument("--contexts", nargs="+", choices=CONTEXTS, default=list(CONTEXTS))
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=list(PASSES))
    parser.add_argument("--executions", nargs="+", choices=EXECUTIONS, default=list(EXECUTIONS))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--no-memory", action="store_true", help="leave out KB/frame, which takes a process for each row"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="and there, with versions")
    parser.add_argument("--memory", nargs=4, help=argparse.SUPPRESS)  # measure one row's memory in this process
    return parser.parse_args()


def line(row: dict[str, Any]) -> str:
    cells = f"{row['frames']:8} {row['context']:16}{row['pass']:18}{row['execution']:8}{row['ms']:10.2f}{row['x']:7.2f}"
    error = "" if row["error"] is None else f"{row['error']:.1e}"
    memory = "" if row["kb_per_frame"] is None else f"{row['kb_per_frame']:.2f}"
    return f"{cells}{error:>10}{memory:>10}{row['gemm_gflops']:10.0f}"


def measure(frames: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each context, pass and execution."""
    given = inputs(frames)
    square = torch.randn(MATRIX, MATRIX)
    keys = [(c, p, e) for c in options.contexts for p in options.passes for e in options.executions]
    jobs: dict[Any, Callable[[], object]] = {key: job(*key, given) for key in keys}
    jobs["gemm"] = lambda: square @ square
    least = dict.fromkeys(jobs, float("inf"))
    for _ in tqdm(range(options.rounds), desc=f"T = {frames}", leave=False):
        for key, run in jobs.items():
            started = time.thread_time()
            run()
            least[key] = min(least[key], time.thread_time() - started)
    gemm = 2 * MATRIX**3 / least["gemm"]
    rows = []
    for key in keys:
        context, name, execution = key
        floor = (4 if name == "forward" else 12) * HEAD_DIM * HEADS * visible_pairs(CONTEXTS[context], frames) / gemm
        row = {"frames": frames, "context": context, "pass": name, "execution": execution, "ms": 1000 * least[key]}
        row |= {"x": least[key] / floor, "error": error(jobs[key], *key, given) if frames <= LONGEST_CHECK else None}
        row |= {"kb_per_frame": None if options.no_memory else memory(*key, frames), "gemm_gflops": gemm / 1e9}
        rows.append(row)
    return rows


def inputs(frames: int, dtype: torch.dtype = torch.float32) -> Inputs:
    """q, k, v as views of one packed tensor, and a gradient of the output, all [1, H, T, D]."""
    q, k, v = torch.randn(1, frames, 3, HEADS, HEAD_DIM, dtype=dtype).permute(2, 0, 3, 1, 4)
    return q, k, v, torch.randn(1, frames, HEADS, HEAD_DIM, dtype=dtype).transpose(1, 2)


def job(context: str, name: str, execution: str, given: Inputs) -> Callable[[], tuple[Tensor, ...]]:
    """One pass as a function of nothing that returns the output, and with backward the gradients."""
    *qkv, grad = given

    def forward() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (sa.attention(*qkv, CONTEXTS[context], execution=execution),)

    def backward() -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in qkv]
        output = sa.attention(*leaves, CONTEXTS[context], execution=execution)
        return output.detach(), *torch.autograd.grad(output, leaves, grad)

    return forward if name == "forward" else backward


def visible_pairs(context: sa.Context, frames: int) -> int:
    """Pairs of a query and a key that it sees."""
    start, stop = context.span(torch.arange(frames))
    start = torch.zeros(frames) if start is None else start.clamp(min=0)
    stop = torch.full((frames,), frames) if stop is None else stop.clamp(max=frames)
    return int((stop - start).sum())


def error(run: Callable[[], tuple[Tensor, ...]], context: str, name: str, execution: str, given: Inputs) -> float:
    """Largest difference from float64 over the largest value."""
    q, k, v, grad = (x.double() for x in given)
    expected = job(context, name, "banded", (q, k, v, grad))()
    return max(float((x - y).abs().max() / y.abs().max()) for x, y in zip(run(), expected, strict=True))


def memory(context: str, name: str, execution: str, frames: int) -> float | None:
    """KB a frame from a process that has measured nothing else."""
    command = [sys.executable, __file__, "--memory", context, name, execution, str(frames)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return int(ran.stdout) / 1000 / frames if ran.returncode == 0 else None


def extra_bytes(context: str, name: str, execution: str, frames: int) -> int:
    """By how much one pass makes the peak memory of this process grow."""
    from speechattn.profiling import peak_memory_bytes, reset_peak_memory

    job(context, name, execution, inputs(512))()  # what is allocated once and for all, and compiled
    run = job(context, name, execution, inputs(frames))
    reset_peak_memory()
    before = peak_memory_bytes()
    run()
    return peak_memory_bytes() - before


if __name__ == "__main__":
    main()
