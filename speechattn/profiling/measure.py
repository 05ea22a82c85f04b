"""One point of a profile, an encoder over one length: what runs inside the processes of its own.

Each function is called in a fresh process, warms the encoder up on a few frames, and measures one thing, so that none
disturbs another: resident memory wants large blocks given back at once, which costs time, and counting tensors costs
more.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import torch

from speechattn.profiling.encoders import ProfiledEncoder
from speechattn.profiling.isolated import CannotRunError
from speechattn.profiling.settings import Settings
from speechattn.profiling.tensor_memory import PeakTensors
from speechattn.system.process_memory import data_bytes, peak_memory_bytes, return_memory, with_extra_bytes

WARM_FRAMES = 256
"""Frames of the first pass, in which libraries set themselves up and what is compiled is compiled or loaded."""


def own_bytes(settings: Settings, encoder: str) -> int:
    """What a ceiling counts of a process that has torch, the encoder's weights, and made a short pass.

    What is compiled when it is first used is compiled now, and not on the clock of the first point.
    """
    with contextlib.suppress(CannotRunError):
        _prepared(settings, encoder, WARM_FRAMES)
    return data_bytes()


def about_gpu() -> dict[str, Any]:
    """Name and memory of the GPU.

    Raises:
        CannotRunError: there is none, or torch cannot use it.
    """
    if not torch.cuda.is_available():
        built = torch.version.cuda
        raise CannotRunError("no GPU answers" if built else "this torch is built for the CPU only")
    free, total = torch.cuda.mem_get_info()
    return {"gpu": torch.cuda.get_device_name(), "gpu_memory_bytes": total, "gpu_free_bytes": free}


def measure_memory(settings: Settings, encoder: str, frames: int) -> dict[str, Any]:
    """Resident bytes, on CUDA the device's that torch has reserved; the output's shape; seconds that passed."""
    return_memory()
    subject, run, _ = _prepared(settings, encoder, frames)
    if settings.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_reserved()
        shape, passed_s = _timed(run, time.perf_counter)
        peak = torch.cuda.max_memory_reserved()
        extra = peak - before
    else:
        (shape, passed_s), extra = with_extra_bytes(lambda: _timed(run, time.perf_counter))
        peak = peak_memory_bytes()
    return {
        "passed_s": passed_s,
        "peak_extra_bytes": extra,
        "peak_resident_bytes": peak,
        "weights_bytes": subject.weights_bytes,
        "state_bytes": subject.state_bytes,
        "output": shape,
    }


def measure_time(settings: Settings, encoder: str, frames: int) -> float:
    """Least seconds of a pass: of the processor with one thread, because machines are shared, and else passed."""
    _, run, _ = _prepared(settings, encoder, frames)
    clock = time.process_time if settings.device == "cpu" and settings.threads == 1 else time.perf_counter
    return min(_timed(run, clock)[1] for _ in range(settings.rounds))


def measure_tensors(settings: Settings, encoder: str, frames: int) -> int:
    """The most bytes that tensors made in the pass took together."""
    _, run, known = _prepared(settings, encoder, frames)
    if settings.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return int(torch.cuda.max_memory_allocated() - before)
    with PeakTensors(known) as counted:
        run()
    peak: int = counted.peak_bytes
    return peak


def _prepared(
    settings: Settings, encoder: str, frames: int
) -> tuple[ProfiledEncoder, Callable[[], list[int]], list[torch.Tensor]]:
    """An encoder that has run once, its pass over `frames`, and all tensors there are before it."""
    if settings.device == "cuda" and settings.memory_bytes is not None:
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, settings.memory_bytes / total))
    subject = ProfiledEncoder(settings, encoder)
    subject.prepare(WARM_FRAMES)[0]()
    return subject, *subject.prepare(frames)


def _timed(run: Callable[[], list[int]], clock: Callable[[], float]) -> tuple[list[int], float]:
    """What `run` returns, and how long it took until the device was done."""
    started = clock()
    shape = run()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return shape, clock() - started
