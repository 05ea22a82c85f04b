"""Whole encoders on an hour of frames: seconds, real-time factor and memory, and what a training step keeps.

    python scripts/benchmark_encoder.py
    python scripts/benchmark_encoder.py --minutes 2 --seconds 10

Measured, on one thread, float32, without gradients, on frames [1, T, 256], 10 ms each:

    speechattn             6 transformer blocks, d_model 256, d_ff 1024, 4 heads, 64 frames to either side, no positions
    speechattn, torch      the same where numba is not installed
    speechattn, step       the same as a stream, 64 frames at a time
    speechattn, full       the same with every frame seeing every frame
    speechattn, conformer  6 conformer blocks with that window and 31 taps
    Emformer, forward      torchaudio's, 6 layers of that size: segments of 64 frames, 32 to either side, 128 keys
    Emformer, infer        the same as a stream, 64 frames at a time
    Conformer              torchaudio's, 6 layers of that size and 31 taps: every frame sees every frame

How: every measurement has a fresh process that computes 512 frames first. A model begins with 4096 frames and goes on
with twice as many up to the whole audio, until a pass takes longer than --seconds or more memory than --memory-gb; our
own linear ones run 4096 frames and the whole audio. Further rounds repeat all that ran, and the least time counts.
`RTF` is seconds of work for a second of audio. `x` is the time over the floor of the transformer with a window: its
products, three times with backward, at the speed of a product of two 512 x 512 matrices, the fastest of all these
processes; a conformer has more of them, so it has no x. `GFLOP/s` is that product beside the row. `extra MB` is what
one pass adds to the peak memory, output included, input not. `error` is the largest difference from the same weights in
float64 with dense attention over 512 frames, over the largest value; Emformer and Conformer see other frames, or
compute other layers, and are compared with themselves in float64. Training: forward and backward of 6000 frames, with
and without gradient checkpointing. Not here: attention by itself (benchmark_attention.py).
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmark_measuring import (
    CannotRunError,
    elapsed,
    extra_bytes,
    format_machine,
    gemm_speed,
    in_fresh_process,
    machine,
    return_memory,
    write,
)
from torch import Tensor, nn
from tqdm import tqdm

import speechattn as sa

D_MODEL, D_FF, HEADS, LAYERS, TAPS = 256, 1024, 4, 6, 31
CONTEXT = sa.Context.truncated(64, 64)
SEGMENT, SIDE = 64, 32
"""Emformer's: 32 + 64 + 32 keys a frame, nearest to our 129."""
SHORT, CHECKED, SHORTEST, TRAINED = 512, 512, 4096, 6000
FRAMES_PER_MINUTE = 6000
START_S = 30.0
"""What a process may take beside the pass itself, with whatever it computes first."""
LINEAR = ("speechattn", "speechattn, torch", "speechattn, step", "speechattn, conformer")
GROWING = ("speechattn, full", "Emformer, forward", "Emformer, infer", "Conformer")
TRAINING = ("training", "training, checkpointed")
Run = Callable[[Tensor], Any]


def main() -> None:
    """Measure and print."""
    options = parse()
    about = machine()
    print(format_machine(about), flush=True)
    rows = infer(options) + train(options)
    best = max((row["gemm_gflops"] for row in rows if "seconds" in row), default=0.0)
    for row in rows:
        if "seconds" in row and "onformer" not in row["model"]:
            times = 3 if row["model"] in TRAINING else 1
            row["x"] = row["seconds"] * best * 1e9 / (times * window_flops(row["frames"]))
    print(table(rows, options.minutes))
    write(rows, about, options.csv, options.json)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description="Time and memory of whole encoders over long audio.")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the audio")
    parser.add_argument("--models", nargs="+", choices=[*LINEAR, *GROWING, *TRAINING], metavar="NAME")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0, help="most that one pass of a growing model may take")
    parser.add_argument("--memory-gb", type=float, default=12.0, help="most memory that a process may have")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="and there, with processor, versions and commit")
    options = parser.parse_args()
    options.models = options.models or [*LINEAR, *GROWING, *TRAINING]
    if options.minutes <= 0 or options.rounds < 1:
        parser.error("--minutes and --rounds must be more than 0.")
    return options


def infer(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of models at rising lengths, each model's last with the reason why it goes no further."""
    whole = round(options.minutes * FRAMES_PER_MINUTE)
    bytes_allowed = round(options.memory_gb * 1e9)
    rows = []
    for model in (name for name in options.models if name not in TRAINING):
        lengths = [SHORTEST << n for n in range(1 if model in LINEAR else 20) if SHORTEST << n < whole]
        error, rate = None, 0.0
        with contextlib.suppress(CannotRunError):
            error = in_fresh_process(largest_error, model)
        for frames in tqdm([*lengths, whole], desc=model, leave=False):
            seconds = None if model in LINEAR else options.seconds
            row = {"model": model, "frames": frames}
            rows.append(row)
            try:
                if seconds and rate * frames > seconds:
                    raise CannotRunError(
                        f"would take longer than {seconds:g} s: {rate * frames:.0f} s if it were linear"
                    )
                timed = measured(time_pass, model, frames, seconds=seconds, max_bytes=bytes_allowed)
                row |= timed | {"error": error}
                rate = row["seconds"] / frames
                row["extra_mb"] = measured(extra_of_pass, model, frames, seconds=seconds) / 1e6
            except CannotRunError as refusal:
                row["note"] = str(refusal)
                break
    for _ in tqdm(range(1, options.rounds), desc="rounds", leave=False):
        for row in tqdm([row for row in rows if "note" not in row], desc="models", leave=False):
            again = in_fresh_process(time_pass, row["model"], row["frames"])
            row["seconds"] = min(row["seconds"], again["seconds"])
            row["gemm_gflops"] = max(row["gemm_gflops"], again["gemm_gflops"])
    return rows


def measured(function: Callable[..., Any], *arguments: Any, seconds: float | None, max_bytes: int | None = None) -> Any:
    """From a fresh process, which has START_S beside the pass."""
    try:
        return in_fresh_process(
            function,
            *arguments,
            seconds=None if seconds is None else seconds + START_S,
            max_bytes=max_bytes,
        )
    except CannotRunError as error:
        text = str(error)
        raise CannotRunError(f"takes longer than {seconds:g} s" if "longer" in text else text) from None


def train(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of one forward and backward of 6000 frames, the time the least of the rounds."""
    rows = []
    for model in (name for name in options.models if name in TRAINING):
        timed = [in_fresh_process(time_step, model) for _ in range(options.rounds)]
        row = {"model": model, "frames": TRAINED, "seconds": min(each["seconds"] for each in timed)}
        row["gemm_gflops"] = max(each["gemm_gflops"] for each in timed)
        rows.append(row | {"extra_mb": in_fresh_process(extra_of_step, model) / 1e6})
    return rows


def build(name: str) -> nn.Module:
    """Return a model by its name, in eval mode, with the same weights each time."""
    torch.manual_seed(0)
    if name in ("Emformer, forward", "Emformer, infer"):
        import torchaudio

        model = torchaudio.models.Emformer(
            D_MODEL, HEADS, D_FF, LAYERS, SEGMENT, left_context_length=SIDE, right_context_length=SIDE
        )
    elif name == "Conformer":
        import torchaudio

        model = torchaudio.models.Conformer(D_MODEL, HEADS, D_FF, LAYERS, TAPS)
    else:
        if name == "speechattn, torch":
            os.environ["SPEECHATTN_NATIVE"] = "0"
        config = sa.EncoderConfig(
            input_dim=D_MODEL,
            d_model=D_MODEL,
            num_heads=HEADS,
            num_layers=LAYERS,
            d_ff=D_FF,
            context=sa.Context.full() if name == "speechattn, full" else CONTEXT,
            block="conformer" if name == "speechattn, conformer" else "transformer",
            position_encoding="none",
            conv_kernel=TAPS,
            dropout=0.0,
            gradient_checkpointing=name == "training, checkpointed",
        )
        model = sa.Encoder(config)
    return model.train() if name in TRAINING else model.eval()


def runner(name: str, model: nn.Module) -> Run:
    """Frames [1, T, 256] -> hidden [1, T, 256]."""
    if name == "speechattn, step":
        return functools.partial(stream, model)
    if name == "Emformer, infer":
        return functools.partial(stream_emformer, model)
    if name == "Emformer, forward":
        return lambda x: model(nn.functional.pad(x, (0, 0, 0, SIDE)), torch.tensor([x.shape[1]]))[0]
    if name == "Conformer":
        return lambda x: model(x, torch.tensor([x.shape[1]]))[0]
    return lambda x: model(x)[0]


def stream(model: Any, x: Tensor) -> Tensor:
    """As many frames at a time as Emformer takes."""
    state, done, output = model.initial_state(), 0, torch.empty_like(x)
    for piece in x.split(SEGMENT, 1):
        new, state = model.step(piece, state)
        output[:, done : done + new.shape[1]] = new
        done += new.shape[1]
    output[:, done:] = model.flush(state)
    return output


def stream_emformer(model: Any, x: Tensor) -> Tensor:
    """Segment after segment, each with the frames after it; the last ones are zeros."""
    output, states, lengths = torch.empty_like(x), None, torch.tensor([SEGMENT + SIDE])
    for start in range(0, x.shape[1], SEGMENT):
        piece = x[:, start : start + SEGMENT + SIDE]
        piece = nn.functional.pad(piece, (0, 0, 0, SEGMENT + SIDE - piece.shape[1]))
        new, _, states = model.infer(piece, lengths, states)
        output[:, start : start + SEGMENT] = new[:, : x.shape[1] - start]
    return output


def prepared(name: str, frames: int) -> tuple[Run, Tensor]:
    """Return a model that has run once, and its input."""
    run = runner(name, build(name))
    run(torch.randn(1, SHORT, D_MODEL))
    return run, torch.randn(1, frames, D_MODEL)


@torch.no_grad()
def time_pass(name: str, frames: int) -> dict[str, float]:
    """Seconds of one pass, and the speed of the calibration around it."""
    run, x = prepared(name, frames)
    before = gemm_speed()
    seconds = elapsed(lambda: run(x))
    return {"seconds": seconds, "gemm_gflops": max(before, gemm_speed()) / 1e9}


@torch.no_grad()
def extra_of_pass(name: str, frames: int) -> int:
    """Bytes."""
    return_memory()
    run, x = prepared(name, frames)
    return extra_bytes(lambda: run(x))


def step(model: nn.Module, x: Tensor) -> None:
    """Forward and backward."""
    hidden, _ = model(x)
    hidden.square().mean().backward()


def time_step(name: str) -> dict[str, float]:
    """As `time_pass`, of a training step; gradients are there from the step before."""
    model, x = build(name), torch.randn(1, TRAINED, D_MODEL)
    step(model, x[:, :SHORT])
    before = gemm_speed()
    seconds = min(elapsed(lambda: step(model, x)) for _ in range(2))
    return {"seconds": seconds, "gemm_gflops": max(before, gemm_speed()) / 1e9}


def extra_of_step(name: str) -> int:
    """Bytes."""
    return_memory()
    model, x = build(name), torch.randn(1, TRAINED, D_MODEL)
    step(model, x[:, :SHORT])
    return extra_bytes(lambda: step(model, x))


@torch.no_grad()
def largest_error(name: str) -> float:
    """From float64, over the largest value."""
    model, x = build(name), torch.randn(1, CHECKED, D_MODEL)
    exact = copy.deepcopy(model).double()
    for module in exact.modules():
        if isinstance(module, sa.SelfAttention):
            module.forward = functools.partial(module.forward, backend="dense")
    whole = "Emformer, forward" if name == "Emformer, infer" else name.replace(", step", "")
    expected = runner(whole, exact)(x.double())
    return float((runner(name, model)(x) - expected).abs().max() / expected.abs().max())


def window_flops(frames: int) -> float:
    """Multiplications and additions of the transformer with a window, its input projection included."""
    start, stop = CONTEXT.span(torch.arange(frames))
    pairs = int((stop.clamp(max=frames) - start.clamp(min=0)).sum())
    framewise = D_MODEL**2 + LAYERS * (4 * D_MODEL**2 + 2 * D_MODEL * D_FF)
    return 2.0 * frames * framewise + LAYERS * 4.0 * D_MODEL * pairs


def table(rows: list[dict[str, Any]], minutes: float) -> str:
    """All rows below each other."""
    lines = [
        "",
        f"{minutes:g} minutes are {round(minutes * FRAMES_PER_MINUTE)} frames",
        f"{'model':24}{'frames':>8}{'seconds':>9}{'us/frame':>10}{'RTF':>11}{'x':>7}{'extra MB':>10}"
        f"{'KB/frame':>10}{'error':>9}{'GFLOP/s':>9}",
    ]
    for row in rows:
        text = f"{row['model']:24}{row['frames']:8}"
        if "note" in row:
            lines.append(f"{text}  {row['note']}")
            continue
        per_frame, extra = row["seconds"] / row["frames"], row["extra_mb"]
        text += f"{row['seconds']:9.2f}{1e6 * per_frame:10.1f}{100 * per_frame:11.5f}"
        text += f"{row['x']:7.2f}" if "x" in row else " " * 7
        text += f"{extra:10.1f}{1000 * extra / row['frames']:10.2f}"
        text += " " * 9 if row.get("error") is None else f"{row['error']:9.1e}"
        lines.append(f"{text}{row['gemm_gflops']:9.0f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
