"""The columns of a result for each task: which score is the main one, whether higher is better, how it is printed.

The report, `speechattn compare` and the table of a run in the terminal take them from here. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Column:
    """A number of a result: its key, its title, and how it is printed."""

    key: str
    title: str
    form: str = ".3f"
    """Format of the number, the same in every row."""
    higher_is_better: bool | None = None
    """None where neither is."""

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the number of a row as text, a dash where there is none, "no limit" for infinity."""
        value = number(row.get(self.key))
        if row.get(self.key) == math.inf:
            return "no limit"
        return "-" if value is None else format(value, self.form)

    def better(self, first: float, second: float) -> bool:
        """Return whether `first` is better than `second`, and not equal."""
        return first > second if self.higher_is_better else self.higher_is_better is not None and first < second


SCORES: dict[str, tuple[Column, ...]] = {
    "frames": (
        Column("accuracy", "accuracy", ".4f", True),
        Column("accuracy_no_sil", "without silence", ".4f", True),
    ),
    "utterance": (Column("accuracy", "accuracy", ".4f", True),),
    "ctc": (
        Column("error_rate", "error rate", ".4f", False),
        Column("word_error_rate", "word error rate", ".4f", False),
    ),
}
"""Scores of each task, the main one first; a row may lack the others."""

SENTENCES = {
    "frames": "frame accuracy",
    "utterance": "utterance accuracy",
    "ctc": "error rate of labels",
}
"""The main score of each task in words, for titles and axes."""

UNITS = {"frames": "frames", "utterance": "utterances", "ctc": "labels"}
"""What is scored, and the key of its count."""

COSTS: tuple[Column, ...] = (
    Column("parameters", "parameters", ",.0f", False),
    Column("latency_ms", "latency, ms", ",.0f", False),
    Column("memory_mb", "memory, MB", ",.1f", False),
    Column("frames_per_s", "frames/s", ",.0f", True),
    Column("epochs", "epochs", ".0f"),
    Column("seconds", "training, s", ",.0f", False),
)
"""What a result cost; `encoder_costs` adds latency and memory."""


def main_score(task: str) -> Column:
    """Return the column of the main score of a task.

    Examples:
        >>> main_score("ctc").title, main_score("ctc").better(0.3, 0.4)
        ('error rate', True)
    """
    return SCORES[task][0]


def score_columns(task: str, rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of scores that any of the rows has, the main one first."""
    return [column for column in SCORES[task] if any(number(row.get(column.key)) is not None for row in rows)]


def subset_columns(task: str, rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return a column of the main score on each test subset; its key is the name of the subset: see `with_tests`."""
    main = main_score(task)
    names = dict.fromkeys(name for row in rows for name in row.get("tests") or {})
    return [Column(f"tests/{name}", name, main.form, main.higher_is_better) for name in names]


def with_tests(task: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the main score of each test subset under the key of its column."""
    key = main_score(task).key
    scores = {f"tests/{name}": test.get(key) for name, test in (row.get("tests") or {}).items()}
    return {**row, **scores}


def cost_columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """Return the columns of costs that any of the rows has."""
    return [column for column in COSTS if any(number(row.get(column.key)) is not None for row in rows)]


def best_first(task: str, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows sorted by the main score, the best first; rows without one are last.

    Examples:
        >>> [row["encoder"] for row in best_first("frames", [{"encoder": "mlp", "accuracy": 0.6}, {"encoder": "cnn",
        ...     "accuracy": 0.7}])]
        ['cnn', 'mlp']
    """
    main = main_score(task)
    sign = -1 if main.higher_is_better else 1

    def place(row: Mapping[str, Any]) -> tuple[bool, float]:
        value = number(row.get(main.key))
        return value is None, 0.0 if value is None else sign * value

    return sorted(rows, key=place)


def number(value: Any) -> float | None:
    """Return a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
