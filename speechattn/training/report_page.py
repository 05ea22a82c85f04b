"""The HTML page of a training run: what the reports of all tasks share; `report_sections/` has the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechattn.plots.html_page import Report
from speechattn.plots.learning_curves import curves, has_curves
from speechattn.plots.result_bars import result_bars
from speechattn.training.encoder_costs import AUDIO_S, encoder_costs
from speechattn.training.report_notes import data_name, format_hours, hours, notes, plural
from speechattn.training.report_sections import ctc, frames, utterance
from speechattn.training.report_sections.inputs import ReportInputs
from speechattn.training.result_columns import (
    SCORES,
    SENTENCES,
    Column,
    best_first,
    cost_columns,
    main_score,
    number,
    score_columns,
    subset_columns,
    with_tests,
)
from speechattn.training.run_folder import read_object

TITLES = {
    "phones": "A phone for every frame",
    "words": "A word for every frame",
    "speech": "Speech or silence",
    "classes": "A class for every utterance",
    "speakers": "A speaker for every utterance",
    "characters": "Characters of an utterance",
}
CTC_TITLES = {"phones": "Phones of an utterance"}
FIRST_PICTURES: dict[str, Callable[[Report, ReportInputs], None]] = {
    "frames": frames.add_first_picture,
    "utterance": utterance.add_first_picture,
    "ctc": ctc.add_first_picture,
}
SECTIONS: dict[str, Callable[[Report, ReportInputs], None]] = {
    "frames": frames.add_sections,
    "utterance": utterance.add_sections,
    "ctc": ctc.add_sections,
}
CURVES = (
    "If validation still improves at the end, more epochs help; if it gets worse, fewer do. Training frames are "
    "augmented, so the training loss is higher than on plain frames. A point of training is the mean of the steps "
    "since the last point."
)


def report_run(directory: Path, inputs: ReportInputs, left_out: Sequence[str] = ()) -> Path:
    """Write report.html and its pictures; return the path of the page.

    Args:
        directory: folder of the run; hours and speakers are read from its data.json.
        inputs: settings, model, examples and numbers of the run.
        left_out: a paragraph for each subset of which utterances were left out.
    """
    path = directory / "data.json"
    data = read_object(path) if path.exists() else {}
    report = Report(page_title(inputs))
    report.numbers(headline(inputs, data))
    FIRST_PICTURES[inputs.task.name](report, inputs)
    _add_results(report, inputs)
    if has_curves(inputs.records):
        score, errors = SENTENCES[inputs.task.name].capitalize(), not main_score(inputs.task.name).higher_is_better
        report.heading("Learning").figure("curves", curves(inputs.records, score=score, errors=errors), CURVES)
    report.heading("Context and latency").code(inputs.model.describe())
    SECTIONS[inputs.task.name](report, inputs)
    report.heading("Notes")
    for paragraph in notes(inputs, data, left_out):
        report.text(paragraph)
    return report.write(directory)


def page_title(inputs: ReportInputs) -> str:
    """Return the heading of the page: task, encoder and data."""
    config = inputs.config
    title = CTC_TITLES.get(config.labels, TITLES[config.labels]) if config.task == "ctc" else TITLES[config.labels]
    return f"{title}: {config.encoder} encoder on {data_name(config)}"


def headline(inputs: ReportInputs, data: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the headline numbers: scores, lead over the next encoder, latency, data, size and speed."""
    if not inputs.results:
        return []
    task, own = inputs.task.name, inputs.results[0]
    main = main_score(task)
    cards = [_score_card(column, own, task) for column in score_columns(task, [own])]
    others = [row for row in best_first(task, inputs.results[1:]) if number(row.get(main.key)) is not None]
    score = number(own.get(main.key))
    if score is not None and others:
        cards.append(_lead(main, own, others[0]))
    if task != "utterance" and inputs.model.is_described:
        latency = encoder_costs(inputs.config, inputs.config.encoder)["latency_ms"]
        if latency is not None:
            unlimited = math.isinf(latency)
            remark = "waits for the end of the recording" if unlimited else "longest wait of a frame for later audio"
            cards.append(("no limit" if unlimited else f"{latency:,.0f} ms", "latency", remark))
    if "train" in data:
        train = data["train"]
        cards.append((format_hours(hours(train)), "of training speech", plural(train["speakers"], "speaker")))
    return [*cards, *_size_and_speed(own, inputs.model.config.framing.frames_per_second)]


def _score_card(column: Column, own: Mapping[str, Any], task: str) -> tuple[str, str, str]:
    value = number(own.get(column.key)) or 0.0
    remark = {
        "accuracy": str(own.get("encoder", "")),
        "accuracy_no_sil": "frames whose reference is not silence",
        "error_rate": f"{own.get('encoder', '')}; lower is better",
    }.get(column.key, "lower is better")
    name = SENTENCES[task] if column.key == "accuracy" else column.title
    return f"{value:.1%}", name, remark


def _lead(main: Column, own: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return how far the run's own encoder is ahead of the best other one, and what that one had."""
    difference = 100 * (float(own[main.key]) - float(other[main.key]))
    name = str(other.get("encoder", "the next"))
    side = "above" if difference >= 0 else "below"
    return f"{abs(difference):.1f}", f"points {side} {name}", f"{name} has {float(other[main.key]):.1%}"


def _size_and_speed(own: Mapping[str, Any], frames_per_second: float) -> list[tuple[str, str, str]]:
    cards = []
    parameters, speed = number(own.get("parameters")), number(own.get("frames_per_s"))
    if parameters is not None:
        size = f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters:,.0f}"
        fast = f"; {speed / frames_per_second:,.0f}x real time" if speed else ""
        cards.append((size, "parameters", f"encoder and head{fast}"))
    return cards


def result_rows(inputs: ReportInputs) -> list[dict[str, Any]]:
    """Return the rows of the final table, best first: results with costs, and last the most frequent class."""
    task, config = inputs.task.name, inputs.config
    rows = []
    for place, result in enumerate(inputs.results):
        kind = result["encoder"]
        described = place > 0 or inputs.model.is_described
        costs = encoder_costs(config, kind) if described else {}
        rows.append({**with_tests(task, result), **costs})
    found = [dict(row) for row in best_first(task, rows)]
    baseline = inputs.results[0].get("baseline") if inputs.results else None
    if not baseline:
        return found
    tests = {f"tests/{name}": accuracy for name, accuracy in (baseline.get("tests") or {}).items()}
    scores = {key: value for key, value in baseline.items() if key not in ("label", "tests")}
    return [*found, {"encoder": f"always {baseline['label']}", **scores, **tests}]


def _add_results(report: Report, inputs: ReportInputs) -> None:
    """Add the table and the bars of all encoders, and what the columns are."""
    if not inputs.results:
        return
    task, rows = inputs.task.name, result_rows(inputs)
    columns = [*score_columns(task, rows), *subset_columns(task, inputs.results), *cost_columns(rows)]
    report.heading("Results")
    header = ["encoder", *(column.title for column in columns)]
    cells = [[str(row["encoder"]), *(column.text(row) for column in columns)] for row in rows]
    report.table(header, cells, right=range(1, len(header)))
    report.text(" ".join(_explained(inputs, [column.key for column in columns])))
    shown = SCORES[task][: 2 if task == "frames" else 1]
    series = {column.title: [number(row.get(column.key)) for row in rows] for column in shown}
    picture = result_bars(
        [str(row["encoder"]) for row in rows], series, f"{SENTENCES[task].capitalize()} of each encoder"
    )
    better = "higher" if main_score(task).higher_is_better else "lower"
    report.figure("encoders", picture, f"Validation data, as in the table; {better} is better.")


def _explained(inputs: ReportInputs, keys: Sequence[str]) -> list[str]:
    """Return a sentence for each column that needs one."""
    name = main_score(inputs.task.name).title
    validation = "utterances" if inputs.config.split == "utterances" else "speakers"
    found = [f"Scores are those of the validation {validation}; all encoders had the same data."]
    tests = [key.removeprefix("tests/") for key in keys if key.startswith("tests/")]
    if tests:
        whose = "is the subset of that name" if len(tests) == 1 else "are the subsets of these names"
        found.append(f"{', '.join(tests)}: {name} on speakers in neither training nor validation data; it {whose}.")
    sentences = {
        "accuracy_no_sil": "Without silence: only frames whose reference is not silence.",
        "latency_ms": "Latency: the most audio after a frame that its output waits for.",
        "memory_mb": f"Memory: weights and the largest tensors of a pass over {AUDIO_S:g} s of audio, by the planner; "
        "a dash is an encoder that it does not know.",
        "frames_per_s": "Frames/s: encoder and head, one utterance at a time.",
        "seconds": "Training: time in training steps.",
    }
    return [*found, *(text for key, text in sentences.items() if key in keys)]
