"""The corpora of a run with their labels, and the task that these make: the part of the data that tasks differ in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from speechattn.data.labelled_corpus import Corpus, LabelledUtterance, load_corpus
from speechattn.data.labels.classes import PHONES, SPEECH, word_classes
from speechattn.framing import Framing
from speechattn.training.cache.features import FeatureCache
from speechattn.training.config import TrainConfig
from speechattn.training.made_alignments import explain_missing, makes_alignments
from speechattn.training.tasks.ctc import CTCTask
from speechattn.training.tasks.frames import FrameTask
from speechattn.training.tasks.task import Task
from speechattn.training.tasks.utterance import UtteranceTask


class Source:
    """The subsets below a folder, as the task of a run reads them.

    Args:
        config: task, labels and layout.
        root: folder of the data.
        alignments: folder of alignments, if there is one.
        sample_rate: of the waveforms, in Hz.
        cache: reads headers and alignments.
    """

    def __init__(
        self, config: TrainConfig, root: Path, alignments: str | None, sample_rate: int, cache: FeatureCache
    ) -> None:
        self.config, self.root, self.alignments = config, root, alignments
        self.sample_rate, self.cache = sample_rate, cache

    def corpus(self, subset: str, max_bad: float, task: Task | None = None) -> Corpus:
        """Return the utterances of a subset, with segments where the task has labels of frames or of phones.

        `task` has the classes of an earlier subset; None is the training subset.
        """
        config = self.config
        recordings = None
        if config.task == "utterance":
            recordings = UtteranceTask.recordings(self.root, subset, config.labels, config.layout)
        classes: Sequence[str] | None = ()
        if self._reads_segments:
            fixed = {"phones": PHONES, "speech": SPEECH}.get(config.labels)
            classes = fixed if task is None or config.task != "frames" else task.classes
        corpus = load_corpus(
            self.root,
            subset,
            self.alignments if self._reads_segments else None,
            classes,
            max_bad,
            sample_rate=self.sample_rate,
            recordings=recordings,
            needs_words=config.task != "utterance",
            headers=self.cache.headers,
            read_alignments=self.cache.alignments,
        )
        if self.alignments is not None and makes_alignments(config):
            explain_missing(corpus, self.alignments)
        return corpus

    def task(self, corpus: Corpus) -> Task:
        """Return the task of a run, with the classes of the training subset."""
        config = self.config
        if config.task == "utterance":
            return UtteranceTask.of(corpus.utterances, config.labels)
        if config.task == "ctc":
            unknown = config.unknown_characters
            return CTCTask.of(corpus.utterances, config.labels, self.alignments, config.lexicon, config.stack, unknown)
        fixed = {"phones": PHONES, "speech": SPEECH}.get(config.labels)
        return FrameTask(fixed or word_classes((item.segments for item in corpus.utterances), config.num_words))

    def leave_out_unusable(self, task: Task, corpus: Corpus, framing: Framing) -> None:
        """Move utterances that the task cannot use to `corpus.skipped`."""
        if isinstance(task, CTCTask):
            task.leave_out_unusable(corpus, framing)

    def check_training(self, task: Task, utterances: Sequence[LabelledUtterance]) -> None:
        """Raise DataError if the training side lacks examples of a class."""
        if isinstance(task, UtteranceTask):
            task.check_training(utterances)

    def frame_classes(self, task: Task) -> tuple[str, ...]:
        """Return the classes of labels that the cache keeps with the frames."""
        return task.classes if task.per_frame else ()

    @property
    def _reads_segments(self) -> bool:
        """Whether utterances need the segments of alignments, or of a detector of speech."""
        aligned_phones = self.config.task == "ctc" and self.config.labels == "phones" and self.alignments is not None
        return self.config.task == "frames" or aligned_phones
