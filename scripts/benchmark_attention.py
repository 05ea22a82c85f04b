"""How fast truncated attention is, beside other implementations and the fastest that this processor multiplies.

    python scripts/benchmark_attention.py --peers
    python scripts/benchmark_attention.py --frames 4096 16384 65536 1048576 --peers --threads 1 2 --plot attention.png
    python scripts/benchmark_attention.py --frames 64 128 256 512 --backends auto --peers sdpa-mask

Measured: `speechattn.attention` by each backend on q, k and v [1, 4, T, 64] in float32, strided views of one packed
projection [1, T, 3, 4, 64] as a model's are; and with --peers those of benchmark_peers.py, on contiguous copies made
beforehand. forward is without gradients; forward+backward gives those of q, k and v for a gradient of the output that
exists beforehand. `--peers` alone is all of them but flex, which compiles anew for every length.

How: interleaved rounds and fresh processes, see benchmark_measuring.py. With two threads ms is the time that passed,
and `gain` how many times faster than one thread. `x` is the time over the floor: what the products alone would take at
the speed of the calibrating product, the fastest of this run on as many threads: 4 * D * H multiplications and
additions for every query and key that it sees, 12 with backward. `/auto` is the time over that of backend="auto".
`error` is the largest difference, of output and gradients, from a plain softmax in float64 that is computed here for
one block of queries after the other, over the largest value; beyond 131072 frames it is that of three stretches.
`KB/frame` is what one pass adds to the peak memory, its output and its masks included: one tensor of 4 heads of 64
features is 1.024, the three gradients 3.072. `GFLOP/s` is the calibration beside that row: where it is low, something
else was running. Not here: encoders (benchmark_encoder.py), GPUs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from benchmark_measuring import (
    CannotRunError,
    Timing,
    extra_bytes,
    format_machine,
    in_fresh_process,
    machine,
    return_memory,
    time_jobs,
    write,
)
from benchmark_peers import ONE_THREAD, OTHER_CONTEXT, PEERS, Attend
from benchmark_table import growth, table
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
BACKENDS = ("banded", "native", "auto")
ON_REQUEST = ("flex",)
"""Peers that compile for every length."""
LONGEST_BACKWARD = 131072
"""Frames from which on only forward is measured, and only three stretches are compared with float64."""
LONGEST_PEER = 65536
STRETCH = 4096
SHORTEST_MEMORY = 1024
"""Frames from which on KB/frame is measured: the system counts pages roughly."""


class Case(NamedTuple):
    """One row, on any number of threads."""

    frames: int
    context: str
    name: str  # of the pass
    by: str  # a backend or a peer


Job = Callable[[], tuple[Tensor, ...]]


def main() -> None:
    """Measure the requested rows, and print or write them."""
    options = parse()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    about = machine()
    print(format_machine(about), flush=True)
    rows: list[dict[str, Any]] = []
    for frames in options.frames:
        found = measure(frames, options)
        print(table(found), flush=True)
        rows += found
    print("\n".join(growth(rows)))
    write(rows, about, options.csv, options.json)
    if options.plot:
        from benchmark_picture import draw

        options.plot.parent.mkdir(parents=True, exist_ok=True)
        draw(rows, about).savefig(options.plot)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description="Time and memory of truncated attention, ours and others'.")
    parser.add_argument("--frames", type=int, nargs="+", default=[4096], metavar="T")
    parser.add_argument("--contexts", nargs="+", choices=CONTEXTS, default=list(CONTEXTS))
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=list(PASSES))
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=["banded", "auto"])
    parser.add_argument(
        "--peers", nargs="*", choices=PEERS, metavar="NAME", help=f"{', '.join(PEERS)}; no name: all but flex"
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="N")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=5.0, help="that one row may take before it leaves the rounds")
    parser.add_argument("--no-memory", action="store_true", help="leave out KB/frame")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="and there, with processor, versions and commit")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="and draw time and memory over the frames")
    options = parser.parse_args()
    if options.peers == []:
        options.peers = [name for name in PEERS if name not in ON_REQUEST]
    if min(*options.frames, *options.threads, options.rounds, 1) < 1:
        parser.error("--frames, --threads and --rounds are 1 or more.")
    return options


def measure(frames: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each case and number of threads, or one that says why not."""
    passes = [name for name in options.passes if name == PASSES[0] or frames <= LONGEST_BACKWARD]
    cases = list(all_cases(frames, passes, options))
    jobs, errors, refused = checked_jobs(cases, inputs(frames, PASSES[1] in passes))
    alone = [case for case in jobs if case.by in ONE_THREAD]
    timings = time_jobs(jobs, options.threads, options.rounds, options.seconds, f"T = {frames}, time", alone)
    memory = {}
    if not options.no_memory and frames >= SHORTEST_MEMORY:
        memory = {case: kb_per_frame(case) for case in tqdm(jobs, desc=f"T = {frames}, memory", leave=False)}
    rows = []
    for case in cases:
        if case in refused:
            rows.append({**case._asdict(), "note": refused[case]})
        for threads in options.threads if case in jobs else ():
            row = {**case._asdict(), "threads": threads}
            if (case, threads) in timings:
                known = {"error": errors[case], "kb_per_frame": memory.get(case)}
                rows.append(row | figures(case, threads, timings) | known | {"note": OTHER_CONTEXT.get(case.by, "")})
            else:
                rows.append(row | {"note": ONE_THREAD[case.by]})
    return rows


def checked_jobs(
    cases: Sequence[Case], ours: tuple[Tensor, ...]
) -> tuple[dict[Case, Job], dict[Case, float | None], dict[Case, str]]:
    """Return what can run, its error (None where another context is computed), and why the rest cannot.

    Each has run once then: what is compiled once, is compiled.
    """
    jobs: dict[Case, Job] = {}
    errors: dict[Case, float | None] = {}
    refused: dict[Case, str] = {}
    theirs = tuple(x.contiguous() for x in ours) if any(case.by in PEERS for case in cases) else ours
    for case in tqdm(cases, desc=f"T = {ours[0].shape[2]}, float64", leave=False):
        try:
            run = job(case, theirs if case.by in PEERS else ours)
            found = run()
        except CannotRunError as error:
            refused[case] = str(error)
            continue
        jobs[case], errors[case] = run, None if case.by in OTHER_CONTEXT else largest_error(found, case, ours)
        del found
    return jobs, errors, refused


def all_cases(frames: int, passes: Sequence[str], options: argparse.Namespace) -> Iterable[Case]:
    """Yield cases context after context; what ignores the context is measured with the first of them."""
    for context in options.contexts:
        for name in passes:
            for by in [*options.backends, *(options.peers or [])]:
                if by in BACKENDS or (
                    frames <= LONGEST_PEER and (by not in OTHER_CONTEXT or context == options.contexts[0])
                ):
                    yield Case(frames, context, name, by)


def inputs(frames: int, backward: bool) -> tuple[Tensor, ...]:
    """Return q, k, v as views of one packed tensor, and if wanted a gradient of the output, all [1, H, T, D]."""
    q, k, v = torch.randn(1, frames, 3, HEADS, HEAD_DIM).permute(2, 0, 3, 1, 4)
    return (q, k, v, torch.randn(1, frames, HEADS, HEAD_DIM).transpose(1, 2)) if backward else (q, k, v)


def attend_by(case: Case) -> Attend:
    """Return attention as a function of q, k and v."""
    context = CONTEXTS[case.context]
    if case.by in PEERS:
        return PEERS[case.by](context, case.frames, case.name == PASSES[1])
    return lambda q, k, v: sa.attention(q, k, v, context, backend=case.by)


def job(case: Case, given: Sequence[Tensor]) -> Job:
    """Return one pass as a function without arguments that returns the output, and with backward the gradients."""
    attend = attend_by(case)
    q, k, v, *rest = given

    def forward() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (attend(q, k, v),)

    def backward() -> tuple[Tensor, ...]:
        leaves = [x.detach().requires_grad_() for x in (q, k, v)]
        output = attend(*leaves)
        return output.detach(), *torch.autograd.grad(output, leaves, rest[0])

    return forward if case.name == PASSES[0] else backward


def largest_error(found: Sequence[Tensor], case: Case, given: Sequence[Tensor]) -> float:
    """Return the largest difference from float64 over the largest value, the worst of output and gradients."""
    context, frames = CONTEXTS[case.context], case.frames
    starts = [0] if frames <= LONGEST_BACKWARD else [0, frames // 2, frames - STRETCH]
    length = frames if len(starts) == 1 else STRETCH
    errors = [0.0]
    for start in starts:
        expected = reference(context, given[:3], given[3] if len(found) > 1 else None, start, start + length)
        parts = [found[0][:, :, start : start + length], *found[1:]]
        errors += [float((x - y).abs().max() / y.abs().max()) for x, y in zip(parts, expected, strict=True)]
    return max(errors, key=lambda error: error if error == error else torch.inf)  # NaN is the worst


def reference(
    context: sa.Context, qkv: Sequence[Tensor], grad: Tensor | None, start: int, stop: int, block: int = 256
) -> list[Tensor]:
    """Return softmax attention in float64: outputs of queries [start, stop) and, given `grad`, gradients of all."""
    outputs, grads = [], [torch.zeros_like(x, dtype=torch.float64) for x in qkv] if grad is not None else []
    for first, last, low, high in context.schedule(qkv[0].shape[2], block, start, stop):
        queries, keys = torch.arange(first, last)[:, None], torch.arange(low, high)
        begin, end = context.span(queries)
        places = (slice(first, last), slice(low, high), slice(low, high))
        leaves = [x[:, :, at].double().requires_grad_(grad is not None) for x, at in zip(qkv, places, strict=True)]
        scores = leaves[0] @ leaves[1].transpose(2, 3) * HEAD_DIM**-0.5
        output = scores.masked_fill((keys < begin) | (keys >= end), -torch.inf).softmax(-1) @ leaves[2]
        outputs.append(output.detach())
        if grad is not None:
            of_block = torch.autograd.grad(output, leaves, grad[:, :, first:last].double())
            for whole, at, part in zip(grads, places, of_block, strict=True):
                whole[:, :, at] += part
    return [torch.cat(outputs, 2), *grads]


def figures(case: Case, threads: int, timings: dict[tuple[Any, int], Timing]) -> dict[str, Any]:
    """Return the columns of a timing: its ratio to the floor, to auto and to one thread."""
    timing = timings[case, threads]
    best = max(other.gemm for (_, count), other in timings.items() if count == threads)
    floor = (4 if case.name == PASSES[0] else 12) * HEAD_DIM * HEADS * visible_pairs(case) / best
    auto, alone = timings.get((case._replace(by="auto"), threads)), timings.get((case, 1))
    return {
        "ms": 1000 * timing.seconds,
        "floor_ms": 1000 * floor,
        "x": timing.seconds / floor,
        "times_auto": timing.seconds / auto.seconds if auto else None,
        "gain": alone.seconds / timing.seconds if alone and threads > 1 else None,
        "gemm_gflops": timing.gemm / 1e9,
        "runs": timing.runs,
    }


def visible_pairs(case: Case) -> int:
    """Return the pairs of a query and a key that it sees."""
    start, stop = CONTEXTS[case.context].span(torch.arange(case.frames))
    return int((stop.clamp(max=case.frames) - start.clamp(min=0)).sum())


def kb_per_frame(case: Case) -> float | None:
    """Return the extra memory of one pass from a fresh process, None where it failed."""
    try:
        return in_fresh_process(extra_of_pass, case) / 1000 / case.frames
    except CannotRunError:
        return None


def extra_of_pass(case: Case) -> int:
    """Return the extra bytes of one pass in this process, masks included, inputs not."""
    return_memory()
    backward = case.name == PASSES[1]
    small = case._replace(frames=512)
    given = inputs(case.frames, backward)
    if case.by in PEERS:
        given = tuple(x.contiguous() for x in given)
    if case.by in ON_REQUEST:  # the same code for both calls, or compiling would count; its mask is made before
        run = job(case, given)
        run()
        return extra_bytes(run)
    job(small, inputs(small.frames, backward))()  # what is allocated once and for all
    return extra_bytes(lambda: job(case, given)())


if __name__ == "__main__":
    main()
