"""Text tables of benchmark_attention.py: one for each context and pass, and the growth with the number of frames."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import linear_regression
from typing import Any

from speechattn.profiling.growth import power
from speechattn.system.text_table import text_table

WRONG = 1e-4
"""Errors above it are not rounding."""
KEY = ("context", "name", "by")


HEADER = ("by", "threads", "ms", "x", "/auto", "gain", "error", "KB/frame", "GFLOP/s", "runs")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return a table for each number of frames, context and pass."""
    lines: list[str] = []
    for key in dict.fromkeys(tuple(row[name] for name in ("frames", "context", "name")) for row in rows):
        mine = [row for row in rows if key == (row["frames"], row["context"], row["name"])]
        floor = f", floor {mine[0]['floor_ms']:.3g} ms" if "floor_ms" in mine[0] else ""
        lines += ["", f"{key[0]} frames, context {key[1]}, {key[2]}{floor}"]
        measured, others = ([row for row in mine if ("ms" in row) == done] for done in (True, False))
        lines += text_table([HEADER, *map(cells, measured)], "<>>>>>>>>><", indent=2)
        lines += [f"  {row['by']}: cannot: {row['note']}" for row in others]
    notes = {row["by"]: row["note"] for row in rows if "ms" in row and row["note"]}
    return "\n".join([*lines, *(f"n/a: {by} is {note}" for by, note in notes.items())])


def cells(row: dict[str, Any]) -> list[str]:
    """Return the cells of a measured row, with a mark for a wrong result at its end."""

    def cell(name: str, form: str) -> str:
        return "" if row[name] is None else format(row[name], form)

    error = "n/a" if row["note"] else cell("error", ".1e")
    wrong = row["error"] is not None and not row["error"] < WRONG
    return [
        row["by"],
        str(row["threads"]),
        f"{row['ms']:.3f}",
        f"{row['x']:.2f}",
        cell("times_auto", ".2f"),
        cell("gain", ".2f"),
        error,
        cell("kb_per_frame", ".2f"),
        f"{row['gemm_gflops']:.0f}",
        str(row["runs"]),
        *(["WRONG"] if wrong else []),
    ]


def growth(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return how time and memory grow with the frames, for everything measured at three lengths on one thread.

    The power p of T ** p by least squares of the logarithms; where memory is linear also the slope of its line and the
    largest relative distance of a point from it.
    """
    lines = []
    alone = [row for row in rows if "ms" in row and row["threads"] == 1]
    for key in dict.fromkeys(tuple(row[name] for name in KEY) for row in alone):
        mine = [row for row in alone if key == tuple(row[name] for name in KEY)]
        frames, extra = [row["frames"] for row in mine], [row["kb_per_frame"] for row in mine]
        if len(set(frames)) < 3:
            continue
        text = f"time as T ** {power(frames, [row['ms'] for row in mine]):.2f}"
        if all(kb and kb > 0 for kb in extra):
            whole = [t * kb for t, kb in zip(frames, extra, strict=True)]
            text += f", memory as T ** {power(frames, whole):.2f}"
            slope, start = linear_regression(frames, whole)
            off = max(abs(kb / (slope * t + start) - 1) for t, kb in zip(frames, whole, strict=True))
            text += f", {slope:.3f} KB/frame within {100 * off:.1f} %" if off < 0.2 else ""
        lines.append(f"  {key[0]:16}{key[1]:18}{key[2]:16}{text}")
    return ["", f"from {min(row['frames'] for row in alone)} frames on", *lines] if lines else []
