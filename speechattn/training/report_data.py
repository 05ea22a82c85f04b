"""The end of a run: its table in the terminal and its page of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechattn.attention.functional import attention, attention_weights
from speechattn.data.labels.frame_labels import labels_to_segments
from speechattn.encoder.self_attention import SelfAttention
from speechattn.models.speech_model import SpeechModel
from speechattn.plots.attention_weights import mass_outside
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import Example
from speechattn.training.report_page import ATTENTION_S, LayerAttention, write_run_report

EXAMPLE_S = 5.0
"""Utterances of about this length are shown."""

NUM_EXAMPLES = 3
MOST_CLASSES = 50
"""Classes whose accuracy is printed: all phones, and the most frequent of many words."""

A_FRAME = {"phones": "A phone for every frame", "words": "A word for every frame", "speech": "Speech or silence"}


def print_table(results: Sequence[dict[str, Any]]) -> None:
    """The final table of a run, and the accuracy of its own encoder per class."""
    header, rows = summary_table(results)
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    print()
    for row in [header, *rows]:
        print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    per_class = sorted(results[0]["per_class"].items(), key=lambda item: -item[1][1])
    heard = [(name, share) for name, (share, count) in per_class if count][:MOST_CLASSES]
    width = max((len(name) for name, _ in heard), default=0)
    cells = [f"{name:>{width}} {share:.2f}" for name, share in heard]
    print(f"\naccuracy per class of {results[0]['encoder']}, most frequent first:")
    for begin in range(0, len(cells), 10):
        print("  " + "  ".join(cells[begin : begin + 10]))


def summary_table(results: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and rows as text: one row an encoder, and what the most frequent class of the training would reach."""
    tests = list(results[0]["tests"])
    header = ["encoder", "accuracy", "without SIL", *tests, "parameters", "train frames/s", "frames/s", "peak MB", "s"]
    rows = [
        [
            result["encoder"],
            f"{result['accuracy']:.4f}",
            f"{result['accuracy_no_sil']:.4f}",
            *(f"{result['tests'][name]['accuracy']:.4f}" for name in tests),
            f"{result['parameters']:,}",
            f"{result['train_frames_per_s']:,.0f}",
            f"{result['frames_per_s']:,.0f}",
            f"{result['peak_memory_mb']:,.0f}",
            f"{result['seconds']:,.0f}",
        ]
        for result in results
    ]
    floor = results[0]["baseline"]
    shares = [floor["accuracy"], floor["accuracy_no_sil"], *(floor["tests"][name] for name in tests)]
    last = [f"always {floor['label']}", *(f"{share:.4f}" for share in shares)]
    return header, [*rows, last + [""] * (len(header) - len(last))]


def report_run(
    output: Path,
    config: TrainConfig,
    model: SpeechModel,
    valid: Sequence[Example],
    results: Sequence[dict[str, Any]],
    records: Sequence[dict[str, Any]],
    left_out: Sequence[str] = (),
) -> Path:
    """Write report.html and its pictures; returns the page's path. `left_out` says what was, a paragraph a subset."""
    shown = ("encoder", "accuracy", "accuracy_no_sil", "frames_per_s", "parameters", "peak_memory_mb", "seconds")
    rows = []
    for result in results:
        row = {key: result[key] for key in shown}
        row.update({name: scores["accuracy"] for name, scores in result["tests"].items()})
        rows.append(row)
    floor = results[0]["baseline"]
    rows.append(
        {
            "encoder": f"always {floor['label']}",
            "accuracy": floor["accuracy"],
            "accuracy_no_sil": floor["accuracy_no_sil"],
            **floor["tests"],
        }
    )
    data = "speech made with espeak-ng" if config.data == "synthetic" else config.subset
    return write_run_report(
        output,
        f"{A_FRAME[config.labels]}: {config.encoder} encoder on {data}",
        rows,
        [describe_example(model, example) for example in _choose(valid, model.config.framing.frames_per_second)],
        records,
        torch.tensor(results[0]["confusion"]),
        model.config.classes,
        model.config.framing,
        [
            f"Validated on speakers that were not trained on. {config.epochs} epochs, seed {config.seed}, torch "
            f"{torch.__version__}, {torch.get_num_threads()} threads; all settings are in config.json.",
            *(
                f"{'; '.join(line.strip() for line in summary.splitlines())}. See skipped.jsonl."
                for summary in left_out
            ),
        ],
        reach=model.describe(),
        flavor=model.config.flavor,
    )


def _choose(examples: Sequence[Example], frames_per_second: float) -> list[Example]:
    """A few utterances of different speakers, neither very short nor very long, the most typical first."""
    ranked = sorted(examples, key=lambda example: abs(len(example.labels) - EXAMPLE_S * frames_per_second))
    by_speaker = {example.utterance.speaker: example for example in reversed(ranked)}
    return [example for example in ranked if by_speaker[example.utterance.speaker] is example][:NUM_EXAMPLES]


@torch.no_grad()
def describe_example(model: SpeechModel, example: Example) -> dict[str, Any]:
    """What the report shows of one utterance: frames, segments, posteriors, and the weights of each layer."""
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


@torch.no_grad()
def layer_attention(model: SpeechModel, frames: Tensor) -> list[LayerAttention]:
    """What each attention layer of `model` does with frames [T, F], next to the input first; none is an empty list.

    Whether anything lies outside the window is found by attending to an identity matrix in place of the values: the
    output is the [H, T, T] weights that the layer really uses, whichever backend computes them.
    """
    found: list[LayerAttention] = []

    def read(layer: SelfAttention, inputs: tuple[Tensor, ...]) -> None:
        q, k, _ = layer.project(inputs[0])
        identity = torch.eye(q.shape[2], dtype=q.dtype, device=q.device).expand(*q.shape[:3], q.shape[2])
        context, bias = layer.context, layer.bias(layer.context, q.shape[2])
        used = attention(q, k, identity, context, activation=layer.activation, relative_bias=bias)
        weights = attention_weights(q, k, context, activation=layer.activation, relative_bias=bias)
        found.append(LayerAttention(context, weights[0], mass_outside(used[0], context)))

    layers = [module for module in model.encoder.modules() if isinstance(module, SelfAttention)]
    hooks = [layer.register_forward_pre_hook(read) for layer in layers]
    try:
        model.classify(frames[None])
    finally:
        for hook in hooks:
            hook.remove()
    return found
