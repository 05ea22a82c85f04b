"""The sections of a classifier of utterances: where its pooling looks, what it confuses, and its surest mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from speechattn.models.heads import UtteranceClassifier
from speechattn.models.speech_model import SpeechModel
from speechattn.plots.confusion import confusion, per_class_bars
from speechattn.plots.html_page import Report
from speechattn.plots.pooling_weights import PooledRecording, pooling_weights
from speechattn.training.dataset import Example
from speechattn.training.report_sections.inputs import ReportInputs

NUM_RECORDINGS = 6
"""Recordings in the picture of the pooling."""
MAX_SECONDS = 4.0
"""Longer recordings are left out of that picture, if there are shorter ones: a frame would be less than a pixel."""
MAX_MISTAKES = 12
"""Rows in the table of mistakes."""

POOLING = {
    "attention": "Each frame's weight is learned. Frames that tell the classes apart should weigh more than silence.",
    "mean": "Every frame has the same weight: silence counts as speech does. --pooling attention learns weights.",
}
"""The caption of the first picture, by pooling."""


class Prediction(NamedTuple):
    """What a model makes of an example: reference, best class, their probabilities, and the pooling's weights [T]."""

    example: Example
    reference: int
    predicted: int
    probability: float
    reference_probability: float
    weights: Tensor | None
    """None for a head of another class."""

    @property
    def is_wrong(self) -> bool:
        """Whether the best class is not the reference."""
        return self.reference != self.predicted


@torch.no_grad()
def predict(model: SpeechModel, example: Example) -> Prediction:
    """Return the prediction for an example."""
    frames = model.normalize(example.frames[None].float()).to(next(model.encoder.parameters()).dtype)
    hidden, lengths = model.encoder(frames, None)
    posteriors = model.head(hidden, lengths)[0].float().softmax(0)
    weights = model.head.weights(hidden, lengths)[0] if isinstance(model.head, UtteranceClassifier) else None
    reference, predicted = int(example.labels[0]), int(posteriors.argmax())
    return Prediction(
        example, reference, predicted, float(posteriors[predicted]), float(posteriors[reference]), weights
    )


def add_first_picture(report: Report, inputs: ReportInputs) -> None:
    """Add where the pooling looks in recordings of different classes and speakers."""
    predictions = [predict(inputs.model, example) for example in _choose(inputs)]
    shown = [prediction for prediction in predictions if prediction.weights is not None]
    if not shown:
        return
    model, classes = inputs.model, inputs.task.classes
    recordings = [
        PooledRecording(
            _title(prediction, classes),
            model.frontend.to_log_mel(prediction.example.frames),
            prediction.weights,
            prediction.is_wrong,
        )
        for prediction in shown
        if prediction.weights is not None
    ]
    title = f"Where {model.config.pooling} pooling looks: held-out recordings"
    picture = pooling_weights(recordings, model.config.framing, title, model.config.flavor)
    report.figure("pooling", picture, POOLING[model.config.pooling])


def add_sections(report: Report, inputs: ReportInputs) -> None:
    """Add the confusions in all of the validation data, the recall of each class, and the surest mistakes."""
    report.heading("Mistakes")
    own, classes = inputs.results[0], inputs.task.classes
    picture = confusion(torch.tensor(own["confusion"]), classes, "Confusion", unit="recordings")
    report.figure("confusion", picture, "Off the diagonal, a row shows the classes that its class is confused with.")
    bars = per_class_bars(dict(own["per_class"]), "Recall of each class", unit="recordings")
    report.figure("classes", bars, "Recall of each class; the number at the foot of a bar is its held-out recordings.")
    wrong = [prediction for prediction in (predict(inputs.model, example) for example in inputs.valid)]
    wrong = sorted((p for p in wrong if p.is_wrong), key=lambda prediction: -prediction.probability)
    if not wrong:
        report.text(f"All {len(inputs.valid)} held-out recordings have the right class.")
        return
    report.text(f"{len(wrong)} of {len(inputs.valid)} held-out recordings have a wrong class; the surest first:")
    header = ["recording", "speaker", "reference", "predicted", "probability", "of the reference"]
    rows = [
        [
            prediction.example.utterance.id,
            prediction.example.speaker or "unknown",
            classes[prediction.reference],
            classes[prediction.predicted],
            prediction.probability,
            prediction.reference_probability,
        ]
        for prediction in wrong[:MAX_MISTAKES]
    ]
    report.table(header, rows)


def _choose(inputs: ReportInputs) -> list[Example]:
    """Return recordings of different classes, then of different speakers, of those that are not too long."""
    framing = inputs.model.config.framing
    limit = MAX_SECONDS * framing.frames_per_second
    short = [example for example in inputs.valid if 0 < len(example.frames) <= limit]
    candidates = short or [example for example in inputs.valid if len(example.frames)]
    chosen: list[Example] = []
    seen: dict[int, int] = {}
    speakers: dict[str, int] = {}
    while candidates and len(chosen) < NUM_RECORDINGS:
        best = min(candidates, key=lambda e: (seen.get(int(e.labels[0]), 0), speakers.get(e.speaker, 0)))
        candidates.remove(best)
        chosen.append(best)
        seen[int(best.labels[0])] = seen.get(int(best.labels[0]), 0) + 1
        speakers[best.speaker] = speakers.get(best.speaker, 0) + 1
    return sorted(chosen, key=lambda example: int(example.labels[0]))


def _title(prediction: Prediction, classes: Sequence[str]) -> str:
    example, right = prediction.example, classes[prediction.reference]
    by = f" by {example.speaker}" if example.speaker and example.speaker != right else ""
    said = f", labelled {classes[prediction.predicted]}" if prediction.is_wrong else ""
    return f"{right}{by}{said}"
