"""The best paths through the frames so far: the recursion of viterbi.py, and what it remembers between two steps.

The transition is the same for every pair of classes, so a change comes from the one best path whose last run is long
enough. Hence a frame costs O(C) per frame of the longest minimum, and its history is two integers: the class of that
path, and the frame at which its run began.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechattn.decoding.smoothing import Smoothing
from speechattn.stream_state import num_bytes

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
NEVER = -np.inf
"""Score of what is impossible."""


class Settings:
    """A `Smoothing` for C classes, as arrays; M is the longest minimum."""

    def __init__(self, num_classes: int, smoothing: Smoothing) -> None:
        self.change_cost, self.lag_frames = smoothing.change_cost, smoothing.lag_frames
        self.minima: Integers = np.array(smoothing.minima(num_classes), np.int64)
        depth = int(self.minima.max())
        rows = (np.arange(depth)[:, None] - self.minima + 1) % depth
        self.reached: Integers = rows * num_classes + np.arange(num_classes)
        """Where, in `begun` [M, C], at frame t, the run of each class lies that reaches its minimum: row t % M."""

    def initial_state(self) -> ViterbiState:
        """Return the state before the first frame."""
        depth, num_classes = self.reached.shape
        begun = torch.full((depth, num_classes), NEVER, dtype=torch.float64)
        starts, origins, empty = (torch.zeros(size, dtype=torch.int64) for size in (num_classes, depth, 0))
        return ViterbiState(0, 0, begun[0].clone(), starts, begun, origins, empty, empty)


@dataclass(frozen=True)
class ViterbiState:
    """What a `ViterbiStream` keeps between two steps.

    M is the longest minimum; h frames are remembered: those without a label, and at least the last one.

    Scores are relative to that of the best path whose last run is long enough.
    """

    frames: int
    """Frames that have arrived."""
    decided: int
    """Frames whose label was returned."""
    complete: Tensor
    """Scores [C] of the best path that ends in a class, in a run that is long enough; float64."""
    starts: Tensor
    """The first frame of that run, [C] int64."""
    begun: Tensor
    """Scores [M, C] of the paths whose last run, of a class, began at frame s, in row s % M; float64."""
    origins: Tensor
    """The class before frame s, [M] int64, in row s % M."""
    best: Tensor
    """For each frame that is remembered: the class of the best path whose last run was long enough; [h] int64."""
    parents: Tensor
    """The first frame of that run; [h] int64."""

    @property
    def num_bytes(self) -> int:
        """Memory of all tensors, in bytes."""
        return num_bytes(self)


class BestPaths:
    """The arrays of a state while frames are added; `state` makes a new state of them."""

    def __init__(self, settings: Settings, state: ViterbiState) -> None:
        self._change_cost, self._lag = settings.change_cost, settings.lag_frames
        self._minima, self._reached = settings.minima, settings.reached
        self._depth, self._classes = len(settings.reached), np.arange(len(settings.minima))
        self._frames = state.frames
        self._first = state.decided
        """The first frame without a label."""
        tensors = (state.complete, state.starts, state.begun, state.origins)
        self._complete, self._starts, self._begun, self._origins = (x.numpy().copy() for x in tensors)
        self._best: list[int] = state.best.tolist()
        self._parents: list[int] = state.parents.tolist()
        self._base = state.frames - len(self._best)
        """The frame of `_best[0]`."""

    def state(self) -> ViterbiState:
        """Return what was computed as a state."""
        kept = max(1, self._frames - self._first)
        best, parents = (torch.tensor(x[-kept:], dtype=torch.int64) for x in (self._best, self._parents))
        complete, starts = torch.from_numpy(self._complete), torch.from_numpy(self._starts)
        begun, origins = torch.from_numpy(self._begun), torch.from_numpy(self._origins)
        return ViterbiState(self._frames, self._first, complete, starts, begun, origins, best, parents)

    def add(self, rows: Floats) -> Integers:
        """Return the classes that are decided after these frames."""
        lag = self._lag
        decided: list[int] = []
        for row in rows:
            self._add(row)
            if lag is not None and self._frames - self._first > lag:
                decided.append(self._at(self._first, *self._last_run()))
                self._first += 1
        return np.array(decided, np.int64) if lag is not None else self._agreed()

    def end(self) -> Integers:
        """Return the classes of all pending frames."""
        if self._first == self._frames:
            return np.zeros(0, np.int64)
        c = int(self._complete.argmax())
        whole_runs = self._complete[c] > NEVER
        return self._back(*((int(self._starts[c]), c) if whole_runs else self._last_run()), self._frames)

    def _add(self, row: Floats) -> None:
        """Add one frame: every path goes on, and one run of each class begins."""
        t, complete, begun = self._frames, self._complete, self._begun
        entry, origin = -self._change_cost, self._best[-1] if self._best else 0
        if not t:
            entry = 0.0
        elif complete.max() == NEVER:
            entry = NEVER
        begun[t % self._depth] = entry
        self._origins[t % self._depth] = origin
        begun += row
        complete += row
        reached = begun.take(self._reached[t % self._depth])
        taken = reached > complete
        equal = reached == complete
        if equal.any():
            taken |= equal & (self._origins.take((t - self._minima + 1) % self._depth) < self._classes)
        np.copyto(self._starts, t - self._minima + 1, where=taken)
        np.maximum(complete, reached, out=complete)
        best = int(complete.argmax())
        if (top := complete[best]) > NEVER:
            complete -= top
            begun -= top
        self._best.append(best)
        self._parents.append(int(self._starts[best]))
        self._frames += 1

    def _last_run(self) -> tuple[int, int]:
        """Return the start and the class of the last run of the best path, which may be shorter than its minimum."""
        top = max(self._complete.max(), self._begun.max())
        ends = (self._complete == top) | (self._begun == top).any(0)
        c = int(ends.argmax())
        start = int(self._starts[c]) if self._complete[c] == top else -1
        for s in range(max(0, self._frames - int(self._minima[c]) + 1), self._frames):
            row = s % self._depth
            if self._begun[row, c] == top and (start < 0 or self._origins[row] < c):
                start = s
        return start, c

    def _before(self, start: int) -> tuple[int, int]:
        """Return the start and the class of the run that ends before frame `start`."""
        i = start - 1 - self._base
        return self._parents[i], self._best[i]

    def _at(self, frame: int, start: int, c: int) -> int:
        """Return the class at `frame` of the path whose last run is of class `c` and began at `start`."""
        while start > frame:
            start, c = self._before(start)
        return c

    def _back(self, start: int, c: int, stop: int) -> Integers:
        """Return the classes from the first pending frame until before `stop` of the path that ends in this run."""
        classes = np.empty(stop - self._first, np.int64)
        while True:
            classes[max(0, start - self._first) : stop - self._first] = c
            if start <= self._first:
                self._first += len(classes)
                return classes
            stop = start
            start, c = self._before(start)

    def _agreed(self) -> Integers:
        """Return the classes of the pending frames in which all paths agree, so that no later frame changes them."""
        live = {(int(self._starts[c]), int(c)) for c in np.flatnonzero(self._complete > NEVER)}
        for s in range(max(0, self._frames - self._depth + 1), self._frames):
            short = (self._begun[s % self._depth] > NEVER) & (s > self._frames - self._minima)
            live |= {(s, int(c)) for c in np.flatnonzero(short)}
        stop = self._frames  # where they may differ
        live = {(max(start, self._first), c) for start, c in live}
        while len(live) > 1:
            start, c = max(live)
            if start == self._first:
                return np.zeros(0, np.int64)
            live.remove((start, c))
            stop = min(stop, start)
            start, c = self._before(start)
            live.add((max(start, self._first), c))
        return self._back(*live.pop(), stop) if live else np.zeros(0, np.int64)
