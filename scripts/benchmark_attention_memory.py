"""How much memory and time truncated attention takes as the sequence grows, and how straight that line is.

    python scripts/benchmark_attention_memory.py
    python scripts/benchmark_attention_memory.py --frames 8192 65536 --left 128 --right 0 --json memory.json

Measured: `speechattn.attention` with execution="banded" on q, k and v [1, 4, T, 64] in float32 (d_model 256, strided
as a model's projections are), on one thread of the CPU. "forward" is without gradients; "forward + backward" gives the
gradients of q, k and v for a gradient of the output that exists beforehand.

How: each point has a fresh process, which warms up on 256 frames and makes its inputs. By how much its peak resident
memory (VmHWM of Linux, reset at that moment) then grows during one pass is the extra memory, the output included (1 KB
a frame, and 3 more for the gradients, which no implementation can save). ms is the median of that pass and two more.
1 MB is 10^6 bytes, 1 KB 1000. The slope is that of the least-squares line through memory over frames, the deviation
how far a point is from that line, in percent of the line. The kernel counts pages roughly, so lengths below some
thousand frames scatter; memory that grew with the square of T would be more than 100 % away. Not here: speed against
other implementations.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

from tqdm import tqdm

import speechattn as sa

HEADS, HEAD_DIM = 4, 64
WARM_UP_FRAMES = 256
PASSES = ("forward", "forward + backward")


def main() -> None:
    options = parse()
    context: sa.Context = options.context
    if options.point:
        print(json.dumps(measure(context, options.frames[0], backward=options.point == PASSES[1])))
        return
    frames = sorted(set(options.frames))
    todo = [(name, count) for name in PASSES for count in frames]
    points: dict[str, list[dict[str, Any]]] = {name: [] for name in PASSES}
    for name, count in tqdm(todo, unit="point"):
        points[name].append(in_fresh_process(context, count, name))
    lines = {name: fit_line(points[name]) for name in PASSES}
    print(f"banded attention, {context}, d_model {HEADS * HEAD_DIM} ({HEADS} heads of {HEAD_DIM}), float32, 1 thread")
    print(table(points, lines))
    if options.json:
        setting = {"left": options.left, "right": options.right, "chunk": options.chunk}
        passes = {name: {"points": points[name], **lines[name]} for name in PASSES}
        options.json.write_text(
            json.dumps({**setting, "heads": HEADS, "head_dim": HEAD_DIM, "passes": passes}, indent=2)
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Memory and time of banded attention over growing sequences.")
    parser.add_argument("--frames", type=int, nargs="+", default=[8192, 16384, 32768, 65536], metavar="T")
    parser.add_argument("--left", type=int, default=64, help="frames before the chunk that a frame sees")
    parser.add_argument("--right", type=int, default=64, help="frames after the chunk that a frame sees")
    parser.add_argument("--chunk", type=int, default=1, help="frames that share one view")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there as well")
    parser.add_argument("--point", choices=PASSES, help=argparse.SUPPRESS)  # measure one point in this process
    options = parser.parse_args()
    if min(options.frames) < 1 or (not options.point and len(set(options.frames)) < 2):
        parser.error(f"--frames needs two or more different lengths from 1 up, to see a line, got {options.frames}.")
    try:
        options.context = sa.Context(options.left, options.right, options.chunk)
    except ValueError as error:
        parser.error(str(error))
    return options


def in_fresh_process(context: sa.Context, frames: int, name: str) -> dict[str, Any]:
    """What `measure` returns, from a process that has measured nothing else."""
    sides = [f"--left={context.left}", f"--right={context.right}", f"--chunk={context.chunk}"]
    command = [sys.executable, __file__, f"--frames={frames}", *sides, f"--point={name}"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        sys.exit(f"{name} of {frames} frames ended with status {ran.returncode}; what it said is above.")
    return json.loads(ran.stdout)


def measure(context: sa.Context, frames: int, backward: bool) -> dict[str, Any]:
    """Milliseconds and extra bytes of one pass over `frames` frames, in this process."""
    import torch

    from speechattn.profiling import peak_memory_bytes, reset_peak_memory

    torch.set_num_threads(1)
    torch.manual_seed(0)

    def inputs(count: int) -> list[torch.Tensor]:
        made = [torch.randn(1, count, HEADS, HEAD_DIM).transpose(1, 2) for _ in range(4)]
        return [tensor.requires_grad_(backward) for tensor in made[:3]] + made[3:]

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, gradient: torch.Tensor) -> Any:
        with torch.set_grad_enabled(backward):
            output = sa.attention(q, k, v, context, execution="banded")
        return (output, torch.autograd.grad(output, (q, k, v), gradient)) if backward else output

    def milliseconds() -> float:
        started = time.perf_counter()
        run(*given)
        return 1000 * (time.perf_counter() - started)

    run(*inputs(WARM_UP_FRAMES))  # what is allocated once and for all: libraries, thread pools
    given = inputs(frames)
    reset_peak_memory()
    before = peak_memory_bytes()
    first = milliseconds()
    extra = peak_memory_bytes() - before
    return {"frames": frames, "ms": median([first, milliseconds(), milliseconds()]), "extra_bytes": extra}


def fit_line(points: list[dict[str, Any]]) -> dict[str, float]:
    """Slope in KB a frame of the line through the points, and the largest deviation from it in percent."""
    frames, extra = [point["frames"] for point in points], [point["extra_bytes"] for point in points]
    slope, start = linear_regression(frames, extra)
    on_line = [slope * count + start for count in frames]
    deviations = [
        100 * abs(size - line) / abs(line) if line else 0.0 for size, line in zip(extra, on_line, strict=True)
    ]
    return {"slope_kb_per_frame": slope / 1e3, "largest_deviation_percent": max(deviations)}


def table(points: dict[str, list[dict[str, Any]]], lines: dict[str, dict[str, float]]) -> str:
    """The measurements, and below them what the line through each column of MB says."""
    rows = [f"{'':8}" + "".join(f"  |{name:>28}" for name in PASSES)]
    rows.append(f"{'frames':>8}" + f"  |{'ms':>8}{'extra MB':>10}{'KB/frame':>10}" * len(PASSES))
    for of_one_length in zip(*points.values(), strict=True):
        row = f"{of_one_length[0]['frames']:8}"
        for point in of_one_length:
            extra = point["extra_bytes"]
            row += f"  |{point['ms']:8.1f}{extra / 1e6:10.2f}{extra / 1e3 / point['frames']:10.2f}"
        rows.append(row)
    for name, line in lines.items():
        slope, deviation = line["slope_kb_per_frame"], line["largest_deviation_percent"]
        rows.append(f"{name}: slope {slope:.3f} KB/frame, largest deviation from the line {deviation:.2f} %")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
