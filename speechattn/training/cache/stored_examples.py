"""Examples in the shards of the feature cache, read when they are asked for: memory does not grow with the frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.frontend.normalize import Moments
from speechattn.training.cache.file_table import DIGEST_BYTES
from speechattn.training.cache.shard import Shard
from speechattn.training.dataset import Example


class StoredExamples(Sequence[Example]):
    """Utterances and their copies, in the order of their shards.

    Args:
        utterances: of all shards, in order.
        digests: sha256 of the sound file of each utterance [U, 32].
        shards: open shards.
        places, rows, sources: for each example its shard, its row in there, and its utterance [N].
        targets: returns the labels [L] of an utterance, where they are not those of frames, which the shards hold.
    """

    def __init__(
        self,
        utterances: Sequence[LabelledUtterance],
        digests: NDArray[np.uint8],
        shards: Sequence[Shard],
        places: NDArray[np.int32],
        rows: NDArray[np.int32],
        sources: NDArray[np.int32],
        targets: Callable[[LabelledUtterance], Tensor] | None = None,
    ) -> None:
        self.utterances, self.digests, self.shards = utterances, digests, shards
        self.places, self.rows, self.sources, self.targets = places, rows, sources, targets
        self._ids: tuple[int, list[str]] = -1, []

    @classmethod
    def of(
        cls,
        utterances: Sequence[LabelledUtterance],
        digests: Sequence[bytes],
        shards: Sequence[Shard],
        bases: Sequence[int],
    ) -> StoredExamples:
        """Return all examples of shards, the first utterance of each of which is `bases[k]`."""
        counts = [len(shard) for shard in shards]
        nothing = np.zeros(0, np.int32)
        return cls(
            utterances,
            np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES),
            shards,
            np.repeat(np.arange(len(shards), dtype=np.int32), counts),
            np.concatenate([nothing, *(np.arange(count, dtype=np.int32) for count in counts)]),
            np.concatenate(
                [nothing, *(shard.sources + base for shard, base in zip(shards, bases, strict=True))]
            ).astype(np.int32),
        )

    def select(self, wanted: NDArray[np.bool_]) -> StoredExamples:
        """Return the examples of the utterances [U] that are wanted."""
        kept = wanted[self.sources]
        return StoredExamples(
            self.utterances,
            self.digests,
            self.shards,
            self.places[kept],
            self.rows[kept],
            self.sources[kept],
            self.targets,
        )

    def with_targets(self, targets: Callable[[LabelledUtterance], Tensor]) -> StoredExamples:
        """Return the same examples with labels [L] made from their utterances."""
        return StoredExamples(self.utterances, self.digests, self.shards, self.places, self.rows, self.sources, targets)

    def moments(self) -> Iterator[Moments]:
        """Yield the moments of the frames of each example, which were computed with them."""
        for place, shard in enumerate(self.shards):
            rows = self.rows[self.places == place]
            if len(rows):
                means, squares = map(torch.from_numpy, shard.moments())
                for row in rows.tolist():
                    yield int(shard.edges[row + 1] - shard.edges[row]), means[row], squares[row]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | Sequence[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return StoredExample(self, range(len(self))[index])

    def shard_and_row(self, index: int) -> tuple[Shard, int]:
        """Return where example `index` is stored."""
        return self.shards[self.places[index]], int(self.rows[index])

    def source(self, index: int) -> LabelledUtterance:
        """Return the utterance of which example `index` is a copy, or which it is."""
        return self.utterances[int(self.sources[index])]

    def id(self, index: int) -> str:
        """Return the id of an example; the ids of the last shard that was asked are kept."""
        place = int(self.places[index])
        if self._ids[0] != place:
            self._ids = place, self.shards[place].ids()
        return self._ids[1][int(self.rows[index])]


class StoredExample(Example):
    """One of `StoredExamples`: frames, labels and utterance are read at each access.

    The segments of a copy at another speed are not kept, only its labels.
    """

    if TYPE_CHECKING:
        _owner: StoredExamples
        _index: int

    def __init__(self, owner: StoredExamples, index: int) -> None:
        object.__setattr__(self, "_owner", owner)
        object.__setattr__(self, "_index", index)

    @property
    def utterance(self) -> LabelledUtterance:
        """The utterance, with the id and the samples of the copy."""
        original = self._owner.source(self._index)
        id = self._owner.id(self._index)
        if id == original.id:
            return original
        shard, row = self._owner.shard_and_row(self._index)
        utterance = replace(original.utterance, id=id)
        return LabelledUtterance(utterance, int(shard.samples[row]), ())

    @property
    def frames(self) -> Tensor:
        """Frames [T, F] in float32."""
        shard, row = self._owner.shard_and_row(self._index)
        return shard.frames(row)

    def cut(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return frames [start, stop); and their labels, or all labels if they are not those of frames."""
        shard, row = self._owner.shard_and_row(self._index)
        if self._owner.targets is not None:
            return shard.frames(row, start, stop), self.labels
        labels = shard.labels(row, start, stop).astype(np.int64)
        return shard.frames(row, start, stop), torch.from_numpy(labels)

    @property
    def labels(self) -> Tensor:
        """Labels [L]; L = T for labels of frames, -100 where none is known."""
        if self._owner.targets is not None:
            return self._owner.targets(self._owner.source(self._index))
        shard, row = self._owner.shard_and_row(self._index)
        return torch.from_numpy(shard.labels(row).astype(np.int64))

    @property
    def num_frames(self) -> int:
        """T."""
        shard, row = self._owner.shard_and_row(self._index)
        return int(shard.edges[row + 1] - shard.edges[row])

    @property
    def speaker(self) -> str:
        """The speaker's id."""
        return self._owner.source(self._index).speaker

    def sound_digest(self) -> bytes:
        """Return the sha256 of the sound file, which was computed when its header was read."""
        return bytes(self._owner.digests[self._owner.sources[self._index]])

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__
