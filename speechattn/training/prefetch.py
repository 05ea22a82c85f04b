"""Batches that worker processes make ahead of the training loop, in its order: torch's DataLoader.

Workers are new interpreters, started once a run: a fork next to torch's threads could hang. They ignore SIGINT and
SIGTERM, which the loop handles, and end with their parent.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import signal
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing.process import BaseProcess
from typing import Protocol

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from speechattn.errors import DataError, UserError, reason
from speechattn.training.config import TrainConfig
from speechattn.training.pieces import Piece

Batch = tuple[Tensor, Tensor, Tensor]
AHEAD = 4
"""Batches that each worker makes ahead."""


class BatchSource(Protocol):
    """What is needed of `TrainingBatches`."""

    @property
    def config(self) -> TrainConfig:
        """The settings of the run."""

    def epoch(self, epoch: int) -> Sequence[list[Piece]]:
        """Return the batches of an epoch."""

    def make(self, batch: Sequence[Piece]) -> Batch:
        """Return a batch, made in this process."""

    def alone(self) -> BatchSource:
        """Return the same batches, made in the process that asks for them."""


class Prefetcher:
    """The batches of a run from any place on.

    Args:
        batches: makes them; a copy of it goes to each worker.
        num_workers: processes.
    """

    def __init__(self, batches: BatchSource, num_workers: int) -> None:
        self._batches, self._num_workers = batches, num_workers
        self._next: tuple[int, int] | None = None
        self._iterator: Iterator[Batch | str] = iter(())
        self._workers: list[BaseProcess] = []

    def load(self, batch: Sequence[Piece]) -> Batch:
        """Return a batch, which is the next one, unless the loop starts somewhere else: then ahead is begun anew.

        Raises:
            DataError: a sound file does not decode any more.
        """
        if self._next is None or self._wanted(self._next) != list(batch):
            self._start(batch)
        assert self._next is not None
        try:
            found = next(self._iterator)
        except (EOFError, OSError) as error:  # it ended while it sent a batch, before torch has seen the end
            raise RuntimeError(f"DataLoader worker ended while it sent a batch: {reason(error)}") from error
        self._next = self._after(self._next)
        if self._next is None:
            self.close()
        if isinstance(found, str):
            raise DataError(found)
        return found

    def _start(self, batch: Sequence[Piece]) -> None:
        epoch = batch[0].epoch
        count = len(self._batches.epoch(epoch))
        first = next((k for k in range(count) if self._wanted((epoch, k)) == list(batch)), None)
        if first is None:
            raise ValueError("this batch is not one of its epoch.")
        self.close()
        self._next = epoch, first
        loader = DataLoader(
            _Places(self._batches.alone()),
            batch_size=None,
            sampler=_Order(self._batches, epoch, first),
            num_workers=self._num_workers,
            prefetch_factor=AHEAD,
            multiprocessing_context="spawn",
            worker_init_fn=_ignore_signals,
        )
        before = set(multiprocessing.active_children())
        self._iterator = iter(loader)
        self._workers = [worker for worker in multiprocessing.active_children() if worker not in before]
        atexit.register(_end, weakref.ref(self), self._workers)

    def close(self) -> None:
        """End the workers."""
        self._next, self._iterator = None, iter(())  # torch's iterator ends them
        _kill(self._workers)

    def _wanted(self, place: tuple[int, int]) -> list[Piece]:
        epoch, k = place
        return list(self._batches.epoch(epoch)[k])

    def _after(self, place: tuple[int, int]) -> tuple[int, int] | None:
        epoch, k = place
        if k + 1 < len(self._batches.epoch(epoch)):
            return epoch, k + 1
        return (epoch + 1, 0) if epoch + 1 < self._batches.config.epochs else None


@contextlib.contextmanager
def lost_worker_as_one_line() -> Iterator[None]:
    """Turn the end of a worker, which torch raises wherever the process is, into one line for the user.

    Raises:
        UserError: a worker has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):  # torch has no class for it
            raise
        raise UserError(
            f"a process that makes batches has ended ({reason(error).strip(' .')}): memory may be short. The last "
            "checkpoint is whole; the same command continues from it, with fewer --workers if you like; 0 is none."
        ) from error


class _Places(Dataset[Batch | str]):
    """Batches by (epoch, k), in a worker. An error is returned as text: torch would raise it with a traceback in it."""

    def __init__(self, batches: BatchSource) -> None:
        self._batches = batches

    def __getitem__(self, place: tuple[int, int]) -> Batch | str:
        epoch, k = place
        try:
            return self._batches.make(self._batches.epoch(epoch)[k])
        except UserError as error:
            return str(error)


class _Order:
    """All (epoch, k) of a run from one of them on."""

    def __init__(self, batches: BatchSource, epoch: int, first: int) -> None:
        self._batches, self._epoch, self._first = batches, epoch, first

    def __iter__(self) -> Iterator[tuple[int, int]]:
        first = self._first
        for epoch in range(self._epoch, self._batches.config.epochs):
            yield from ((epoch, k) for k in range(first, len(self._batches.epoch(epoch))))
            first = 0


def _end(prefetcher: weakref.ref[Prefetcher], workers: Sequence[BaseProcess]) -> None:
    """End workers at the exit of Python, which would ask them to by SIGTERM, which they ignore, and wait for ever."""
    found = prefetcher()
    if found is not None:
        found.close()
    _kill(workers)


def _kill(workers: Sequence[BaseProcess]) -> None:
    for worker in workers:
        if worker.is_alive():
            worker.kill()
            worker.join()


def _ignore_signals(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
