"""The sections of a classifier of frames: its labels beside the reference, its attention, and its mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from speechattn.data.labels.frame_labels import labels_to_segments
from speechattn.data.labels.segments import Segment
from speechattn.models.speech_model import SpeechModel
from speechattn.plots.alignment import phone_strips
from speechattn.plots.confusion import confusion, per_class_bars
from speechattn.plots.html_page import Report
from speechattn.plots.posteriors import posteriors
from speechattn.training.dataset import Example
from speechattn.training.report_sections.attention import add_attention
from speechattn.training.report_sections.examples import choose_examples, cut_transcript, example_title
from speechattn.training.report_sections.inputs import ReportInputs

STRIPS = {
    "phones": "Reference above, prediction below, in the colours of phone families; a red bar marks where they differ.",
    "words": "Reference above, prediction below; words without a class of their own are <OTHER>. A red bar marks where "
    "they differ.",
    "speech": "Reference above, prediction below; a red bar marks where they differ.",
}
"""The caption of the first strips, by labels."""
POSTERIORS = (
    "Rows that are bright at the same time are classes that the model confuses; a dark outline is a reference that it "
    "missed."
)
CONFUSION = "Off the diagonal, a row shows the classes that its class is confused with."
PER_CLASS = "Recall of each class; the number at the foot of a bar is its reference frames."


class Labels(NamedTuple):
    """What a model makes of an example: segments of the reference and of the prediction, and posteriors [T, C]."""

    reference: list[Segment]
    predicted: list[Segment]
    posteriors: Tensor


def add_first_picture(report: Report, inputs: ReportInputs) -> None:
    """Add the example whose length suits the page best."""
    for example in choose_examples(inputs)[:1]:
        _add_strips(report, inputs, example, "phones", STRIPS[inputs.config.labels])


def add_sections(report: Report, inputs: ReportInputs) -> None:
    """Add the attention in the first example, the mistakes in all of the validation data, and more examples."""
    examples = choose_examples(inputs)
    for example in examples[:1]:
        reference = predict(inputs.model, example).reference
        add_attention(report, inputs.model, example, reference, example_title(example))
    _add_mistakes(report, inputs, examples)
    if len(examples) > 1:
        report.heading("More examples")
        for place, example in enumerate(examples[1:], start=2):
            _add_strips(report, inputs, example, f"phones-{place}", "")


@torch.no_grad()
def predict(model: SpeechModel, example: Example) -> Labels:
    """Return the labels of an example and those that the model gives it."""
    framing, classes = model.config.framing, model.config.classes
    logits = model.classify(example.frames[None])[0][0]
    num_samples = example.utterance.num_samples
    reference = labels_to_segments(example.labels, framing, classes, num_samples)
    predicted = labels_to_segments(logits.argmax(1), framing, classes, num_samples)
    return Labels(reference, predicted, logits.float().softmax(1))


def _add_strips(report: Report, inputs: ReportInputs, example: Example, name: str, caption: str) -> None:
    """Add the log-mel of an example with reference and predicted labels."""
    model, labels = inputs.model, predict(inputs.model, example)
    log_mel = model.frontend.to_log_mel(example.frames)
    title = example_title(example)
    picture = phone_strips(
        log_mel, model.config.framing, labels.reference, labels.predicted, title, model.config.flavor
    )
    report.figure(name, picture, " ".join(filter(None, (cut_transcript(example), caption))))


def _add_mistakes(report: Report, inputs: ReportInputs, examples: Sequence[Example]) -> None:
    """Add the posteriors of the first example, and the confusions in all of the validation data."""
    report.heading("Mistakes")
    model, classes = inputs.model, inputs.task.classes
    for example in examples[:1]:
        labels = predict(model, example)
        title = f"Probability of each class: {example_title(example)}"
        picture = posteriors(labels.posteriors, classes, model.config.framing, labels.reference, title=title)
        report.figure("posteriors", picture, POSTERIORS)
    add_confusion(report, inputs.results, classes)


def add_confusion(report: Report, results: Sequence[Mapping[str, object]], classes: Sequence[str]) -> None:
    """Add the confusion matrix and the recall of each class of the run's own model."""
    own = results[0] if results else {}
    if "confusion" in own:
        report.figure("confusion", confusion(torch.tensor(own["confusion"]), classes), CONFUSION)
    recalls = own.get("per_class")
    if isinstance(recalls, Mapping):
        report.figure("classes", per_class_bars(dict(recalls)), PER_CLASS)
