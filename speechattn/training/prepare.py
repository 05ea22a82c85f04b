"""The data of a run: loaded, labelled, split by speaker and turned into frames."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from speechattn.data.labelled_corpus import Corpus, LabelledUtterance
from speechattn.data.selection import select
from speechattn.data.speaker_split import check_disjoint, split_by_speaker, split_off_speakers
from speechattn.data.utterance_split import split_by_utterance
from speechattn.errors import UserError
from speechattn.frontend.factory import build_frontend
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.normalize import Normalize
from speechattn.system import cache_folder
from speechattn.system.stop_signal import StopSignal
from speechattn.training.cache.build import ShardSettings
from speechattn.training.cache.features import FeatureCache
from speechattn.training.cache.stored_examples import StoredExamples
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import fingerprint
from speechattn.training.made_alignments import make_alignments, makes_alignments
from speechattn.training.on_the_fly import DrawnExamples, noise_fingerprint
from speechattn.training.source import Source
from speechattn.training.tasks.task import Task

MAX_BAD = 0.01
"""Share of the training subset that may be unusable unless the user gives one; of a test subset it is 0."""


@dataclass(frozen=True)
class Data:
    """The task of a run and its examples: training and validation speakers, and further subsets by name.

    `corpora` are the subsets that the examples come from; they list the utterances that were left out.
    """

    task: Task
    train: StoredExamples
    valid: StoredExamples
    tests: dict[str, StoredExamples]
    corpora: list[Corpus]

    def normalize(self) -> Normalize:
        """Return the normalisation by mean and deviation of the training frames."""
        return Normalize.of_moments(self.train.moments())

    def fingerprints(self) -> dict[str, dict[str, Any]]:
        """Return a Fingerprint of each part of the data as JSON; no sound file is read."""
        parts = {"train": self.train, "valid": self.valid}
        parts |= {f"test subset {name}": examples for name, examples in self.tests.items()}
        found = {name: asdict(fingerprint(examples, self.task.classes)) for name, examples in parts.items()}
        noise = self.train.noise if isinstance(self.train, DrawnExamples) else None
        return found if noise is None else {**found, "noise": asdict(noise_fingerprint(noise))}


def prepare(config: TrainConfig, stop: StopSignal) -> Data:
    """Return the data of a run; the speakers of training, validation and tests are disjoint.

    With split utterances, or speakers as classes, they are the same speakers with other utterances.

    Raises:
        UserError, DataError: data or alignments are missing, damaged or too long for the table of learned positions.
    """
    root, alignments, tests = _locate(config, stop)
    frontend = make_frontend(config)
    rate = frontend.framing.sample_rate
    max_bad = MAX_BAD if config.max_bad is None else config.max_bad
    cache = FeatureCache(Path(config.cache) if config.cache else cache_folder.default_cache(), config.workers, stop)
    source = Source(config, root, alignments, rate, cache)
    corpus = source.corpus(config.subset, max_bad)
    corpus.utterances = select(corpus.utterances, rate, max_hours=config.max_hours, speakers=config.speakers)
    print(corpus.summary())
    task = source.task(corpus)
    print(f"labels: {config.labels}, {len(task.classes)} classes")
    source.leave_out_unusable(task, corpus, frontend.framing)
    train_side, valid_side = _split(config, corpus.utterances)
    source.check_training(task, train_side)
    others = {}
    for name in tests:
        others[name] = source.corpus(name, config.max_bad or 0.0, task)
        source.leave_out_unusable(task, others[name], frontend.framing)
        if config.labels != "speakers":
            check_disjoint(corpus.utterances, others[name].utterances)
        print(others[name].summary())
    held_out = {item.id for item in valid_side}
    is_held_out = np.array([item.id in held_out for item in corpus.utterances])
    plain = shard_settings(config, source.frame_classes(task))
    settings = replace(
        plain, speeds=config.speed_perturb, noise=config.noise, noise_snr_db=config.noise_snr_db, seed=config.seed
    )
    copied = {item.id for item in train_side} if config.has_copies else set()
    examples = cache.examples(corpus, settings if config.has_copies else plain, copied)
    test_examples = {name: cache.examples(other, plain) for name, other in others.items()}
    if not task.per_frame:
        targets = partial(task.targets, framing=frontend.framing)
        examples = examples.with_targets(targets)
        test_examples = {name: test.with_targets(targets) for name, test in test_examples.items()}
    train = examples.select(~is_held_out)
    if config.on_the_fly:
        train = DrawnExamples(train, config, frontend, task, corpus.detect)
    data = Data(task, train, examples.select(is_held_out), test_examples, [corpus, *others.values()])
    speakers = (len({item.speaker for item in side}) for side in (train_side, valid_side))
    others_or_shared = "others" if _splits_speakers(config) else "of them"
    print("speakers: {} for training, {} {} for validation".format(*speakers, others_or_shared))
    _check_length(config, data)
    return data


def _splits_speakers(config: TrainConfig) -> bool:
    """Return whether no validation speaker is in the training data."""
    return config.split == "speakers" and config.labels != "speakers"


def _split(
    config: TrainConfig, utterances: Sequence[LabelledUtterance]
) -> tuple[list[LabelledUtterance], list[LabelledUtterance]]:
    """Return the training and the validation side."""
    if config.valid_speakers:
        return split_off_speakers(utterances, config.valid_speakers)
    split = split_by_speaker if _splits_speakers(config) else split_by_utterance
    return split(utterances, config.valid_fraction, config.seed if config.split_seed is None else config.split_seed)


def make_frontend(config: TrainConfig) -> LogMel:
    """Return the frontend of a run."""
    return build_frontend(
        config.features,
        config.num_mels,
        config.framing,
        flavor=config.flavor,
        num_ceps=config.num_ceps,
        deltas=config.deltas,
    )


def shard_settings(config: TrainConfig, classes: Sequence[str]) -> ShardSettings:
    """Return the settings of the features of a run, without copies."""
    return ShardSettings(
        config.features,
        config.num_mels,
        config.flavor,
        config.num_ceps,
        config.deltas,
        config.feature_dtype,
        tuple(classes),
        sample_rate=config.sample_rate,
    )


def _locate(config: TrainConfig, stop: StopSignal) -> tuple[Path, str | None, tuple[str, ...]]:
    """Return data, alignments and test subsets; synthetic speech is made if it is not in the cache yet."""
    if makes_alignments(config):
        return Path(config.data), make_alignments(config, stop), config.test_subsets
    if config.data != "synthetic":
        return Path(config.data), config.alignments, config.test_subsets
    if config.task == "utterance" and config.labels == "classes":
        from speechattn.data.synthetic.spoken_words import synthesize_words

        root = synthesize_words(cache_folder.default_cache())
        stop.poll()
        return root, None, config.test_subsets or ("test",)
    from speechattn.data.synthetic.config import SyntheticConfig
    from speechattn.data.synthetic.corpus import synthesize_corpus

    root = synthesize_corpus(cache_folder.default_cache(), SyntheticConfig())
    stop.poll()
    return root, str(root / "alignments"), config.test_subsets or ("test",)


def _check_length(config: TrainConfig, data: Data) -> None:
    """Raise UserError if a recording is longer than the table of learned positions: now, not in the validation."""
    recordings = itertools.chain(data.valid, *data.tests.values())
    longest = max((example.num_frames for example in recordings), default=0)
    if config.learns_positions and longest > config.max_frames:
        raise UserError(
            f"learned positions end at --max-frames {config.max_frames}, and the longest recording to be scored has "
            f"{longest} frames: use --max-frames {longest} or more, or --position-encoding relative."
        )
