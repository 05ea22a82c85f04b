"""The final table of a run in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from speechattn.system.text_table import text_table
from speechattn.training.result_columns import Column, score_columns, subset_columns, with_tests

COSTS = (
    Column("parameters", "parameters", ",.0f"),
    Column("train_frames_per_s", "train frames/s", ",.0f"),
    Column("frames_per_s", "frames/s", ",.0f"),
    Column("peak_memory_mb", "peak MB", ",.0f"),
    Column("seconds", "s", ",.0f"),
)
"""Measured by the run; peak memory is that of the process."""

MAX_CLASSES = 50
"""Classes whose accuracy is printed: all phones, and the most frequent of many words."""


def print_table(task: str, results: Sequence[dict[str, Any]]) -> None:
    """Print the final table of a run of a task, and the accuracy of its own encoder per class, if its task has it."""
    header, rows = summary_table(task, results)
    print("\n" + "\n".join(text_table([header, *rows])))
    per_class = sorted(results[0].get("per_class", {}).items(), key=lambda item: -item[1][1])
    seen = [(name, share) for name, (share, count) in per_class if count][:MAX_CLASSES]
    if not seen:
        return
    width = max(len(name) for name, _ in seen)
    cells = [f"{name:>{width}} {share:.2f}" for name, share in seen]
    print(f"\naccuracy per class of {results[0]['encoder']}, most frequent first:")
    for begin in range(0, len(cells), 10):
        print("  " + "  ".join(cells[begin : begin + 10]))


def summary_table(task: str, results: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows as text: one row an encoder, last the most frequent class of the training data."""
    scores = [*score_columns(task, results), *subset_columns(task, results)]
    columns = [*scores, *COSTS]
    rows = [[str(result["encoder"]), *(c.text(with_tests(task, result)) for c in columns)] for result in results]
    header = ["encoder", *(column.title for column in columns)]
    floor = results[0].get("baseline")
    if floor is None:
        return header, rows
    shares = {**floor, **{f"tests/{name}": accuracy for name, accuracy in floor["tests"].items()}}
    last = [f"always {floor['label']}", *(column.text(shares) for column in scores)]
    return header, [*rows, last + [""] * (len(header) - len(last))]
