"""The page of a comparison: compare.html with the curves, scores and confusions of all runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechattn.plots.confusion_difference import confusion_difference
from speechattn.plots.html_page import Report
from speechattn.plots.learning_curves import curves, has_curves
from speechattn.plots.recall_differences import recall_differences
from speechattn.plots.result_bars import result_bars
from speechattn.training.comparison.differences import score_difference
from speechattn.training.comparison.run_result import RunResult
from speechattn.training.comparison.tables import remarks_of, settings_table, table_of, warnings_of
from speechattn.training.provenance import format_machine
from speechattn.training.result_columns import SENTENCES, best_first, main_score, number
from speechattn.training.speaker_scores import interval

PAGE = "compare.html"
MAX_CONFUSIONS = 3
"""Runs whose confusions are drawn, each against the first; all are in the table."""
MAX_PAIRS = 20
"""Rows of the table of confused labels of sequences."""
CURVES = "Validation (thick, with dots) and training (thin) of every run over its own steps."
BARS = (
    "The line on a bar is the 95 % interval over validation speakers. The intervals of differences, in the table, are "
    "narrower: each speaker is in both runs, and how hard a speaker is cancels."
)
RECALLS = "Bars above 0 are classes that the run recognises more often than the first one."


def write_comparison(directory: Path, results: Sequence[RunResult]) -> Path:
    """Write compare.html and its pictures into `directory`; return the path of the page."""
    task = results[0].task
    report = Report(f"{SENTENCES[task].capitalize()}: {_listed([result.name for result in results])}")
    report.numbers(_headline(results))
    for text in warnings_of(results):
        report.text(text)
    header, rows = table_of(results)
    report.heading("Results").table(header, rows, right=range(2, len(header)))
    report.text("; ".join(remarks_of(results)) + ".")
    report.figure(
        "compare-scores", _bars(results), BARS if any(result.row.get("by_speaker") for result in results) else ""
    )
    header, rows = settings_table(results)
    report.heading("Settings that differ")
    if rows:
        report.table(header, rows)
    else:
        report.text("None.")
    records = [record for result in results for record in result.records]
    if has_curves(records):
        errors = not main_score(task).higher_is_better
        picture = curves(records, score=SENTENCES[task].capitalize(), errors=errors)
        report.heading("Learning").figure("compare-curves", picture, CURVES)
    _add_classes(report, results)
    _add_pairs(report, results)
    report.heading("Runs")
    for result in results:
        report.text(_origin(result))
    return report.write(directory, PAGE)


def _listed(names: Sequence[str]) -> str:
    """Return at most four names, or the first three and how many others."""
    shown, last = (names[:-1], names[-1]) if len(names) <= 4 else (names[:3], f"{len(names) - 3} others")
    return f"{', '.join(shown)} and {last}"


def _headline(results: Sequence[RunResult]) -> list[tuple[str, str, str]]:
    """Return the score of the best run, and the difference of each other run to the first."""
    main = main_score(results[0].task)
    best = best_first(results[0].task, [{**result.row, "name": result.name} for result in results])[0]
    cards = [(f"{float(best[main.key]):.1%}", str(best["name"]), f"the best {main.title}")]
    for other in results[1:5]:
        found = score_difference(results[0], other)
        limits = found.interval
        known = f"95 %: {limits.low:+.1f} to {limits.high:+.1f}" if limits else found.why
        cards.append((f"{found.points:+.1f}", f"points, {other.name} against {results[0].name}", known))
    return cards


def _bars(results: Sequence[RunResult]) -> Any:
    """Return the bars of the main score, best first, with intervals where scores by speaker are known."""
    task = results[0].task
    main = main_score(task)
    rows = best_first(task, [{**result.row, "name": result.name} for result in results])
    intervals = []
    for row in rows:
        found = interval(row.get("by_speaker") or {})
        ends = None if found is None else (found.low, found.high)
        intervals.append((1 - ends[1], 1 - ends[0]) if ends and not main.higher_is_better else ends)
    names = [str(row["name"]) for row in rows]
    return result_bars(
        names, {main.title: [number(row.get(main.key)) for row in rows]}, SENTENCES[task].capitalize(), intervals
    )


def _add_classes(report: Report, results: Sequence[RunResult]) -> None:
    """Add differences of recall and of confusions to the first run, for runs with the same classes."""
    first = results[0].row.get("per_class") or {}
    same = [other for other in results[1:] if first and list(other.row.get("per_class") or {}) == list(first)]
    if not same:
        return
    title = f"Recall of each class, compared with {results[0].name}"
    others = {other.name: other.row["per_class"] for other in same}
    report.heading("Classes").figure("compare-recall", recall_differences(first, others, title), RECALLS)
    for place, other in enumerate(same[:MAX_CONFUSIONS], start=1):
        matrices = [result.row.get("confusion") for result in (results[0], other)]
        if not all(matrices) or len(matrices[0]) != len(matrices[1]) or len(matrices[0]) != len(first):  # type: ignore[arg-type]
            continue
        names = (results[0].name, other.name)
        picture = confusion_difference(matrices[0], matrices[1], list(first), names)  # type: ignore[arg-type]
        report.figure(f"compare-confusion-{place}", picture, "On the diagonal red is better, elsewhere it is worse.")
    if len(same) > MAX_CONFUSIONS:
        report.text(f"Confusions of {len(same) - MAX_CONFUSIONS} further runs are not drawn.")


def _add_pairs(report: Report, results: Sequence[RunResult]) -> None:
    """Add the labels of sequences that the first run confuses most, with their counts in every run."""
    tables = []
    for result in results:
        pairs = result.row.get("confusions")
        listed = pairs if isinstance(pairs, list) else []
        tables.append({(str(p[0]), str(p[1])): p[2] for p in listed if isinstance(p, list) and len(p) == 3})
    if not any(tables):
        return
    kinds = ["substitutions", "insertions", "deletions"]
    rows: list[list[object]] = [[kind, "", *(result.row.get(kind) for result in results)] for kind in kinds]
    for (reference, guess), _ in sorted(tables[0].items(), key=lambda item: -float(item[1]))[:MAX_PAIRS]:
        counts = [table.get((reference, guess)) for table in tables]
        rows.append([reference or "(inserted)", guess or "(deleted)", *counts])
    report.heading("Errors").table(["reference", "hypothesis", *(result.name for result in results)], rows)
    report.text(f"The {MAX_PAIRS} most frequent errors of {results[0].name}; a dash is one that is rare in that run.")


def _origin(result: RunResult) -> str:
    """Return folder, command, commit, date and machine of a run."""
    made = result.row.get("made")
    if not made:
        return f"{result.name}: {result.folder}; its commit and machine are not known."
    return (
        f"{result.name}: {result.folder}; {made.get('command')}; commit {made.get('commit')}, {made.get('date')}; "
        f"{format_machine(made)}."
    )
