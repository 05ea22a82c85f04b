"""The labelled utterances that a saved model can be scored on: its head and classes say which labels are read."""

from __future__ import annotations

from pathlib import Path

from speechattn.data.labelled_corpus import Corpus, load_corpus
from speechattn.data.labels.classes import label_set
from speechattn.errors import UserError
from speechattn.models.speech_model import SpeechModel
from speechattn.training.tasks.ctc import CTCTask
from speechattn.training.tasks.ctc_targets import UnknownCharacters
from speechattn.training.tasks.frames import FrameTask
from speechattn.training.tasks.task import Task
from speechattn.training.tasks.utterance import UtteranceTask

TASKS: tuple[type[Task], ...] = (FrameTask, UtteranceTask, CTCTask)


def labelled_subset(
    model: SpeechModel,
    directory: str,
    data: str,
    subset: str,
    alignments: str | None,
    max_bad: float = 0.0,
    layout: str = "auto",
    lexicon: str | None = None,
    unknown_characters: UnknownCharacters = "stop",
) -> tuple[Task, Corpus]:
    """Return the task of a model, and the utterances of a subset with labels for it.

    Args:
        model: with the classes of its training data.
        directory: where it was saved, for messages.
        data: folder of the subset.
        subset: its name.
        alignments: folder of alignments, for labels that need them.
        max_bad: share of unusable recordings that is accepted.
        layout: of class and speaker in the paths, for a model of utterances.
        lexicon: pronunciations, for a CTC model of phones without alignments.
        unknown_characters: outside the alphabet of a CTC model of characters: "stop" or "drop".

    Raises:
        UserError, DataError: the data have no labels for this model.
    """
    config = model.config
    rate = config.framing.sample_rate
    if config.head == UtteranceTask.head:
        return UtteranceTask.evaluation(config.classes, Path(data), subset, layout, max_bad, rate)
    if config.head == CTCTask.head:
        return CTCTask.evaluation(config, Path(data), subset, alignments, lexicon, max_bad, unknown_characters)
    labels = label_set(config.classes)
    if alignments is None and labels != "speech":
        raise UserError(
            f"--alignments DIR is missing: {directory} labels {labels}, and only speech needs none. "
            "speechattn align makes them from transcripts."
        )
    corpus = load_corpus(data, subset, alignments, config.classes, max_bad, sample_rate=rate)
    return FrameTask(config.classes), corpus
