"""The data of the report of a run, computed from its model and results: examples, and the weights of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from speechattn.analysis.layers import layer_attention as layer_attention
from speechattn.data.labels.frame_labels import labels_to_segments
from speechattn.models.speech_model import SpeechModel
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import Example
from speechattn.training.made_alignments import FOLDER, makes_alignments
from speechattn.training.report_page import ATTENTION_S, write_run_report

EXAMPLE_S = 5.0
"""Utterances of about this length, in seconds, are shown."""

NUM_EXAMPLES = 3

TITLES = {"phones": "A phone for every frame", "words": "A word for every frame", "speech": "Speech or silence"}


def report_run(
    output: Path,
    config: TrainConfig,
    model: SpeechModel,
    valid: Sequence[Example],
    results: Sequence[dict[str, Any]],
    records: Sequence[dict[str, Any]],
    left_out: Sequence[str] = (),
) -> Path:
    """Write report.html and its pictures; return the path of the page. `left_out` has a paragraph for each subset."""
    return write_run_report(
        output,
        f"{TITLES[config.labels]}: {config.encoder} encoder on {_data_name(config)}",
        _rows(results),
        [describe_example(model, example) for example in _choose(valid, model.config.framing.frames_per_second)],
        records,
        torch.tensor(results[0]["confusion"]),
        model.config.classes,
        model.config.framing,
        _notes(config, left_out),
        description=model.describe(),
        flavor=model.config.flavor,
    )


def _data_name(config: TrainConfig) -> str:
    """Return what the title calls the data.

    Examples:
        >>> _data_name(TrainConfig(data="recordings/me", subset="."))
        'me'
    """
    if config.data == "synthetic":
        return "speech made with espeak-ng"
    return config.subset if config.subset != "." else Path(config.data).resolve().name


def _rows(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of the final table, last the most frequent class of the training data."""
    shown = ("encoder", "accuracy", "accuracy_no_sil", "frames_per_s", "parameters", "peak_memory_mb", "seconds")
    rows = []
    for result in results:
        row = {key: result[key] for key in shown}
        row.update({name: scores["accuracy"] for name, scores in result["tests"].items()})
        rows.append(row)
    baseline = results[0]["baseline"]
    last = {
        "encoder": f"always {baseline['label']}",
        "accuracy": baseline["accuracy"],
        "accuracy_no_sil": baseline["accuracy_no_sil"],
        **baseline["tests"],
    }
    return [*rows, last]


def _notes(config: TrainConfig, left_out: Sequence[str]) -> list[str]:
    """Return the closing paragraphs: how the run was made, and what was left out of each subset."""
    run = (
        f"Validation speakers are not in the training data. Epochs: {config.epochs}; seed: {config.seed}; threads: "
        f"{torch.get_num_threads()}; torch {torch.__version__}. All settings are in config.json."
    )
    labels = (
        "Labels were made by speechattn from the transcripts alone (forced alignment): accuracies are against them, "
        f"not against labels of people. They are in {FOLDER}/ of this run, with a score for each utterance."
    )
    lines = ("; ".join(line.strip() for line in summary.splitlines()) for summary in left_out)
    return [run, *([labels] if makes_alignments(config) else []), *(f"{line}. See skipped.jsonl." for line in lines)]


def _choose(examples: Sequence[Example], frames_per_second: float) -> list[Example]:
    """Return utterances of different speakers whose length is nearest to EXAMPLE_S, the nearest first."""
    ranked = sorted(examples, key=lambda example: abs(example.num_frames - EXAMPLE_S * frames_per_second))
    by_speaker = {example.speaker: example for example in reversed(ranked)}
    return [example for example in ranked if by_speaker[example.speaker] is example][:NUM_EXAMPLES]


@torch.no_grad()
def describe_example(model: SpeechModel, example: Example) -> dict[str, Any]:
    """Return the contents of the report for one utterance: frames, segments, posteriors, and weights of each layer."""
    framing, classes = model.config.framing, model.config.classes
    logits, _ = model.classify(example.frames[None])
    num_samples = example.utterance.num_samples
    return {
        "id": example.utterance.id,
        "transcript": example.utterance.utterance.transcript or "",
        "log_mel": model.frontend.to_log_mel(example.frames),
        "reference": labels_to_segments(example.labels, framing, classes, num_samples),
        "predicted": labels_to_segments(logits[0].argmax(1), framing, classes, num_samples),
        "posteriors": logits[0].float().softmax(1),
        "attention": layer_attention(model, example.frames[: round(ATTENTION_S * framing.frames_per_second)]),
    }
