"""Where time and memory go in one pass of an encoder: by layer, by operation, and by the line that made a tensor.

The pass runs twice: under torch's profiler, and under `TensorLifetimes`, which counts every tensor and takes far
longer. Temporary memory inside an operator or a library is not seen.
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
from speechattn.profiling.trace.operators import Key, OperatorTime, layers_by_number, operator_times, with_backward
from speechattn.profiling.trace.tensor_lifetimes import NewStorage, TensorLifetimes
from speechattn.system.atomic_files import write_bytes

MAX_TENSORS = 10
MAX_POINTS = 1000
"""Points of the memory curve."""


class Operation(NamedTuple):
    """All calls of an operator in a layer.

    `self_ms` is without, `total_ms` with the operators inside it; `made_bytes` is the sum of its new tensors, and
    `peak_bytes` the part of them that was alive at the peak.
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
    """A tensor that was alive at the peak, with its `Origin`.

    `kept` is whether the forward pass has saved it for the backward pass.
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
    """Bytes alive by part of the encoder [parts][points], over the seconds of the counted pass.

    Each point is the maximum of its interval; `peak` is the point of the peak, and `turn` that of the start of the
    backward pass, if there was one.
    """

    parts: dict[str, list[int]]
    seconds: float
    peak: int
    turn: int | None


@dataclass(frozen=True)
class Trace:
    """One pass: its operators, the slowest first, and the largest tensors at the peak.

    `layers` are the names of the modules. `peak_bytes` counts tensors made in the pass, `known_bytes` earlier ones:
    weights, their gradients, the input. `passed_ms` is the time under the profiler, on the device if there is one.
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
    """Return time and memory of one call of `run`, which runs `model`; times are of the fastest of `rounds` calls.

    `known` are further tensors that do not count. A trace for ui.perfetto.dev is written to `chrome`.

    Examples:
        >>> model = nn.Linear(8, 4)
        >>> found = trace(lambda: model(torch.zeros(10, 8)), model)
        >>> found.peak_bytes, [tensor.shape for tensor in found.largest]
        (480, [(10, 8), (10, 4)])
    """
    own = [tensor for weight in (*model.parameters(), *model.buffers()) for tensor in (weight, weight.grad)]
    given = [tensor for tensor in (*own, *known) if tensor is not None]
    on_device = any(tensor.is_cuda for tensor in given)
    with ModuleMarks(model) as layers:
        with TensorLifetimes(layers, given) as alive:
            run()
        profiles = [_profiled(run, on_device) for _ in range(rounds)]
    return _summary(profiles, alive, layers, given, on_device, chrome)


def _profiled(run: Callable[[], object], on_device: bool) -> profile:
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # otherwise it prints that there is no GPU
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if on_device else [ProfilerActivity.CPU]
    profiled = profile(activities=activities, record_shapes=True, profile_memory=True, acc_events=True)
    with profiled:
        run()
        if on_device:
            torch.cuda.synchronize()
    return profiled


def _summary(
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
        numbered = layers_by_number(events, layers.names)
        found.append((operator_times(events, layers.names, numbered, on_device), numbered, profiled))
    times, numbered, profiled = min(found, key=lambda one: _milliseconds(one[0]))
    if chrome is not None:
        _write_chrome(profiled, numbered, chrome)
    peak_bytes, place, at_peak = alive.at_peak()
    kept = {} if alive.backward_start is None else alive.after(alive.backward_start)
    largest = sorted(at_peak, key=lambda index: (-at_peak[index], index))[:MAX_TENSORS]
    return Trace(
        tuple(layers.names),
        _operations(times, alive, at_peak),
        tuple(_live_tensor(alive.made[index], at_peak[index], index in kept) for index in largest),
        peak_bytes,
        sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in known}.values()),
        _milliseconds(times),
        _curve(alive, place),
    )


def _live_tensor(made: NewStorage, size: int, kept: bool) -> LiveTensor:
    return LiveTensor(size, made.shape, made.dtype, *made.origin, kept)


def _milliseconds(times: dict[Key, OperatorTime]) -> float:
    return sum(one.self_ms for one in times.values())


def _operations(
    times: dict[Key, OperatorTime], alive: TensorLifetimes, at_peak: dict[int, int]
) -> tuple[Operation, ...]:
    """Return time and memory of every operator."""
    made: dict[Key, int] = defaultdict(int)
    peak: dict[Key, int] = defaultdict(int)
    for index, change in alive.log:
        made[alive.made[index].origin[:3]] += max(0, change)
    for index, size in at_peak.items():
        peak[alive.made[index].origin[:3]] += size
    nothing = OperatorTime(0, 0.0, 0.0)
    rows = [Operation(*key, *times.get(key, nothing), made[key], peak[key]) for key in {**times, **made}]
    return tuple(sorted(rows, key=lambda row: (-row.self_ms, -row.made_bytes)))


def _curve(alive: TensorLifetimes, place: int) -> Curve:
    """Return memory by part over time. `place` is the position of the peak in the log."""
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
    return Curve(parts, seconds, point(place), None if alive.backward_start is None else point(alive.backward_start))


def _write_chrome(profiled: profile, numbered: dict[int, str], chrome: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        profiled.export_chrome_trace(f"{folder}/trace.json")
        written = json.loads(Path(folder, "trace.json").read_text(encoding="utf-8"))
    write_bytes(chrome, json.dumps(with_backward(written, numbered)).encode())
