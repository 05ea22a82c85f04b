"""The HTML page of a training run: scores, examples, learning curves, attention weights and confusions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from speechattn.analysis.layers import LayerAttention as LayerAttention
from speechattn.framing import Framing
from speechattn.plots.alignment import phone_strips
from speechattn.plots.attention_weights import attention_heads
from speechattn.plots.confusion import confusion, encoder_bars, per_class_bars
from speechattn.plots.html_page import Report
from speechattn.plots.learning_curves import curves, has_curves
from speechattn.plots.posteriors import posteriors
from speechattn.training.metrics import per_class

COLUMNS = {
    "encoder": "encoder",
    "accuracy": "accuracy",
    "accuracy_no_sil": "without silence",
    "frames_per_s": "frames/s",
    "parameters": "parameters",
    "peak_memory_mb": "peak memory, MB",
    "seconds": "seconds",
}
"""Keys of a result and the titles of their columns; further keys are accuracies on test subsets, under their name."""

CAPTIONS = {
    "phones": "A red bar marks where the prediction differs.",
    "encoders": "Accuracy on held-out speakers. Every encoder had the same data and epochs; pale bars exclude silence.",
    "curves": "If validation still improves at the end, more epochs help; if it gets worse, fewer do. Training frames "
    "are augmented, so the training loss is higher than on plain frames.",
    "attention": "A horizontal line is a head that attends at a fixed distance, like a tap of a convolution; a falling "
    "line is a head that keeps attending to one moment.",
    "posteriors": "Rows that are bright at the same time are classes that the model confuses; a dark outline is a "
    "reference that it missed.",
    "confusion": "Off the diagonal, a row shows the classes that its class is confused with.",
    "classes": "Recall of each class; the number at the foot of a bar is its reference frames.",
}
"""The caption of each picture."""

ATTENTION_S = 3.0
"""Seconds of an example whose attention is drawn; in longer ones a frame would be less than a pixel wide."""


def write_run_report(
    directory: str | Path,
    title: str,
    results: Sequence[Mapping[str, Any]],
    examples: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    confusion_matrix: ArrayLike,
    classes: Sequence[str],
    framing: Framing,
    notes: str | Sequence[str] = (),
    description: str = "",
    flavor: str = "kaldi",
) -> Path:
    """Write `report.html` and its pictures into `directory`; return the path of the page.

    Args:
        directory: folder of the run.
        title: heading of the page.
        results: rows of the final table, **the run's own encoder first**: {"encoder", "accuracy",
            "accuracy_no_sil", "frames_per_s", "parameters", "peak_memory_mb", "seconds"}; keys may be missing.
        examples: utterances, the one to show first first: {"id", "transcript", "log_mel" [T, F],
            "reference" and "predicted" (segments in seconds), "posteriors" [T, C], "attention" (a LayerAttention for
            each layer that attends); the last two may be missing.
        records: the records of the run, as `run_log.read_metrics` returns them.
        confusion_matrix: counts [C, C], reference in rows.
        classes: the C names of the classes.
        framing: the frames of the examples.
        notes: closing paragraphs: data, command, versions.
        description: context and latency of the encoder, as `SpeechModel.describe` returns them.
        flavor: of the log-mel, for its frequency axis.
    """
    report = Report(title)
    outside = _outside(examples)
    report.numbers(_headline(results, framing, outside))
    if examples:
        _strips(report, examples[0], framing, flavor, "phones")
    if results:
        report.heading("Results").table(*_table(results))
        report.figure("encoders", encoder_bars(results), CAPTIONS["encoders"])
    if has_curves(records):
        report.heading("Learning").figure("curves", curves(records), CAPTIONS["curves"])
    _attention(report, examples, framing, flavor, outside, description)
    _mistakes(report, examples, confusion_matrix, classes, framing)
    if len(examples) > 1:
        report.heading("More examples")
        for number, example in enumerate(examples[1:], start=2):
            _strips(report, example, framing, flavor, f"phones-{number}")
    paragraphs = [notes] if isinstance(notes, str) else list(notes)
    if any(paragraphs):
        report.heading("Notes")
        for paragraph in paragraphs:
            report.text(paragraph)
    return report.write(directory)


def _headline(
    results: Sequence[Mapping[str, Any]], framing: Framing, outside: Sequence[float]
) -> list[tuple[str, str, str]]:
    """Return the headline numbers: accuracy, lead over the next encoder, speed, size, mass outside the window."""
    if not results:
        return []
    own, others = results[0], [row for row in results[1:] if _number(row, "accuracy") is not None]
    name, accuracy, bare = str(own.get("encoder", "")), _number(own, "accuracy"), _number(own, "accuracy_no_sil")
    numbers = []
    if accuracy is not None:
        numbers.append((f"{accuracy:.1%}", "frame accuracy", name))
    if bare is not None:
        numbers.append((f"{bare:.1%}", "without silence", "frames whose reference is not silence"))
    if accuracy is not None and others:
        best = max(others, key=lambda row: float(row["accuracy"]))
        gain = 100 * (accuracy - float(best["accuracy"]))
        what = f"points {'above' if gain >= 0 else 'below'} {best.get('encoder', 'the next')}"
        numbers.append((f"{abs(gain):.1f}", what, f"{best['accuracy']:.1%}"))
    speed, parameters = _number(own, "frames_per_s"), _number(own, "parameters")
    if speed is not None:
        times = f"{speed / framing.frames_per_second:,.0f}x"
        numbers.append((times, "real time", f"{speed:,.0f} frames/s, frames in memory"))
    if parameters is not None:
        size = f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters:,.0f}"
        numbers.append((size, "parameters", ""))
    if outside:
        numbers.append((f"{max(outside):.2g}", "attention outside the window", "must be 0"))
    return numbers


def _number(row: Mapping[str, Any], key: str) -> float | None:
    """Return a finite number of a result, or None."""
    value = row.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _table(results: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[object]]]:
    """Return header and rows of the final table, accuracies on test subsets third; empty columns are left out."""
    known, further = list(COLUMNS), dict.fromkeys(key for row in results for key in row if key not in COLUMNS)
    keys = [*known[:3], *further, *known[3:]]
    keys = [
        key for key in keys if any(isinstance(row.get(key), str) or _number(row, key) is not None for row in results)
    ]
    return [COLUMNS.get(key, key) for key in keys], [[row.get(key) for key in keys] for row in results]


def _strips(report: Report, example: Mapping[str, Any], framing: Framing, flavor: str, name: str) -> None:
    """Add the log-mel with reference and predicted phones of one example, its transcript as the caption."""
    picture = phone_strips(
        example["log_mel"], framing, example["reference"], example["predicted"], str(example["id"]), flavor
    )
    transcript = str(example.get("transcript") or "").rstrip(".")
    report.figure(name, picture, ". ".join(filter(None, (transcript, CAPTIONS["phones"]))))


def _outside(examples: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the largest mass outside the window of each layer, over all examples; NaN if there is one."""
    masses = [[layer.outside for layer in example.get("attention", ())] for example in examples]
    return [float(np.max(column)) for column in zip(*(row for row in masses if row), strict=True)]


def _mistakes(
    report: Report,
    examples: Sequence[Mapping[str, Any]],
    confusion_matrix: ArrayLike,
    classes: Sequence[str],
    framing: Framing,
) -> None:
    """Add the posteriors of the first example, and the confusions in all of the validation data."""
    report.heading("Mistakes")
    if examples and examples[0].get("posteriors") is not None:
        first = examples[0]
        title = f"{first['id']}: posteriors"
        picture = posteriors(first["posteriors"], classes, framing, first["reference"], title=title)
        report.figure("posteriors", picture, CAPTIONS["posteriors"])
    counts = torch.as_tensor(confusion_matrix)
    report.figure("confusion", confusion(counts, classes), CAPTIONS["confusion"])
    report.figure("classes", per_class_bars(per_class(counts, classes)), CAPTIONS["classes"])


def _attention(
    report: Report,
    examples: Sequence[Mapping[str, Any]],
    framing: Framing,
    flavor: str,
    outside: Sequence[float],
    description: str,
) -> None:
    """Add the context of the encoder, and the attention of its first and last layer in one example."""
    if description:
        report.heading("Context and latency").code(description)
    example = next((example for example in examples if example.get("attention")), None)
    if example is None:
        return
    layers: Sequence[LayerAttention] = example["attention"]
    report.heading("Attention")
    rows = [(str(n), str(layers[n - 1].context), f"{mass:.2g}") for n, mass in enumerate(outside, start=1)]
    report.table(["layer", "context", "mass outside the window, all examples"], rows)
    mel = example["log_mel"][: round(ATTENTION_S * framing.frames_per_second)]
    for number in sorted({1, len(layers)}):
        context, weights, mass = layers[number - 1]
        title = f"{example['id']}, layer {number} of {len(layers)}"
        picture = attention_heads(weights, context, mel, framing, example["reference"], title, mass, flavor)
        caption = CAPTIONS["attention"] if number == 1 else _last_layer(len(layers))
        report.figure(f"attention-{number}", picture, caption)


def _last_layer(num_layers: int) -> str:
    hidden = {2: "", 3: "; layer 2 is not drawn"}.get(num_layers, f"; layers 2 to {num_layers - 1} are not drawn")
    return f"The last of {num_layers} layers{hidden}."
