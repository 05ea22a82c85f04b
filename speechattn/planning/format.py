"""A plan as lines to read."""

from __future__ import annotations

import math

from speechattn.planning.estimate import PROCESS_BYTES, Estimate
from speechattn.planning.suggestions import suggest
from speechattn.system.units import format_bytes, format_duration

SHOWN = 0.01
"""The least share of a total that is worth a line, or a word."""


def format_estimate(made: Estimate, total: int | None = None) -> str:
    """One plan: memory with its parts, operations, look-ahead, time; and what would take less.

    `total` is what the process may take, or None.
    """
    fits = f", {'fits' if made.total_bytes <= total else 'does not fit'} into {format_bytes(total)}" if total else ""
    copies = "with gradients and AdamW's" if made.mode == "training" else ""
    rows = [
        (
            "memory, whole process",
            format_bytes(made.total_bytes),
            f"Python and torch {format_bytes(PROCESS_BYTES)}{fits}",
        ),
        ("weights", format_bytes(made.weight_bytes), copies),
        ("input", format_bytes(made.input_bytes), ""),
        ("peak beside them", format_bytes(made.peak_bytes), f"at its worst moment: {made.where}"),
    ]
    parts = [
        f"    {format_bytes(size):>10}  {size / made.peak_bytes:4.0%}  {name}"
        for name, size in sorted(made.by_part.items(), key=lambda part: -part[1])
        if size >= SHOWN * made.peak_bytes
    ]
    below = []
    if made.mode == "streaming" and made.state_bytes is not None:
        below.append(("state between pushes", format_bytes(made.state_bytes), "however long the stream is"))
    below.append(("operations", f"{made.flops / 1e12:,.3g} T", ", ".join(_shares(made))))
    if made.mode != "training" and made.latency_ms is None:
        below.append(("look-ahead", "the end", "of the audio"))
    elif made.mode != "training":
        below.append(("look-ahead", f"{made.latency_ms:g} ms", "at most, of all layers"))
    if made.seconds is not None:
        rate = made.audio_s * made.batch_size / made.seconds if made.seconds else math.inf
        below.append(("time", format_duration(made.seconds), f"{rate:,.0f} times real time, on the calibrated machine"))
    lines = [made.mode, *map(_line, rows), *parts, *map(_line, below)]
    return "\n".join(lines + [f"  * {sentence}" for sentence in suggest(made)])


def _line(row: tuple[str, str, str]) -> str:
    name, value, note = row
    return f"  {name:22}{value:>10}  {note}".rstrip()


def _shares(made: Estimate) -> list[str]:
    ordered = sorted(made.flops_by_part.items(), key=lambda part: -part[1])
    return [f"{name} {flops / made.flops:.0%}" for name, flops in ordered if flops >= SHOWN * made.flops]
