"""Every tensor of a pass with the line that made it and its layer; when the most were alive, and which.

The counting is that of profiling/tensor_memory.py, whose gaps it shares: a storage counts once, views count nothing,
and what an
operation keeps to itself while it runs is not seen.
"""

from __future__ import annotations

import functools
import sys
import sysconfig
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from speechattn.profiling.isolated import CannotRunError
from speechattn.profiling.tensor_memory import PeakTensors
from speechattn.profiling.trace.module_marks import OUTSIDE, ModuleMarks

MAX_EVENTS = 2_000_000
"""Births and deaths that a log has room for, some hundred bytes each."""
PACKAGE = Path(__file__).parents[2]
TORCH, PYTHON, HERE = str(Path(torch.__file__).parent), sysconfig.get_path("stdlib"), Path(__file__).parent
COUNTING = tuple(map(str, (__file__, HERE / "module_marks.py", HERE.parent / "tensor_memory.py")))
NOT_NUMBERED = 2**64 - 1
"""Autograd's number of a node that adds a gradient to a weight."""


class Origin(NamedTuple):
    """Where something comes from: the innermost module, whether in the backward pass, the operation, and the line.

    `line` is "file:line" in speechattn or in the user's code; of the backward pass the line whose gradient it is.
    """

    layer: str
    backward: bool
    operation: str
    line: str


class Made(NamedTuple):
    """A storage: the shape and type of the tensor that it was first seen as."""

    origin: Origin
    shape: tuple[int, ...]
    dtype: str


class TensorLifetimes(PeakTensors):  # type: ignore[no-untyped-call]
    """A log of births and deaths while it is entered, and what it says about the peak.

    `made` are all storages in the order of their births; `log` has (index into `made`, bytes more or fewer), and
    `clock` the second of each entry. `turned` is how much was written when the backward pass began.

    Native attention comes here as an operator, with the sum of every row of weights (4 bytes a head and frame), which
    inference would otherwise not make. Its table of biases and what numpy makes for itself is not seen.

    Raises:
        CannotRunError: more happens than there is room for.
    """

    def __init__(self, layers: ModuleMarks, known: Iterable[Tensor] = ()) -> None:
        self.made: list[Made] = []
        self.log: list[tuple[int, int]] = []
        self.clock: list[float] = []
        self.turned: int | None = None
        self._layers = layers
        self._indices: dict[int, int] = {}
        """By the address of a storage, as in PeakTensors: which of `made` it is."""
        self._numbered: dict[int, tuple[str, str]] = {}
        """By autograd's sequence number: layer and line of the operation that will be differentiated."""
        self._latest = (OUTSIDE, "")
        self._operation = ""
        super().__init__(known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._operation = func._schema.name
        if torch._C._current_autograd_node() is not None:
            self.turned = len(self.log) if self.turned is None else self.turned
        else:
            # The node of this operation, if it has one, was numbered before the operation came here.
            number = torch._C._autograd._get_sequence_nr() - 1
            if number not in self._numbered:
                self._numbered[number] = (self._layers.current, _line())
        return super().__torch_dispatch__(func, types, args, kwargs)

    def at_peak(self) -> tuple[int, int, dict[int, int]]:
        """The most bytes alive at once, how much of the log was written then, and bytes by index into `made`."""
        total, peak, place = 0, 0, 0
        for position, (_, change) in enumerate(self.log, start=1):
            total += change
            if total > peak:
                peak, place = total, position
        return peak, place, self.after(place)

    def after(self, place: int) -> dict[int, int]:
        """What is alive when so much of the log was written: bytes by index into `made`."""
        alive: dict[int, int] = {}
        for index, change in self.log[:place]:
            alive[index] = alive.get(index, 0) + change
        return {index: size for index, size in alive.items() if size}

    def _note(self, tensor: Tensor, counts: bool = True) -> None:
        before = self.alive_bytes
        super()._note(tensor, counts)
        if self.alive_bytes == before:
            return
        key = tensor.untyped_storage()._cdata
        if key not in self._indices:
            self._indices[key] = len(self.made)
            self.made.append(Made(self._origin(), tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")))
        if len(self.log) >= MAX_EVENTS:
            raise CannotRunError(f"makes more than {MAX_EVENTS // 2:,} tensors: give a shorter --duration")
        self._write(self._indices[key], self.alive_bytes - before)

    def _forget(self, key: int) -> None:
        before = self.alive_bytes
        super()._forget(key)
        index = self._indices.pop(key, None)
        if index is not None:
            self._write(index, self.alive_bytes - before)

    def _write(self, index: int, change: int) -> None:
        self.log.append((index, change))
        self.clock.append(time.perf_counter())

    def _origin(self) -> Origin:
        node = torch._C._current_autograd_node()
        if node is None or self._layers.current != OUTSIDE:  # a checkpointed block computes again in the backward pass
            return Origin(self._layers.current, node is not None, self._operation, _line())
        number = node._sequence_nr()
        if number != NOT_NUMBERED:
            self._latest = self._numbered.get(number, (OUTSIDE, ""))
        layer, line = self._latest
        return Origin(layer, True, self._operation, line)


def _line() -> str:
    """The innermost line of the stack that somebody wrote for this: "speechattn/encoder/encoder.py:150"."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if name := _told(frame.f_code.co_filename):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@functools.cache
def _told(file: str) -> str:
    """A file as a person knows it; "" where its lines say nothing: torch's, Python's own, those that count."""
    installed = "site-packages" in file or "dist-packages" in file
    if file.startswith((TORCH, *COUNTING, "<")) or (file.startswith(PYTHON) and not installed):
        return ""
    folder = next((folder for folder in (PACKAGE.parent, Path.cwd()) if Path(file).is_relative_to(folder)), None)
    return file if folder is None else str(Path(file).relative_to(folder))
