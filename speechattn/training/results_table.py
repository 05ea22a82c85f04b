"""The final table of a run in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from speechattn.system.text_table import text_table

SCORES = {
    "accuracy": "accuracy",
    "accuracy_no_sil": "without SIL",
    "error_rate": "error rate",
    "word_error_rate": "word error rate",
}
"""Columns of scores, where the task has them."""
MAX_CLASSES = 50
"""Classes whose accuracy is printed: all phones, and the most frequent of many words."""


def print_table(results: Sequence[dict[str, Any]]) -> None:
    """Print the final table of a run, and the accuracy of its own encoder per class, if its task has it."""
    header, rows = summary_table(results)
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


def summary_table(results: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows as text: one row an encoder, last the most frequent class of the training data.

    The scores are those of the task: accuracies, or error rates of sequences.
    """
    first = results[0]
    tests = list(first["tests"])
    scores = {name: title for name, title in SCORES.items() if name in first}
    main = "accuracy" if "error_rate" not in scores else "error_rate"
    if main == "error_rate":
        del scores["accuracy"]
    header = ["encoder", *scores.values(), *tests, "parameters", "train frames/s", "frames/s", "peak MB", "s"]
    rows = [
        [
            result["encoder"],
            *(f"{result[name]:.4f}" for name in scores),
            *(f"{result['tests'][name][main]:.4f}" for name in tests),
            f"{result['parameters']:,}",
            f"{result['train_frames_per_s']:,.0f}",
            f"{result['frames_per_s']:,.0f}",
            f"{result['peak_memory_mb']:,.0f}",
            f"{result['seconds']:,.0f}",
        ]
        for result in results
    ]
    floor = first["baseline"]
    if floor is None:
        return header, rows
    shares = [*(floor[name] for name in scores), *(floor["tests"][name] for name in tests)]
    last = [f"always {floor['label']}", *(f"{share:.4f}" for share in shares)]
    return header, [*rows, last + [""] * (len(header) - len(last))]
