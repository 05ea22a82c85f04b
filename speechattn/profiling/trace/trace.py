"""Where time and memory go in one pass of an encoder: by layer, by operation, and by the line that made a tensor.

The pass is run twice: under torch's profiler, whose times are its own, and under `TensorLifetimes`, which counts every tensor and
takes far longer. What is not seen: memory that an operation or a library keeps to itself while it runs.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from speechattn.profiling.trace.module_marks import ModuleMarks, part_of
from speechattn.profiling.trace.operators import Key, Spent, numbers, spent, with_backward
from speechattn.profiling.trace.tensor_lifetimes import Made, TensorLifetimes
from speechattn.system.atomic_files import write_bytes

MAX_TENSORS = 10
MAX_POINTS = 1000
"""Moments that the curve of memory has."""


class Operation(NamedTuple):
    """An operation in a layer, over all of its calls.

    `self_ms` is without, `total_ms` with the operations inside it; `made_bytes` are the new tensors that it gave,
    together, and `peak_bytes` what of them was alive at the peak.
    """

    layer: str
    backward: bool
    operation: str
    calls: int
    self_ms: float
    total_ms: float
    made_bytes: int
    peak_bytes: int


class LiveTensor(NamedTuple):
    """A tensor that was alive at the peak, and where it comes from, as in `Origin`.

    `kept` is whether the forward pass has left it for the backward pass.
    """

    bytes: int
    shape: tuple[int, ...]
    dtype: str
    layer: str
    backward: bool
    operation: str
    line: str
    kept: bool


class Curve(NamedTuple):
    """Bytes alive by part of the encoder [parts][points], over the seconds that the counted pass took.

    Each point is the highest moment of its stretch of time; `peak` is that of the peak, and `turn` the one at which
    the backward pass began, if there was one.
    """

    parts: dict[str, list[int]]
    seconds: float
    peak: int
    turn: int | None


@dataclass(frozen=True)
class Trace:
    """One pass: its operations, the one with the most time first, and what was alive when that was most.

    `layers` are the names of the modules, as the model has them. `peak_bytes` counts tensors made in the pass,
    `known_bytes` are those that were there before: weights, their gradients, the input. `passed_ms` is the time under
    the profiler, of the device if it is one.
    """

    layers: tuple[str, ...]
    operations: tuple[Operation, ...]
    largest: tuple[LiveTensor, ...]
    peak_bytes: int
    known_bytes: int
    passed_ms: float
    curve: Curve


def trace(
    run: Callable[[], object],
    model: nn.Module,
    known: Iterable[Tensor] = (),
    chrome: Path | None = None,
    rounds: int = 1,
) -> Trace:
    """What one call of `run`, which runs `model`, costs; the fastest of so many `rounds` is the one that is told.

    `known` are tensors that do not count, besides the model's own. `chrome` is where a trace for chrome://tracing or
    ui.perfetto.dev is written.

    Example:
        >>> model = nn.Linear(8, 4)
        >>> found = trace(lambda: model(torch.zeros(10, 8)), model)
        >>> found.peak_bytes, [held.shape for held in found.largest]
        (480, [(10, 8), (10, 4)])
    """
    own = [tensor for weight in (*model.parameters(), *model.buffers()) for tensor in (weight, weight.grad)]
    given = [tensor for tensor in (*own, *known) if tensor is not None]
    on_device = any(tensor.is_cuda for tensor in given)
    with ModuleMarks(model) as layers:
        with TensorLifetimes(layers, given) as alive:
            run()
        profiles = [_profiled(run, on_device) for _ in range(rounds)]
    return _told(profiles, alive, layers, given, on_device, chrome)


def _profiled(run: Callable[[], object], on_device: bool) -> profile:
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # otherwise it says on stderr that a machine has no GPU
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_device]
    profiled = profile(activities=activities, record_shapes=True, profile_memory=True, acc_events=True)
    with profiled:
        run()
        if on_device:
            torch.cuda.synchronize()
    return profiled


def _told(
    profiles: list[profile],
    alive: TensorLifetimes,
    layers: ModuleMarks,
    known: list[Tensor],
    on_device: bool,
    chrome: Path | None,
) -> Trace:
    found = []
    for profiled in profiles:
        events = list(profiled.events())  # type: ignore[no-untyped-call]
        numbered = numbers(events, layers.names)
        found.append((spent(events, layers.names, numbered, on_device), numbered, profiled))
    times, numbered, profiled = min(found, key=lambda one: _milliseconds(one[0]))
    if chrome is not None:
        _write_chrome(profiled, numbered, chrome)
    peak_bytes, place, held = alive.at_peak()
    kept = {} if alive.turned is None else alive.after(alive.turned)
    largest = sorted(held, key=lambda index: (-held[index], index))[:MAX_TENSORS]
    return Trace(
        tuple(layers.names),
        _operations(times, alive, held),
        tuple(_live_tensor(alive.made[index], held[index], index in kept) for index in largest),
        peak_bytes,
        sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in known}.values()),
        _milliseconds(times),
        _curve(alive, place),
    )


def _live_tensor(made: Made, size: int, kept: bool) -> LiveTensor:
    return LiveTensor(size, made.shape, made.dtype, *made.origin, kept)


def _milliseconds(times: dict[Key, Spent]) -> float:
    return sum(one.self_ms for one in times.values())


def _operations(times: dict[Key, Spent], alive: TensorLifetimes, held: dict[int, int]) -> tuple[Operation, ...]:
    """Time and memory of every operation side by side."""
    made: dict[Key, int] = defaultdict(int)
    peak: dict[Key, int] = defaultdict(int)
    for index, change in alive.log:
        made[alive.made[index].origin[:3]] += max(0, change)
    for index, size in held.items():
        peak[alive.made[index].origin[:3]] += size
    nothing = Spent(0, 0.0, 0.0)
    rows = [Operation(*key, *times.get(key, nothing), made[key], peak[key]) for key in {**times, **made}]
    return tuple(sorted(rows, key=lambda row: (-row.self_ms, -row.made_bytes)))


def _curve(alive: TensorLifetimes, place: int) -> Curve:
    """Memory by part at equally distant moments. `place` is the position of the peak in the log."""
    owners = [part_of(made.origin.layer) for made in alive.made]
    parts: dict[str, list[int]] = {part: [] for part in owners}
    now = dict.fromkeys(parts, 0)
    if not alive.log:
        return Curve(parts, 0.0, 0, None)
    began, seconds = alive.clock[0], max(alive.clock[-1] - alive.clock[0], 1e-9)

    def point(position: int) -> int:
        passed = alive.clock[min(max(position, 1), len(alive.log)) - 1] - began
        return min(MAX_POINTS - 1, int(passed / seconds * MAX_POINTS))

    total, best, shown = 0, 0, dict(now)
    for position, (index, change) in enumerate(alive.log, start=1):
        while len(parts[owners[0]]) < point(position):
            for part, sizes in parts.items():
                sizes.append(shown[part])
            best, shown = total, dict(now)
        now[owners[index]] += change
        total += change
        if total > best:
            best, shown = total, dict(now)
    for part, sizes in parts.items():
        sizes.append(shown[part])
    return Curve(parts, seconds, point(place), None if alive.turned is None else point(alive.turned))


def _write_chrome(profiled: profile, numbered: dict[int, str], chrome: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        profiled.export_chrome_trace(f"{folder}/trace.json")
        written = json.loads(Path(folder, "trace.json").read_text(encoding="utf-8"))
    write_bytes(chrome, json.dumps(with_backward(written, numbered)).encode())
