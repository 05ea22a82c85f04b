"""What torch's profiler has seen of a pass, by layer and operation, and the same for torch's viewer of traces.

The profiler knows the time of an operation, and by their sequence numbers which operation of the backward pass is the
gradient of which of the forward pass; the layers are the marks that `ModuleMarks` sets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from torch._C._autograd import DeviceType

from speechattn.profiling.trace.module_marks import OUTSIDE

EVALUATE, GENERATED = "autograd::engine::evaluate_function: ", "GeneratedBackwardFor_"
PYTHON = "(python)"
"""Time of a layer in none of its operations: Python's, and that of kernels that are not torch's."""
FORWARD = 0
"""The profiler's scope of an operation outside the backward pass."""
Key = tuple[str, bool, str]
"""Layer, whether in the backward pass, operation."""


class Spent(NamedTuple):
    """Calls of an operation, and their milliseconds: without and with the operations inside them."""

    calls: int
    self_ms: float
    total_ms: float


def numbers(events: Sequence[Any], names: Collection[str]) -> dict[int, str]:
    """The layer of each of autograd's sequence numbers: that of the operation that will be differentiated.

    `events` are the profiler's in the order in which they began, `names` those of the layers' marks.
    """
    places: dict[int, str] = {}
    found: dict[int, str] = {}
    for event in events:
        mark = event.name in names and event.is_user_annotation
        places[id(event)] = layer = event.name if mark else places.get(id(event.cpu_parent), OUTSIDE)
        # An operation without a gradient gets the number of the next one that has: the last to get it is right.
        if event.sequence_nr >= 0 and event.scope == FORWARD and not event.name.startswith(EVALUATE):
            found[event.sequence_nr] = layer
    return found


def spent(
    events: Sequence[Any], names: Collection[str], numbered: Mapping[int, str], on_device: bool = False
) -> dict[Key, Spent]:
    """Time by layer and operation, of the device if `on_device`; arguments as in, and from, `numbers`."""
    keys: dict[int, Key] = {}
    found: dict[Key, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
    latest = OUTSIDE
    for event in events:
        if event.device_type != DeviceType.CPU:
            continue
        around = keys.get(id(event.cpu_parent), (OUTSIDE, False, ""))
        layer, backward, _ = around
        name = event.name
        if name in names and event.is_user_annotation:
            layer, name = name, PYTHON
        elif name.startswith(EVALUATE):
            latest = differentiated(event.sequence_nr, numbered, latest)
            layer, backward = latest, True
        elif name.startswith(GENERATED) and not name.endswith("Backward"):
            name = around[2]  # the inside of an operator that brings its own gradient
        key = keys[id(event)] = (layer, backward, name)
        own, total = (
            (event.self_device_time_total, event.device_time_total)
            if on_device
            else (event.self_cpu_time_total, event.cpu_time_total)
        )
        found[key][1] += own / 1000
        if key != around:  # what is inside its like is no other call
            found[key][0] += 1
            found[key][2] += total / 1000
    return {key: Spent(int(calls), own, total) for key, (calls, own, total) in found.items()}


def differentiated(number: int, numbered: Mapping[int, str], latest: str) -> str:
    """The layer of a node of the backward pass.

    A node that adds a gradient to a weight has no number: it runs right after the one that has computed it, `latest`.
    """
    return latest if number < 0 else numbered.get(number, OUTSIDE)


def with_backward(trace: dict[str, Any], numbered: Mapping[int, str]) -> dict[str, Any]:
    """A Chrome trace as torch writes it, with a bar a layer over the backward pass, as the forward pass has them."""
    nodes = [event for event in trace["traceEvents"] if event.get("name", "").startswith(EVALUATE)]
    bars: list[dict[str, Any]] = []
    latest = OUTSIDE
    for node in sorted(nodes, key=lambda event: event["ts"]):
        latest = differentiated(node.get("args", {}).get("Sequence number", -1), numbered, latest)
        name = f"backward of {latest}"
        if not bars or (bars[-1]["name"], bars[-1]["tid"]) != (name, node["tid"]):
            bars.append({**node, "name": name, "cat": "user_annotation", "args": {}})
        bars[-1]["dur"] = node["ts"] + node["dur"] - bars[-1]["ts"]
    return {**trace, "traceEvents": [*trace["traceEvents"], *bars]}
