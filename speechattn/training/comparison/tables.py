"""The comparison as text for a terminal, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from speechattn.system.text_table import text_table
from speechattn.training.comparison.differences import (
    data_differences,
    machine_differences,
    score_difference,
    setting_differences,
    unfinished,
)
from speechattn.training.comparison.run_result import RunResult
from speechattn.training.result_columns import (
    Column,
    cost_columns,
    main_score,
    number,
    score_columns,
    subset_columns,
)

BEST = "*"
SPEAKERS = "brackets: 95 % interval over validation speakers, each in both runs"


def columns_of(results: Sequence[RunResult]) -> list[Column]:
    """Return the columns of scores, of test subsets and of costs that any of the results has."""
    rows = [result.row for result in results]
    return [*score_columns(results[0].task, rows), *subset_columns(results[0].task, rows), *cost_columns(rows)]


def best_of(column: Column, results: Sequence[RunResult]) -> list[bool]:
    """Return which results have the best value of a column; none where all are equal, or neither is better."""
    values = [number(result.row.get(column.key)) for result in results]
    found = [value for value in values if value is not None]
    if column.higher_is_better is None or len(set(found)) < 2:
        return [False] * len(values)
    best = max(found) if column.higher_is_better else min(found)
    return [value == best for value in values]


def table_of(results: Sequence[RunResult]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the scores, the best of each column marked by a star."""
    columns, header = columns_of(results), ["run", "encoder"]
    rows = [[result.name, str(result.row.get("encoder"))] for result in results]
    for place, column in enumerate(columns):
        header.append(column.title)
        for row, result, best in zip(rows, results, best_of(column, results), strict=True):
            row.append(column.text(result.row) + (BEST if best else ""))
        if place == 0:
            header.append(f"points to {results[0].name}")
            for row, result in zip(rows, results, strict=True):
                row.append("-" if result is results[0] else score_difference(results[0], result).text())
    return header, rows


def warnings_of(results: Sequence[RunResult]) -> list[str]:
    """Return what makes numbers of these results incomparable, the worst first."""
    machine = machine_differences(results)
    return [*data_differences(results), *unfinished(results), *([machine] if machine else [])]


def remarks_of(results: Sequence[RunResult]) -> list[str]:
    """Return what the table does not say by itself."""
    differences = {other.name: score_difference(results[0], other) for other in results[1:]}
    found = [f"{BEST} the best of its column"] if any(any(best_of(c, results)) for c in columns_of(results)) else []
    if any(difference.interval for difference in differences.values()):
        found.append(SPEAKERS)
    why = {name: difference.why for name, difference in differences.items() if difference.why}
    return [*found, *(f"no interval for {name}: {reason}" for name, reason in why.items())]


def settings_table(results: Sequence[RunResult]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the settings that differ."""
    header = ["setting", *(result.name for result in results)]
    found = setting_differences(results)
    return header, [[name, *map(format_setting, values)] for name, values in sorted(found.items())]


def format_setting(value: Any) -> str:
    """Return a setting as it is typed after its option.

    Examples:
        >>> [format_setting(value) for value in (0.1, None, True, ["linear", "mlp"], [])]
        ['0.1', 'none', 'true', 'linear mlp', 'none']
    """
    if isinstance(value, list | tuple):
        return " ".join(map(format_setting, value)) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def format_text(results: Sequence[RunResult]) -> str:
    """Return the comparison for a terminal: warnings about the data first, then scores, remarks, and settings."""
    lines = [f"! {text}" for text in warnings_of(results)]
    lines += [""] if lines else []
    header, rows = table_of(results)
    lines += [*text_table([header, *rows], "<<>"), "", *remarks_of(results)]
    header, rows = settings_table(results)
    if rows:
        return "\n".join([*lines, "", "settings that differ:", *text_table([header, *rows], "<")])
    return "\n".join([*lines, "", "no setting differs"])


def as_json(results: Sequence[RunResult]) -> dict[str, Any]:
    """Return the comparison as plain JSON types; a latency without limit is null."""
    main = main_score(results[0].task)
    runs = []
    for result in results:
        numbers = {column.key: _plain(result.row.get(column.key)) for column in columns_of(results)}
        run = {"name": result.name, "folder": str(result.folder), "encoder": result.row.get("encoder"), **numbers}
        if result is not results[0]:
            difference = score_difference(results[0], result)
            limits = difference.interval
            run["difference"] = {
                "points": difference.points,
                "low": limits.low if limits else None,
                "high": limits.high if limits else None,
                "why_no_interval": difference.why or None,
            }
        runs.append({**run, "made": result.row.get("made")})
    names = [result.name for result in results]
    settings: Mapping[str, Any] = {
        name: dict(zip(names, values, strict=True)) for name, values in setting_differences(results).items()
    }
    return {
        "task": results[0].task,
        "main_score": main.key,
        "higher_is_better": main.higher_is_better,
        "warnings": warnings_of(results),
        "runs": runs,
        "settings": settings,
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
