"""What benchmark_attention.py prints of its rows: a table for each context and pass, and how they grow with the frames.

Not here: measuring, and the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import linear_regression
from typing import Any

from speechattn.profiling.results import power

WRONG = 1e-4
"""Errors above it are no rounding."""
KEY = ("context", "name", "by")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows of one context and pass below each other."""
    lines, title = [], None
    for row in rows:
        if title != (title := (row["frames"], row["context"], row["name"])):
            floor = f", floor {row['floor_ms']:.3g} ms" if "floor_ms" in row else ""
            lines += ["", f"{title[0]} frames, context {title[1]}, {title[2]}{floor}"]
            lines.append(
                f"  {'by':16}{'threads':>7}{'ms':>10}{'x':>8}{'/auto':>8}{'gain':>6}{'error':>10}{'KB/frame':>10}"
                f"{'GFLOP/s':>9}{'runs':>6}"
            )
        lines.append(f"  {row['by']:16}{cells(row)}")
    others = {row["by"]: row["note"] for row in rows if "ms" in row and row["note"]}
    return "\n".join([*lines, *(f"n/a: {by} is {note}" for by, note in others.items())])


def cells(row: dict[str, Any]) -> str:
    """What stands behind the name."""

    def cell(name: str, width: int, form: str) -> str:
        return " " * width if row[name] is None else f"{row[name]:{width}{form}}"

    if "ms" not in row:
        return f"  cannot: {row['note']}"
    text = f"{row['threads']:7}{row['ms']:10.3f}{row['x']:8.2f}{cell('times_auto', 8, '.2f')}{cell('gain', 6, '.2f')}"
    text += f"{'n/a' if row['note'] else cell('error', 10, '.1e'):>10}{cell('kb_per_frame', 10, '.2f')}"
    text += f"{row['gemm_gflops']:9.0f}{row['runs']:6}"
    wrong = row["error"] is not None and not row["error"] < WRONG
    return text + ("  WRONG" if wrong else "")


def growth(rows: Sequence[dict[str, Any]]) -> list[str]:
    """How time and memory grow with the frames, of everything measured at three lengths or more on one thread.

    The power p of T ** p by least squares over the logarithms; and, where memory is linear, the slope of the line
    through it and how far a point is from that line.
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
