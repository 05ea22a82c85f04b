"""The shards that a corpus needs, and the key of each: which utterances it has, and a digest of what is in it."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from speechattn.data.labelled_corpus import Corpus, LabelledUtterance
from speechattn.data.labels.classes import label_class
from speechattn.data.labels.segment_arrays import SegmentSlice
from speechattn.errors import DataError
from speechattn.training.cache.build import ShardSettings

SHARD_IDS = 64
"""A shard has about so many utterances."""
SHARD_S = 1800.0
"""And at most so many seconds, unless one recording is longer: a worker holds them in memory."""


@dataclass(frozen=True)
class Task:
    """A shard that is wanted: its key and place, and its utterances in the order of the corpus."""

    key: str
    path: Path
    items: Sequence[LabelledUtterance]
    seconds: float


def shard_tasks(
    corpus: Corpus, settings: ShardSettings, folder: Path, copied: Collection[str], digests: Mapping[Path, bytes]
) -> list[Task]:
    """Return the shards of a corpus: consecutive utterances, cut where a hash of the id says so.

    An utterance more or less changes its own shard only. The key of a shard says what is in it: ids, samples, sound,
    segments, and which utterances are copied.
    """
    tasks: list[Task] = []
    group: list[LabelledUtterance] = []
    seconds = 0.0
    indices = _ClassIndices(settings.classes)

    def finish() -> None:
        if group:
            key = _contents(group, copied, digests, indices)
            tasks.append(Task(key, folder / f"{key}.safetensors", list(group), seconds))

    for item in corpus.utterances:
        length = item.num_samples / corpus.sample_rate
        length *= settings.copies_per_utterance if item.id in copied else 1
        starts = zlib.crc32(item.id.encode("utf-8", "surrogateescape")) % SHARD_IDS == 0
        if starts or seconds + length > SHARD_S:
            finish()
            group, seconds = [], 0.0
        group.append(item)
        seconds += length
    finish()
    return tasks


class _ClassIndices:
    """The class index of each label of a slice; the names of a table are looked up once."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        self._classes = classes
        self._last: tuple[object, NDArray[np.int32]] | None = None

    def __call__(self, segments: SegmentSlice) -> NDArray[np.int32]:
        """Return the class indices [S], -1 for a label that is no class."""
        if self._last is None or self._last[0] is not segments.table:
            self._last = segments.table, np.array(list(map(self._index, segments.table.names)), np.int32)
        indices: NDArray[np.int32] = self._last[1][segments.labels] if len(segments) else self._last[1][:0]
        return indices

    def _index(self, name: str) -> int:
        try:
            return self._classes.index(label_class(name, self._classes))
        except DataError:
            return -1


def _contents(
    items: Sequence[LabelledUtterance],
    copied: Collection[str],
    digests: Mapping[Path, bytes],
    indices: _ClassIndices,
) -> str:
    """Return a digest of what decides the contents of a shard besides its settings."""
    digest = hashlib.sha256()
    for item in items:
        segments = SegmentSlice.of(item.segments)
        head = f"{item.id} {item.num_samples} {len(segments)} {item.id in copied}\n"
        digest.update(head.encode("utf-8", "surrogateescape"))
        digest.update(digests[item.utterance.path])
        for column in (segments.starts_s, segments.stops_s, indices(segments)):
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()[:24]
