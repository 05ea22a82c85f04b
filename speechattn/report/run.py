"""The page that a training run ends with: what it reached, what it heard, where it looked, what it mixes up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from speechattn import pictures
from speechattn.context import Context
from speechattn.framing import Framing
from speechattn.metrics import per_class
from speechattn.report.page import Report

COLUMNS = {
    "encoder": "encoder",
    "accuracy": "accuracy",
    "accuracy_no_sil": "without silence",
    "frames_per_s": "frames/s",
    "parameters": "parameters",
    "peak_memory_mb": "peak memory, MB",
    "seconds": "seconds",
}
"""Keys of a result and the names of their columns; further keys follow under their own name."""


def write_run_report(
    directory: str | Path,
    title: str,
    results: Sequence[Mapping[str, Any]],
    examples: Sequence[Mapping[str, Any]],
    records: Sequence[Mapping[str, Any]],
    confusion_matrix: ArrayLike,
    classes: Sequence[str],
    framing: Framing,
    context: Context | Sequence[Context] | None = None,
    notes: str | Sequence[str] = (),
    reach: str = "",
    flavor: str = "kaldi",
) -> Path:
    """Write `report.html` and its pictures into `directory`; returns the path of the page.

    Args:
        results: rows of the final table, **the run's own encoder first**: {"encoder", "accuracy",
            "accuracy_no_sil", "frames_per_s", "parameters", "peak_memory_mb", "seconds"}; keys may be missing.
        examples: utterances, the one to show first first: {"id", "transcript", "log_mel" [T, F],
            "reference" and "predicted" (segments in seconds), "posteriors" [T, C], "attention" (one [H, T, T] a
            layer, optional), "context" (a Context or one a layer, optional)}.
        records: what `metrics.read_metrics` gives.
        confusion_matrix: counts [C, C], reference in rows.
        classes: the C names of the classes.
        context: what a frame may see, for the whole stack or for each layer; None for encoders without attention.
        notes: closing paragraphs: data, command, versions.
        reach: what the encoder sees and waits for, as `Encoder.describe` prints it.
        flavor: of the log-mel, for its frequency axis.
    """
    report = Report(title)
    outside = _outside(examples, context)
    report.numbers(_headline(results, framing, outside))
    if examples:
        _strips(report, examples[0], framing, flavor, "phones")
    if results:
        report.heading("Results").table(*_table(results))
        report.figure("encoders", pictures.encoder_bars(results), "")
    if records:
        report.heading("Learning").figure("curves", pictures.curves(records), "")
    _attention(report, examples, context, outside, reach)
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
        numbers.append((f"{bare:.1%}", "without silence", "frames whose reference is a phone"))
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
        numbers.append((f"{max(outside):.2g}", "attention outside the band", "must be 0"))
    return numbers


def _number(row: Mapping[str, Any], key: str) -> float | None:
    """A finite number of a result, or None."""
    value = row.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _table(results: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[object]]]:
    """Header and rows of the final table, known columns first; a column that no row has a value for is left out."""
    keys = [*COLUMNS, *dict.fromkeys(key for row in results for key in row if key not in COLUMNS)]
    keys = [
        key for key in keys if any(isinstance(row.get(key), str) or _number(row, key) is not None for row in results)
    ]
    return [COLUMNS.get(key, key) for key in keys], [[row.get(key) for key in keys] for row in results]


def _strips(report: Report, example: Mapping[str, Any], framing: Framing, flavor: str, name: str) -> None:
    """The log-mel with reference and predicted phones of one example, its words as the caption."""
    picture = pictures.phone_strips(
        example["log_mel"], framing, example["reference"], example["predicted"], str(example["id"]), flavor
    )
    report.figure(name, picture, str(example.get("transcript") or ""))


def _layers(example: Mapping[str, Any], context: Context | Sequence[Context] | None) -> list[tuple[Any, Context]]:
    """(weights [H, T, T], Context) of each layer of an example; empty without attention or without a context."""
    weights = example.get("attention")
    own = example.get("context")
    own = context if own is None else own
    if weights is None or own is None:
        return []
    contexts = [own] * len(weights) if isinstance(own, Context) else list(own)
    return list(zip(weights, contexts, strict=True))


def _outside(examples: Sequence[Mapping[str, Any]], context: Context | Sequence[Context] | None) -> list[float]:
    """The largest mass outside the band of each layer, over all examples; NaN if there is one."""
    masses = [[pictures.mass_outside(*layer) for layer in _layers(example, context)] for example in examples]
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
        picture = pictures.posteriors(first["posteriors"], classes, framing, first["reference"], title=title)
        report.figure("posteriors", picture, "")
    counts = torch.as_tensor(confusion_matrix)
    report.figure("confusion", pictures.confusion(counts, classes), "")
    report.figure("classes", pictures.per_class_bars(per_class(counts, classes)), "")


def _attention(
    report: Report,
    examples: Sequence[Mapping[str, Any]],
    context: Context | Sequence[Context] | None,
    outside: Sequence[float],
    reach: str,
) -> None:
    """What a frame may see, and where the first and the last layer of the first example with attention looked."""
    if reach:
        report.heading("What a frame sees").code(reach)
    example = next((example for example in examples if _layers(example, context)), None)
    if example is None:
        return
    layers = _layers(example, context)
    report.heading("Attention")
    rows = [(str(n), str(layers[n - 1][1]), f"{mass:.2g}") for n, mass in enumerate(outside, start=1)]
    report.table(["layer", "context", "mass outside the band, all examples"], rows)
    for number in sorted({1, len(layers)}):
        title = f"{example['id']}, layer {number} of {len(layers)}"
        report.figure(f"attention-{number}", pictures.attention_band(*layers[number - 1], title), "")
        profile = pictures.attention_profile(*layers[number - 1], f"{title}: where heads look")
        report.figure(f"profile-{number}", profile, "")
