"""The sections of CTC: the hypothesis under its reference, spikes over time, mistakes, greedy beside beam search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from speechattn.data.labels.segments import IGNORE
from speechattn.data.labels.text_targets import target_text
from speechattn.errors import UserError
from speechattn.models.heads import CTC
from speechattn.models.speech_model import SpeechModel
from speechattn.plots.ctc_spikes import ctc_spikes
from speechattn.plots.edit_rows import edit_rows
from speechattn.plots.html_page import Report
from speechattn.training.dataset import Example
from speechattn.training.report_sections.examples import choose_examples, example_title
from speechattn.training.report_sections.inputs import ReportInputs
from speechattn.training.tasks.ctc import CTCTask
from speechattn.training.tasks.ctc_decoders import BeamSettings, DecoderComparison
from speechattn.training.tasks.ctc_scores import Edit, ErrorCounts, align

MAX_UTTERANCES = 100
"""Validation utterances that beam search decodes for the report."""
MAX_CONFUSIONS = 15
ROWS = (
    "The model's labels under the reference, aligned with the fewest errors. Red: another label, one too many, or one "
    "that is missing; a dash is no label."
)
SPIKES = (
    "CTC has no times to learn from. The model decides for a label in a frame or two, and gives the blank (grey) "
    "elsewhere; so a spike marks a label, not its duration."
)


class Decoded(NamedTuple):
    """Reference and best path of an example, as labels, and the posteriors [T, C]."""

    reference: list[str]
    hypothesis: list[str]
    posteriors: Tensor


def add_first_picture(report: Report, inputs: ReportInputs) -> None:
    """Add reference and hypothesis of the example whose length suits the page best."""
    for example in choose_examples(inputs)[:1]:
        _add_rows(report, inputs, example, "alignment", ROWS)


def add_sections(report: Report, inputs: ReportInputs) -> None:
    """Add spikes, decoders, mistakes and more examples."""
    examples = choose_examples(inputs)
    model = inputs.model
    for example in examples[:1]:
        report.heading("Spikes")
        log_mel = model.frontend.to_log_mel(example.frames)
        found = decode(model, example)
        classes = [" " if name == "|" else name for name in model.config.classes]
        stack, flavor = model.config.encoder.stack, model.config.flavor
        title = example_title(example)
        picture = ctc_spikes(log_mel, found.posteriors, classes, model.config.framing, stack, title, flavor)
        report.figure("spikes", picture, SPIKES)
    _add_decoders(report, inputs)
    _add_mistakes(report, inputs.results)
    if len(examples) > 1:
        report.heading("More examples")
        for place, example in enumerate(examples[1:], start=2):
            _add_rows(report, inputs, example, f"alignment-{place}", "")


@torch.no_grad()
def decode(model: SpeechModel, example: Example) -> Decoded:
    """Return the best path of an example beside its reference."""
    log_probs, lengths = model.classify(example.frames[None])
    names = model.config.classes
    labels = example.labels[example.labels != IGNORE].tolist()
    best = CTC.decode(log_probs, lengths)[0]
    return Decoded([names[index] for index in labels], [names[index] for index in best], log_probs[0].float().exp())


def _add_rows(report: Report, inputs: ReportInputs, example: Example, name: str, caption: str) -> None:
    """Add the alignment of the hypothesis with its reference."""
    found = decode(inputs.model, example)
    counts = ErrorCounts()
    counts.add(found.reference, found.hypothesis)
    kind = inputs.config.labels.removesuffix("s")
    note = f"{kind} error rate {counts.error_rate:.1%}: {counts.errors} errors, {counts.labels} in the reference"
    if kind == "character":
        note += f"   model: \u201c{_cut(target_text(found.hypothesis))}\u201d"
    pairs = [Edit(*("\u2423" if label == "|" else label for label in edit)) for edit in align(*found[:2])]
    columns = 76 if kind == "character" else 44
    report.figure(name, edit_rows(pairs, example_title(example), note, columns), caption)


def _cut(text: str, size: int = 90) -> str:
    return text if len(text) <= size else text[: size - 4].rpartition(" ")[0] + " ..."


def _add_decoders(report: Report, inputs: ReportInputs) -> None:
    """Add the error rates of greedy decoding and of beam search, or what is missing for it."""
    if not isinstance(inputs.task, CTCTask) or not len(inputs.valid):
        return
    report.heading("Greedy and beam search")
    settings = BeamSettings()
    ngram = inputs.task.ngram(inputs.config.subset, {example.utterance.id for example in inputs.valid}, settings.order)
    try:
        comparison = DecoderComparison(inputs.task.classes, ngram, settings)
    except UserError as error:
        report.text(f"Not compared: {error}")
        return
    shown = min(MAX_UTTERANCES, len(inputs.valid))
    rows = comparison.add(inputs.model, islice(inputs.valid, shown)).rows()
    report.table([key.replace("_", " ") for key in rows[0]], [list(row.values()) for row in rows])
    report.text(
        f"{shown} validation utterances. The {settings.order}-gram is of the training targets: weight "
        f"{settings.ngram_weight:g}, bonus {settings.label_bonus:g} nats a label. Seconds are of the decoder alone."
    )


def _add_mistakes(report: Report, results: Sequence[Mapping[str, Any]]) -> None:
    """Add the kinds of errors of each encoder, and the most frequent confusions of the run's own."""
    counted = [row for row in results if "substitutions" in row]
    if not counted:
        return
    report.heading("Mistakes")
    keys = [key for key in ("error_rate", "word_error_rate", "substitutions", "insertions", "deletions", "labels")]
    keys = [key for key in keys if key in counted[0]]
    rows = [[row["encoder"], *(row.get(key) for key in keys)] for row in counted]
    report.table(["encoder", *(key.replace("_", " ") for key in keys)], rows)
    confusions = counted[0].get("confusions", [])[:MAX_CONFUSIONS]
    if confusions:
        report.text("The most frequent mistakes of the run's own model:")
        shown = [[reference or "(nothing)", found or "(nothing)", count] for reference, found, count in confusions]
        report.table(["reference", "model", "times"], shown)
