"""The page that a training run ends with: what it reached, what it heard, where it looked, what it mixes up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from speechattn.context import Context
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
"""Keys of a result and the names of their columns; further keys are scores on other data, under their own name."""

CAPTIONS = {
    "phones": "A red bar marks where the prediction differs.",
    "encoders": "How far the first row is above the others is what its encoder is worth; pale bars leave out silence.",
    "curves": "A validation that still improves asks for more epochs, one that turns for fewer. Training frames are "
    "augmented, so training looks worse than it is.",
    "attention": "A level line is a head that looks a fixed distance away, as a tap of a convolution does; a falling "
    "line is a head that holds on to one moment while time passes.",
    "posteriors": "Rows that glow at the same time are what the model cannot decide between; a dark outline it missed.",
    "confusion": "Off the diagonal, a row shows what its class is taken for: mistakes inside one family sound alike.",
    "classes": "The lowest bars are where there is most to gain, if the number at their foot is not small.",
}
"""What to look at in each picture."""

ATTENTION_S = 3.0
"""Attention is shown over the first 3 s of an example: more, and a frame is no longer visible."""


class LayerAttention(NamedTuple):
    """What one layer attended to in the first ATTENTION_S seconds of an example.

    `weights` is [H, T, window] as `attention_weights` gives it, `outside` what `mass_outside` found.
    """

    context: Context
    weights: ArrayLike
    outside: float


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
    reach: str = "",
    flavor: str = "kaldi",
) -> Path:
    """Write `report.html` and its pictures into `directory`; returns the path of the page.

    Args:
        results: rows of the final table, **the run's own encoder first**: {"encoder", "accuracy",
            "accuracy_no_sil", "frames_per_s", "parameters", "peak_memory_mb", "seconds"}; keys may be missing.
        examples: utterances, the one to show first first: {"id", "transcript", "log_mel" [T, F],
            "reference" and "predicted" (segments in seconds), "posteriors" [T, C], "attention" (a LayerAttention for
            each layer that attends); the last two may be missing.
        records: what `metrics.read_metrics` gives.
        confusion_matrix: counts [C, C], reference in rows.
        classes: the C names of the classes.
        notes: closing paragraphs: data, command, versions.
        reach: what the encoder sees and waits for, as `Encoder.describe` prints it.
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
    _attention(report, examples, framing, flavor, outside, reach)
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
    """The big figures: accuracy, the distance to the next encoder, speed, size, and the mass outside the band."""
    if not results:
        return []
    own, others = results[0], [row for row in results[1:] if _number(row, "accuracy") is not None]
    name, accuracy, bare = str(own.get("encoder", "")), _number(own, "accuracy"), _number(own, "accuracy_no_sil")
    numbers = []
    if accuracy is not None:
        numbers.append((f"{accuracy:.1%}", "of frames right", name))
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
    """A finite number of a result, or None."""
    value = row.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _table(results: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[object]]]:
    """Header and rows of the final table, further scores after the accuracies; columns without a value are left out."""
    known, further = list(COLUMNS), dict.fromkeys(key for row in results for key in row if key not in COLUMNS)
    keys = [*known[:3], *further, *known[3:]]
    keys = [
        key for key in keys if any(isinstance(row.get(key), str) or _number(row, key) is not None for row in results)
    ]
    return [COLUMNS.get(key, key) for key in keys], [[row.get(key) for key in keys] for row in results]


def _strips(report: Report, example: Mapping[str, Any], framing: Framing, flavor: str, name: str) -> None:
    """The log-mel with reference and predicted phones of one example, its words as the caption."""
    picture = phone_strips(
        example["log_mel"], framing, example["reference"], example["predicted"], str(example["id"]), flavor
    )
    words = str(example.get("transcript") or "")
    report.figure(name, picture, ". ".join(filter(None, (words, CAPTIONS["phones"]))))


def _outside(examples: Sequence[Mapping[str, Any]]) -> list[float]:
    """The largest mass outside the window of each layer, over all examples; NaN if there is one."""
    masses = [[layer.outside for layer in example.get("attention", ())] for example in examples]
    return [float(np.max(column)) for column in zip(*(row for row in masses if row), strict=True)]


def _mistakes(
    report: Report,
    examples: Sequence[Mapping[str, Any]],
    confusion_matrix: ArrayLike,
    classes: Sequence[str],
    framing: Framing,
) -> None:
    """What the model hesitates about in the first example, and what it takes for what in all of the test."""
    report.heading("Mistakes")
    if examples and examples[0].get("posteriors") is not None:
        first = examples[0]
        title = f"{first['id']}: what the model holds possible"
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
    reach: str,
) -> None:
    """What a frame may see, and where the first and the last layer of the first example with attention looked."""
    if reach:
        report.heading("What a frame sees").code(reach)
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
        report.figure(f"attention-{number}", picture, CAPTIONS["attention"])
