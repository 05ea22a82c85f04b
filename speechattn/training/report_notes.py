"""The paragraphs of a report about data, method and origin: what a reader needs to judge its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechattn.framing import HOP_MS
from speechattn.training.config import TrainConfig
from speechattn.training.made_alignments import FOLDER, makes_alignments
from speechattn.training.provenance import format_machine
from speechattn.training.report_sections.inputs import ReportInputs
from speechattn.training.result_columns import UNITS


def data_name(config: TrainConfig) -> str:
    """Return what the title calls the data.

    Examples:
        >>> data_name(TrainConfig(data="recordings/me", subset="."))
        'me'
    """
    if config.data == "synthetic":
        return "speech made with espeak-ng"
    return config.subset if config.subset != "." else Path(config.data).resolve().name


def hours(part: Mapping[str, Any]) -> float:
    """Return the hours of one part of data.json."""
    return float(part["frames"]) * HOP_MS / 3_600_000


def format_hours(value: float) -> str:
    """Return hours as text, less than one in minutes.

    Examples:
        >>> format_hours(0.87), format_hours(100.6)
        ('52.2 min', '101 h')
    """
    return f"{60 * value:.1f} min" if value < 1 else f"{value:.3g} h"


def plural(count: int, name: str) -> str:
    """Return a count with its noun.

    Examples:
        >>> plural(1, "speaker"), plural(1200, "frame")
        ('1 speaker', '1,200 frames')
    """
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def notes(inputs: ReportInputs, data: Mapping[str, Any], left_out: Sequence[str]) -> list[str]:
    """Return the closing paragraphs: data, split, labels, settings, utterances left out, command, and machine."""
    config = inputs.config
    made = inputs.results[0].get("made") if inputs.results else None
    lines = ("; ".join(line.strip() for line in summary.splitlines()) for summary in left_out)
    return [
        *_data(inputs, data),
        _split(config),
        *_labels(config),
        f"Epochs: {config.epochs}; seed: {config.seed}. All settings are in config.json.",
        *(f"{line}. See skipped.jsonl." for line in lines),
        *_origin(made),
    ]


def _data(inputs: ReportInputs, data: Mapping[str, Any]) -> list[str]:
    """Return hours, utterances and speakers of each part of the data."""
    parts = [f"{_name(name)}: {_amount(part)}" for name, part in data.items() if name != "noise"]
    copies = (
        " Training utterances are counted with their copies at other speeds and in noise."
        if inputs.config.has_copies and not inputs.config.on_the_fly
        else ""
    )
    unit = UNITS[inputs.config.task]
    own = inputs.results[0].get(unit) if inputs.results else None
    scored = f" Scores are over {own:,} validation {unit}." if isinstance(own, int) else ""
    return [f"{'. '.join(parts)}.{copies}{scored}"] if parts else []


def _name(part: str) -> str:
    return {"train": "Training", "valid": "Validation"}.get(part, part.capitalize())


def _amount(part: Mapping[str, Any]) -> str:
    counts = f"{plural(part['utterances'], 'utterance')} of {plural(part['speakers'], 'speaker')}"
    return f"{format_hours(hours(part))}, {counts}"


def _split(config: TrainConfig) -> str:
    """Return who is in the validation data."""
    if config.split == "utterances":
        return "Validation speakers are in the training data, with other utterances: new speakers are harder."
    return "Validation speakers are not in the training data."


def _labels(config: TrainConfig) -> list[str]:
    if not makes_alignments(config):
        return []
    return [
        "Labels were made by speechattn from the transcripts alone (forced alignment): accuracies are against them, "
        f"not against labels of people. They are in {FOLDER}/ of this run, with a score for each utterance."
    ]


def _origin(made: Mapping[str, Any] | None) -> list[str]:
    """Return command, commit, date and machine of the run's own result."""
    if not made:
        return []
    return [
        f"Command: {made['command']}",
        f"Commit {made['commit']}, {made['date']}. {format_machine(made)}.",
    ]
