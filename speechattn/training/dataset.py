"""Utterances as frames and labels, and the training batches cut from them.

`make_examples` keeps them in memory: an hour of frames with 80 bins is 115 MB. A run takes them from its cache on disk
(cache/features.py). Batch k of epoch e is a pure function of (data, seed, e, k): a run that was killed and started
again sees what an uninterrupted one sees.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Protocol, overload, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechattn.augment.frames import time_stretch
from speechattn.data.batching import Batches, collate
from speechattn.data.labelled_corpus import Corpus, LabelledUtterance
from speechattn.errors import DataError
from speechattn.frontend.logmel import LogMel
from speechattn.system.progress import progress_bar
from speechattn.system.stop_signal import StopSignal
from speechattn.training.cache.pool import choose_workers
from speechattn.training.config import TrainConfig
from speechattn.training.pieces import Piece as Piece
from speechattn.training.prefetch import Prefetcher
from speechattn.training.tasks.task import Task

FRAMES_PER_S = 20_000
"""Frames that one process makes from sound files in a second, changes of speed included."""


@dataclass(frozen=True)
class Example:
    """One utterance: its frames [T, F] and labels [L]; L = T for labels of frames, -100 where none is known."""

    utterance: LabelledUtterance
    frames: Tensor
    labels: Tensor

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.frames)

    @property
    def speaker(self) -> str:
        """The speaker's id."""
        return self.utterance.speaker

    def cut(self, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Return frames [start, stop), and their labels if these are one a frame, else all labels."""
        labels = self.labels
        return self.frames[start:stop], labels[start:stop] if len(labels) == self.num_frames else labels

    def sound_digest(self) -> bytes:
        """Return the sha256 of the sound file, which is read whole."""
        with self.utterance.utterance.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()


Waveforms = Iterable[tuple[LabelledUtterance, Tensor]]
"""Utterances, each with its samples [N]."""


def make_examples(
    corpus: Corpus,
    frontend: LogMel,
    task: Task,
    stop: StopSignal | None = None,
    copies: Callable[[Waveforms], Waveforms] = iter,
) -> list[Example]:
    """Return the examples of `read_examples` in memory."""
    return list(read_examples(corpus, frontend, task, stop, copies))


@torch.no_grad()
def read_examples(
    corpus: Corpus,
    frontend: LogMel,
    task: Task,
    stop: StopSignal | None = None,
    copies: Callable[[Waveforms], Waveforms] = iter,
) -> Iterator[Example]:
    """Yield frames and labels of every readable utterance of `corpus`; the corpus counts those it had to skip.

    `copies` may change an utterance or make several of it: see perturbed_copies.py.

    Raises:
        DataError: the segments of an utterance cannot be labels of frames.
    """
    waveforms = progress_bar(
        corpus.waveforms(), total=len(corpus.utterances), desc=f"frames of {corpus.subset}", unit="utt", leave=False
    )
    for labelled, waveform in copies(waveforms):
        if stop is not None:
            stop.poll()
        frames, lengths = frontend(waveform[None])
        try:
            labels = task.targets(labelled, frontend.framing)
        except DataError as error:
            raise DataError(f"{corpus.subset}: utterance {labelled.id}: {error}") from error
        if task.per_frame and len(labels) != int(lengths[0]):
            raise AssertionError(f"{labelled.utterance.id}: {lengths[0]} frames but {len(labels)} labels")
        yield Example(labelled, frames[0], labels)


@dataclass(frozen=True)
class Fingerprint:
    """Counts of examples, and hashes of ids, labels and sound files; where the files lie does not matter."""

    utterances: int
    speakers: int
    frames: int
    ids: str
    labels: str
    sound: str


def fingerprint(examples: Sequence[Example], classes: Sequence[str] = ()) -> Fingerprint:
    """Return the fingerprint of `examples`, whose labels are indices of `classes`."""
    ids, sound = hashlib.sha256(), hashlib.sha256()
    labels = hashlib.sha256("".join(f"{name}\n" for name in classes).encode())
    hashed: set[Path] = set()
    frames = 0
    for example in examples:
        utterance = example.utterance
        frames += example.num_frames
        ids.update(f"{utterance.id} {utterance.num_samples}\n".encode("utf-8", "surrogateescape"))
        labels.update(example.labels.to(torch.int16).numpy().tobytes())
        if utterance.utterance.path not in hashed:  # copies at other speeds and in noise come from one file
            hashed.add(utterance.utterance.path)
            sound.update(example.sound_digest())
    return Fingerprint(
        utterances=len(examples),
        speakers=len({example.speaker for example in examples}),
        frames=frames,
        ids=ids.hexdigest()[:16],
        labels=labels.hexdigest()[:16],
        sound=sound.hexdigest()[:16],
    )


@runtime_checkable
class ChangingExamples(Protocol):
    """Examples whose waveforms are drawn anew in every epoch (on_the_fly.py)."""

    def lengths(self, epoch: int) -> Sequence[int]:
        """Return the number of frames of each example in an epoch."""

    def drawn(self, index: int, epoch: int) -> tuple[Tensor, Tensor]:
        """Return frames [T, F] and labels [L] of an example in an epoch."""


class TrainingBatches:
    """Batches of pieces of at most `crop_frames` frames; each epoch cuts the utterances elsewhere.

    Args:
        examples: where the pieces come from.
        config: sizes, seed and number of workers.
        per_frame: whether labels are one a frame; else each piece has all labels of its utterance.
        whole: whether utterances are not cut.
    """

    def __init__(
        self, examples: Sequence[Example], config: TrainConfig, per_frame: bool = True, whole: bool = False
    ) -> None:
        self.examples, self.config, self.per_frame, self.whole = examples, config, per_frame, whole
        self._changing = examples if isinstance(examples, ChangingExamples) else None
        self._lengths = [example.num_frames for example in examples]
        self._epochs: dict[int, _Pieces] = {}
        self._ahead: Prefetcher | None = None
        if self._changing is not None:
            seconds = config.epochs * sum(self._lengths) / FRAMES_PER_S
            num_workers = choose_workers(config.workers, seconds)
            self._ahead = Prefetcher(self, num_workers) if num_workers else None

    def epoch(self, epoch: int) -> EpochBatches:
        """Return all batches of one epoch, in order: a pure function of (examples, config, epoch)."""
        return EpochBatches(self, epoch, len(self.pieces(epoch).edges) - 1)

    def load(self, batch: Sequence[Piece]) -> tuple[Tensor, Tensor, Tensor]:
        """Return frames [B, T, F], lengths [B] and labels [B, L] of one batch."""
        return self.make(batch) if self._ahead is None else self._ahead.load(batch)

    def close(self) -> None:
        """End the worker processes that make batches ahead, if there are any."""
        if self._ahead is not None:
            self._ahead.close()

    def make(self, batch: Sequence[Piece]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same, made in this process."""
        frames, labels = zip(*(self._cut(piece) for piece in batch), strict=True)
        return collate(list(frames), list(labels), self.per_frame)

    def alone(self) -> TrainingBatches:
        """Return the same batches, made in the process that asks for them."""
        return TrainingBatches(self.examples, replace(self.config, workers=0), self.per_frame, self.whole)

    def pieces(self, epoch: int) -> _Pieces:
        """Return the pieces of an epoch; those of the last two that were asked for are kept."""
        if epoch not in self._epochs:
            while len(self._epochs) > 1:
                del self._epochs[next(iter(self._epochs))]
            self._epochs[epoch] = self._cut_epoch(epoch)
        return self._epochs[epoch]

    def piece_epoch(self, epoch: int) -> int:
        """Return what `Piece.epoch` is in an epoch: 0 for examples that do not change."""
        return 0 if self._changing is None else epoch

    def _cut_epoch(self, epoch: int) -> _Pieces:
        random = np.random.default_rng([self.config.seed, epoch])
        crop, stretch = self.config.crop_frames, self.config.stretch
        items, starts, stops, speeds = array("i"), array("i"), array("i"), array("d")
        for item, length in enumerate(self._lengths if self._changing is None else self._changing.lengths(epoch)):
            first = int(random.integers(1, crop + 1))
            if not length:
                continue
            cuts = [*range(first, length, crop), length] if length > crop and not self.whole else [length]
            items.extend([item] * len(cuts))
            starts.extend([0, *cuts[:-1]])
            stops.extend(cuts)
            speeds.extend(random.uniform(1 - stretch, 1 + stretch, len(cuts)))
        first_frames, last_frames = np.frombuffer(starts, np.int32), np.frombuffer(stops, np.int32)
        rates = np.frombuffer(speeds)
        lengths = np.maximum(1, np.rint((last_frames - first_frames) / rates)).astype(np.int64)
        batches = Batches(lengths, self.config.batch_frames, self.config.seed).batches(epoch)
        order = np.fromiter(itertools.chain.from_iterable(batches), np.int32, len(items))
        edges = np.cumsum([0, *map(len, batches)], dtype=np.int32)
        places = np.frombuffer(items, np.int32)[order]
        return _Pieces(places, first_frames[order], last_frames[order], rates[order], edges)

    def _cut(self, piece: Piece) -> tuple[Tensor, Tensor]:
        if self._changing is None:
            frames, labels = self.examples[piece.item].cut(piece.start, piece.stop)
        else:
            frames, labels = self._changing.drawn(piece.item, piece.epoch)
            frames = frames[piece.start : piece.stop]
            labels = labels[piece.start : piece.stop] if self.per_frame else labels
        if piece.speed == 1:
            return frames, labels
        if self.per_frame:
            return time_stretch(frames, labels, 1 / piece.speed)
        return time_stretch(frames, frames.new_zeros(len(frames), dtype=torch.int64), 1 / piece.speed)[0], labels


class _Pieces(NamedTuple):
    """The pieces of an epoch in the order of its batches, 20 bytes each; batch k is pieces [edges[k], edges[k + 1])."""

    items: NDArray[np.int32]
    starts: NDArray[np.int32]
    stops: NDArray[np.int32]
    speeds: NDArray[np.float64]
    edges: NDArray[np.int32]


class EpochBatches(Sequence[list[Piece]]):
    """The batches of one epoch, made when they are asked for: a schedule of many epochs takes no memory."""

    def __init__(self, owner: TrainingBatches, epoch: int, count: int) -> None:
        self._owner, self._epoch, self._count = owner, epoch, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> list[Piece]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[list[Piece]]: ...
    def __getitem__(self, index: int | slice) -> list[Piece] | Sequence[list[Piece]]:
        if isinstance(index, slice):
            return _Slice(self, range(len(self))[index])
        k = range(len(self))[index]
        pieces = self._owner.pieces(self._epoch)
        rows = slice(int(pieces.edges[k]), int(pieces.edges[k + 1]))
        columns = [column[rows].tolist() for column in pieces[:4]]
        epoch = self._owner.piece_epoch(self._epoch)
        return [Piece(item, start, stop, speed, epoch) for item, start, stop, speed in zip(*columns, strict=True)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class _Slice(Sequence[list[Piece]]):
    """Some batches of an epoch."""

    def __init__(self, batches: EpochBatches, places: range) -> None:
        self._batches, self._places = batches, places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> list[Piece]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[list[Piece]]: ...
    def __getitem__(self, index: int | slice) -> list[Piece] | Sequence[list[Piece]]:
        if isinstance(index, slice):
            return _Slice(self._batches, self._places[index])
        return self._batches[self._places[index]]
