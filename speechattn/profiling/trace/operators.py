"""Times of a pass from torch's profiler, by layer and operator, and layers of the backward pass for a Chrome trace.

Sequence numbers connect a backward node with the forward operator that it differentiates; the layers of forward
operators are the marks that `ModuleMarks` sets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from speechattn.profiling.torch_internals import DeviceType
from speechattn.profiling.trace.module_marks import OUTSIDE

EVALUATE, GENERATED = "autograd::engine::evaluate_function: ", "GeneratedBackwardFor_"
PYTHON = "(python)"
"""Name for the time of a layer outside of torch's operators: Python, and kernels of other libraries."""
FORWARD = 0
"""The profiler's scope of operators outside the backward pass."""
Key = tuple[str, bool, str]
"""Layer, whether in the backward pass, operator."""


class OperatorTime(NamedTuple):
    """Calls of an operator, and their milliseconds without and with the operators inside them."""

    calls: int
    self_ms: float
    total_ms: float


def layers_by_number(events: Sequence[Any], names: Collection[str]) -> dict[int, str]:
    """Return the layer of each sequence number: that of the forward operator.

    `events` are the profiler's in the order of their start, `names` the names of modules.
    """
    places: dict[int, str] = {}
    found: dict[int, str] = {}
    for event in events:
        mark = event.name in names and event.is_user_annotation
        places[id(event)] = layer = event.name if mark else places.get(id(event.cpu_parent), OUTSIDE)
        # An operator without gradient has the number of the next one with a gradient: the last one is right.
        if event.sequence_nr >= 0 and event.scope == FORWARD and not event.name.startswith(EVALUATE):
            found[event.sequence_nr] = layer
    return found


def operator_times(
    events: Sequence[Any], names: Collection[str], numbered: Mapping[int, str], on_device: bool = False
) -> dict[Key, OperatorTime]:
    """Return the time by layer and operator, on the device if `on_device`; arguments as `layers_by_number`."""
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
            latest = backward_layer(event.sequence_nr, numbered, latest)
            layer, backward = latest, True
        elif name.startswith(GENERATED) and not name.endswith("Backward"):
            name = around[2]  # the inside of a custom operator's gradient
        key = keys[id(event)] = (layer, backward, name)
        own, total = (
            (event.self_device_time_total, event.device_time_total)
            if on_device
            else (event.self_cpu_time_total, event.cpu_time_total)
        )
        found[key][1] += own / 1000
        if key != around:  # an operator inside itself is not another call
            found[key][0] += 1
            found[key][2] += total / 1000
    return {key: OperatorTime(int(calls), own, total) for key, (calls, own, total) in found.items()}


def backward_layer(number: int, numbered: Mapping[int, str], latest: str) -> str:
    """Return the layer of a backward node.

    A node that accumulates a gradient has no number: it runs directly after `latest`, which has computed it.
    """
    return latest if number < 0 else numbered.get(number, OUTSIDE)


def with_backward(trace: dict[str, Any], numbered: Mapping[int, str]) -> dict[str, Any]:
    """Return torch's Chrome trace with a bar for each layer in the backward pass, as in the forward pass."""
    nodes = [event for event in trace["traceEvents"] if event.get("name", "").startswith(EVALUATE)]
    bars: list[dict[str, Any]] = []
    latest = OUTSIDE
    for node in sorted(nodes, key=lambda event: event["ts"]):
        latest = backward_layer(node.get("args", {}).get("Sequence number", -1), numbered, latest)
        name = f"backward of {latest}"
        if not bars or (bars[-1]["name"], bars[-1]["tid"]) != (name, node["tid"]):
            bars.append({**node, "name": name, "cat": "user_annotation", "args": {}})
        bars[-1]["dur"] = node["ts"] + node["dur"] - bars[-1]["ts"]
    return {**trace, "traceEvents": [*trace["traceEvents"], *bars]}
