"""Which validation utterances a report shows, and what their pictures are called."""

from __future__ import annotations

from collections.abc import Sequence

from speechattn.plots.titles import sentence_title
from speechattn.training.dataset import Example
from speechattn.training.report_sections.inputs import ReportInputs

EXAMPLE_S = 5.0
"""Utterances of about this length, in seconds, are shown."""
NUM_EXAMPLES = 3


def choose_examples(inputs: ReportInputs) -> list[Example]:
    """Return NUM_EXAMPLES validation utterances of different speakers, those nearest to EXAMPLE_S first."""
    return nearest_examples(inputs.valid, EXAMPLE_S * inputs.model.config.framing.frames_per_second)


def nearest_examples(examples: Sequence[Example], num_frames: float) -> list[Example]:
    """Return NUM_EXAMPLES examples of different speakers whose length is nearest to `num_frames`, the nearest first."""
    ranked = sorted(examples, key=lambda example: abs(example.num_frames - num_frames))
    by_speaker = {example.speaker: example for example in reversed(ranked)}
    return [example for example in ranked if by_speaker[example.speaker] is example][:NUM_EXAMPLES]


def example_title(example: Example) -> str:
    """Return sentence and speaker of an example, or its id where there is no transcript."""
    return sentence_title(transcript(example), example.speaker) or f"{example.utterance.id} (speaker {example.speaker})"


def transcript(example: Example) -> str:
    """Return the sentence of an example, "" if it is not known."""
    return (example.utterance.utterance.transcript or "").strip()


def cut_transcript(example: Example) -> str:
    """Return the sentence of an example as a caption if it is cut in the title, else ""."""
    return f"{transcript(example).rstrip('.')}." if ' ..."' in example_title(example) else ""
