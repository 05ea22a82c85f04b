"""The shards of one corpus: opened where they are whole, and faults of their utterances counted in order."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from speechattn.data.audio.errors import AudioError, AudioWarning
from speechattn.data.audio.files import show_changes
from speechattn.data.labelled_corpus import Corpus
from speechattn.errors import DataError
from speechattn.training.cache.shard import Shard, ShardDamageError, open_shard
from speechattn.training.cache.tasks import Task

PASSING = frozenset({"missing", "unreadable", "too long"})
"""Reasons that may hold no longer at the next start: a shard with one of them is made again."""


class ShardSet:
    """The shards of a corpus, opened as they become available; faults are counted in the order of the corpus."""

    def __init__(self, corpus: Corpus, tasks: Sequence[Task]) -> None:
        self.corpus, self.tasks = corpus, tasks
        self.items = corpus.utterances  # before faults are taken out
        self.bases = np.cumsum([0, *(len(task.items) for task in tasks)])[:-1].tolist()
        self.opened: list[Shard | None] = [None] * len(tasks)
        self._counted = 0
        self._faults = 0
        self._changes: dict[str, str] = {}

    @property
    def missing(self) -> Iterator[int]:
        """Indices of shards that are not open."""
        return (index for index, shard in enumerate(self.opened) if shard is None)

    def open(self, warn: bool = False) -> bool:
        """Open what is there; return whether anything is missing. Damaged shards are named in a warning on request."""
        for index in self.missing:
            task = self.tasks[index]
            try:
                shard = open_shard(task.path, task.key)
            except ShardDamageError as damage:
                if warn:
                    warnings.warn(f"{task.path} is damaged ({damage}): it is made again.", AudioWarning, stacklevel=4)
                continue
            if shard is not None and not any(reason in PASSING for _, reason, _ in shard.faults):
                self.opened[index] = shard
        self._count()
        return any(True for _ in self.missing)

    def take(self, index: int) -> None:
        """Open a shard that was just written; raise DataError if it was removed since."""
        task = self.tasks[index]
        self.opened[index] = open_shard(task.path, task.key)
        if self.opened[index] is None:
            raise DataError(f"{task.path} was removed while in use: start again, it is made anew.")
        self._count()

    def finish(self) -> None:
        """Warn of utterances that do not decode and of changes to the audio."""
        show_changes(self._changes)
        if self._faults:
            self.corpus.warn_left_out()

    def _count(self) -> None:
        """Leave out what does not decode, shard by shard in their order, so that messages name the first ones.

        Raises:
            DataError: it is too much.
        """
        while self._counted < len(self.tasks) and (shard := self.opened[self._counted]) is not None:
            for place, reason, found in shard.faults:
                item = self.tasks[self._counted].items[place]
                self._faults += 1
                self.corpus.leave_out(item.id, AudioError(found, item.utterance.path, reason))
            self._changes = {**shard.changes, **self._changes}
            self._counted += 1
