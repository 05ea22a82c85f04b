"""The measurements of one encoder over one length, each for its own process.

Each function is called in a fresh process, warms the encoder up on a few frames, and measures one quantity, because
they disturb each other: resident memory needs freed blocks to be returned at once, which costs time, and counting
tensors costs more.
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
"""Frames of the warm-up pass, in which libraries initialise and kernels are compiled or loaded."""


def own_bytes(settings: Settings, encoder: str) -> int:
    """Return what RLIMIT_DATA counts of a process with torch and the encoder after a warm-up pass.

    Kernels that are compiled on first use are compiled here, and not in the first measurement.
    """
    with contextlib.suppress(CannotRunError):
        _prepared(settings, encoder, WARM_FRAMES)
    return data_bytes()


def about_gpu() -> dict[str, Any]:
    """Return name and memory of the GPU.

    Raises:
        CannotRunError: there is none, or torch cannot use it.
    """
    if not torch.cuda.is_available():
        built = torch.version.cuda
        raise CannotRunError("no GPU answers" if built else "this torch is built for the CPU only")
    free, total = torch.cuda.mem_get_info()
    return {"gpu": torch.cuda.get_device_name(), "gpu_memory_bytes": total, "gpu_free_bytes": free}


def measure_memory(settings: Settings, encoder: str, frames: int) -> dict[str, Any]:
    """Return resident bytes, on CUDA those that torch has reserved; the output's shape; elapsed seconds."""
    return_memory()
    profiled, run, _ = _prepared(settings, encoder, frames)
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
        "weights_bytes": profiled.weights_bytes,
        "state_bytes": profiled.state_bytes,
        "output": shape,
    }


def measure_time(settings: Settings, encoder: str, frames: int) -> float:
    """Return the minimum time of a pass in seconds: CPU time on one thread, else elapsed time."""
    _, run, _ = _prepared(settings, encoder, frames)
    clock = time.process_time if settings.device == "cpu" and settings.threads == 1 else time.perf_counter
    return min(_timed(run, clock)[1] for _ in range(settings.rounds))


def measure_tensors(settings: Settings, encoder: str, frames: int) -> int:
    """Return the peak bytes of the tensors made in the pass."""
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
    """Return a warmed-up encoder, its pass over `frames`, and all tensors that exist before it."""
    if settings.device == "cuda" and settings.memory_bytes is not None:
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, settings.memory_bytes / total))
    profiled = ProfiledEncoder(settings, encoder)
    profiled.prepare(WARM_FRAMES)[0]()
    return profiled, *profiled.prepare(frames)


def _timed(run: Callable[[], list[int]], clock: Callable[[], float]) -> tuple[list[int], float]:
    """Return the result of `run`, and its seconds until the device was done."""
    started = clock()
    shape = run()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return shape, clock() - started
