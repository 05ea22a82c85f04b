"""Compare estimated with measured memory and time of random encoders, none of them used for calibration.

    python scripts/check_planner.py
    python scripts/check_planner.py --cases 4 --largest-gb 0.3

Every case is a draw (--seed) of block, positions, context, width, layers, batch, length and precision, half of them in
training, some of these with gradient checkpointing, so large that its plan is between half of --largest-gb and all
of it. Before the first case the machine is calibrated for some seconds, as `speechattn plan --calibrate` does. Each
case has two fresh processes on one thread, which are set up as a user's is: no setting of the C library but the one
that the encoder makes itself. The first finds by how much two calls make the peak of resident memory grow (VmHWM),
weights, their gradients and the input not counted. The second times the call, the least of three, in seconds of the
thread; --memory-only leaves it out.

Printed: planned over measured, of both; what the planner promises is a peak within 10 % in nine of ten cases and never
5 % too low, and times within 30 %. Times are planned for float32 alone. Not here: how memory grows with the length of
audio (profile_memory.py).
"""

from __future__ import annotations

import argparse
import contextlib
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmark_measuring import format_machine, in_fresh_process, machine, write
from tqdm import tqdm

import speechattn as sa
from speechattn.attention.native.attention import native_unavailable
from speechattn.profiling.calibrate import calibrate
from speechattn.system.process_memory import peak_memory_bytes, reset_peak_memory, resident_bytes, trim

INPUT_DIM, WARM_UP, ROUNDS, CALLS = 80, 2000, 3, 2
MOST_FLOPS, SLOW_HALF = 2e11, 10
"""Operations of a call, some seconds of one thread; bfloat16 takes ten times more without instructions for it."""
CLOSE, LOW, NEAR = 0.10, 0.95, 0.30
"""Of the peak, of the peak from below, of the time."""
HEAD = f"\n{'measured MB':>11}{'planned/':>10}{'measured s':>12}{'planned/':>10}  case"


def main() -> None:
    """Measure all cases, and print estimated over measured."""
    options = parse()
    about = machine()
    print(format_machine(about), flush=True)
    rows = []
    print(HEAD, flush=True)
    speed = None if options.memory_only else in_fresh_process(calibrate)
    for case in tqdm(list(cases(options.cases, options.seed, options.largest_gb * 1e9)), leave=False):
        planned = sa.estimate(**case, machine=speed, native=native_unavailable() is None)
        row: dict[str, Any] = {"case": describe(case), "planned_mb": planned.peak_bytes / 1e6}
        row["measured_mb"] = in_fresh_process(memory_of, case) / 1e6
        row["memory"] = row["planned_mb"] / row["measured_mb"]
        if speed is not None and case["dtype"] == "float32":
            row |= {"planned_s": planned.seconds, "measured_s": in_fresh_process(time_of, case)}
            row["time"] = row["planned_s"] / row["measured_s"]
        rows.append(row)
        tqdm.write(line(row))
    print(summary(rows))
    write(rows, about, options.csv, options.json)


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description="Planned against measured memory and time of encoders.")
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--largest-gb", type=float, default=1.5, help="planned peak of the largest case")
    parser.add_argument("--memory-only", action="store_true", help="measure no times")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="and there, with processor, versions and commit")
    options = parser.parse_args()
    if options.cases < 1 or options.largest_gb <= 0:
        parser.error("--cases and --largest-gb must be more than 0.")
    return options


def cases(count: int, seed: int, largest: float) -> Iterator[dict[str, Any]]:
    """Yield arguments of `sa.estimate`: inference and training in turn."""
    draw = random.Random(seed)
    for number in range(count):
        while True:
            case = drawn(draw, training=number % 2 == 1)
            made = sa.estimate(**case)
            slower = SLOW_HALF if case["dtype"] == "bfloat16" else 1
            if 0.5 * largest < made.peak_bytes < largest and slower * made.flops < MOST_FLOPS:
                break
        yield case


def drawn(draw: random.Random, training: bool) -> dict[str, Any]:
    """Return a random case of any size."""
    head, heads = draw.choice([32, 64]), draw.choice([2, 3, 4, 6, 8])
    side = [0, 3, 16, 40, 64, 130, 250]
    context = sa.Context(draw.choice(side), draw.choice(side), draw.choice([1, 1, 1, 8, 24, 64]))
    config = sa.EncoderConfig(
        input_dim=INPUT_DIM,
        d_model=head * heads,
        num_heads=heads,
        num_layers=draw.randint(1, 8),
        d_ff=draw.choice([None, head * heads, 768, 2048]),
        context=context,
        block=draw.choice(["transformer", "transformer", "conformer"]),
        position_encoding=draw.choice(["relative", "relative", "none", "alibi", "rotary", "sinusoidal"]),
        activation=draw.choice(["softmax", "softmax", "softmax", "relu"]),
        dropout=draw.choice([0.0, 0.1]),
        stack=draw.choice([1, 1, 1, 2, 4]),
        conv_kernel=draw.choice([5, 15, 31]),
        gradient_checkpointing=training and draw.random() < 0.4,
    )
    rows = draw.choice([1, 1, 2, 4, 16])
    frames = round(10 ** draw.uniform(2.8, 5.3 if not training else 4.5)) // rows
    dtype = draw.choice(["float32"] * 6 + ["float64", "bfloat16"])
    return {"config": config, "frames": frames, "batch_size": rows, "training": training, "dtype": dtype}


def call_of(case: dict[str, Any]) -> Any:
    """Return a function that makes the estimated call, after a short warm-up call."""
    torch.manual_seed(0)
    dtype, rows, training = getattr(torch, case["dtype"]), case["batch_size"], case["training"]
    encoder = sa.Encoder(case["config"]).to(dtype).train(training)

    def call(x: torch.Tensor) -> object:
        lengths = torch.full((rows,), x.shape[1]) if rows > 1 else None
        with contextlib.nullcontext() if training else torch.no_grad():
            hidden, _ = encoder(x, lengths)
        if training:
            hidden.backward(torch.ones_like(hidden))
        return hidden

    x = torch.randn(rows, case["frames"], INPUT_DIM, dtype=dtype)
    call(x[:, : WARM_UP // rows])
    return lambda: call(x)


def memory_of(case: dict[str, Any]) -> int:
    """Return the peak bytes of CALLS calls, after trimming the heap."""
    call = call_of(case)
    trim()
    reset_peak_memory()
    before = resident_bytes()
    for _ in range(CALLS):
        call()
    return peak_memory_bytes() - before


def time_of(case: dict[str, Any]) -> float:
    """Return the minimum seconds of a call."""
    call, least = call_of(case), float("inf")
    for _ in range(ROUNDS):
        started = time.thread_time()
        call()
        least = min(least, time.thread_time() - started)
    return least


def describe(case: dict[str, Any]) -> str:
    """Return a case as one line."""
    config = case["config"]
    mode = "training" if case["training"] else "inference"
    mode += ", checkpointed" if config.gradient_checkpointing else ""
    parts = [
        f"{config.num_layers} x {config.d_model} {config.block}, {config.position_encoding}, {config.activation}",
        f"{config.layer_contexts[0]}, d_ff {config.feed_forward_dim}, dropout {config.dropout:g}",
        f"stack {config.stack}, {case['batch_size']} x {case['frames']} {case['dtype']}",
        mode,
    ]
    return "; ".join(parts)


def line(row: dict[str, Any]) -> str:
    """Return the numbers of a case as one line."""
    timed = f"{row['measured_s']:12.3f}{row['time']:10.2f}" if "time" in row else " " * 22
    return f"{row['measured_mb']:11.1f}{row['memory']:10.3f}{timed}  {row['case']}"


def summary(rows: list[dict[str, Any]]) -> str:
    """Return how many cases are within the limits."""
    memory, times = [row["memory"] for row in rows], [row["time"] for row in rows if "time" in row]
    close = sum(abs(ratio - 1) <= CLOSE for ratio in memory)
    near = sum(abs(ratio - 1) <= NEAR for ratio in times)
    low = sum(ratio < LOW for ratio in memory)
    lines = ["", f"peak memory: {close} of {len(memory)} within {CLOSE:.0%}, {low} more than {1 - LOW:.0%} too low"]
    lines.append(f"from {min(memory):.3f} to {max(memory):.3f} of what was measured")
    if times:
        lines.append(f"time: {near} of {len(times)} within {NEAR:.0%}, from {min(times):.2f} to {max(times):.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
