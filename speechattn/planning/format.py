"""An estimate as lines of text."""

from __future__ import annotations

import math

from speechattn.planning.estimate import PROCESS_BYTES, Estimate
from speechattn.planning.suggestions import suggest
from speechattn.system.text_table import text_table
from speechattn.system.units import format_bytes, format_duration

MIN_SHARE = 0.01
"""Parts below this share of the total are left out."""


def format_estimate(made: Estimate, total: int | None = None) -> str:
    """Return memory with its parts, operations, look-ahead, time, and suggestions that take less.

    `total` is the memory that the process may take, in bytes, or None.
    """
    fits = ""
    if total:
        fits = f", {'fits' if made.total_bytes <= total else 'does not fit'} into {format_bytes(total)}"
    copies = "with gradients and AdamW's" if made.mode == "training" else ""
    process = f"Python and torch {format_bytes(PROCESS_BYTES)}{fits}"
    rows = [
        ("memory, whole process", format_bytes(made.total_bytes), process),
        ("weights", format_bytes(made.weight_bytes), copies),
        ("input", format_bytes(made.input_bytes), ""),
        ("peak of the rest", format_bytes(made.peak_bytes), f"largest during: {made.where}"),
    ]
    largest_first = sorted(made.by_part.items(), key=lambda part: -part[1])
    rows += [
        ("", format_bytes(size), f"{size / made.peak_bytes:4.0%}  {name}")
        for name, size in largest_first
        if size >= MIN_SHARE * made.peak_bytes
    ]
    if made.mode == "streaming" and made.state_bytes is not None:
        rows.append(("state between pushes", format_bytes(made.state_bytes), "for any length of the stream"))
    rows.append(("operations", f"{made.flops / 1e12:,.3g} T", ", ".join(_shares(made))))
    if made.mode != "training" and made.latency_ms is None:
        rows.append(("look-ahead", "the end", "of the audio"))
    elif made.mode != "training":
        rows.append(("look-ahead", f"{made.latency_ms:g} ms", "at most, of all layers"))
    if made.seconds is not None:
        rate = made.audio_s * made.batch_size / made.seconds if made.seconds else math.inf
        rows.append(("time", format_duration(made.seconds), f"{rate:,.0f} times real time, on the calibrated machine"))
    suggestions = [f"  * {sentence}" for sentence in suggest(made)]
    return "\n".join([made.mode, *text_table(rows, "<><", indent=2), *suggestions])


def _shares(made: Estimate) -> list[str]:
    largest_first = sorted(made.flops_by_part.items(), key=lambda part: -part[1])
    return [f"{name} {flops / made.flops:.0%}" for name, flops in largest_first if flops >= MIN_SHARE * made.flops]
