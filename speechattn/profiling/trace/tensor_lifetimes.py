"""Every tensor of a pass, with its layer and source line, and which of them were alive at the peak.

Counted as in profiling/tensor_memory.py: a storage counts once, views count nothing, and temporary memory inside an
operator is not seen.
"""

from __future__ import annotations

import functools
import inspect
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
from speechattn.profiling.torch_internals import (
    ACCUMULATE_GRAD,
    last_sequence_number,
    operator_name,
    running_backward_node,
    sequence_number,
    storage_address,
)
from speechattn.profiling.trace.module_marks import OUTSIDE, ModuleMarks

MAX_EVENTS = 2_000_000
"""Allocations and releases that a log has room for, some hundred bytes each."""
PACKAGE = Path(__file__).parents[2]
TORCH, PYTHON, HERE = str(Path(torch.__file__).parent), sysconfig.get_path("stdlib"), Path(__file__).parent
COUNTING = tuple(
    map(str, (__file__, HERE / "module_marks.py", HERE.parent / "tensor_memory.py", HERE.parent / "torch_internals.py"))
)


class Origin(NamedTuple):
    """Origin of a tensor: the innermost module, whether in the backward pass, the operator, and the source line.

    `line` is "file:line" in speechattn or in the user's code; in the backward pass that of the forward operator.
    """

    layer: str
    backward: bool
    operation: str
    line: str


class NewStorage(NamedTuple):
    """A storage, with shape and dtype of its first tensor."""

    origin: Origin
    shape: tuple[int, ...]
    dtype: str


class TensorLifetimes(PeakTensors):  # type: ignore[no-untyped-call]
    """A log of allocated and freed storages while it is entered.

    `made` are all storages in the order of allocation; `log` has (index into `made`, change in bytes), and `clock` the
    time of each entry in seconds. `backward_start` is the length of the log at the start of the backward pass.

    Native attention is called as an operator here, and returns the sum of every row of weights (4 bytes a head and
    frame), which inference otherwise does not compute. Its table of biases and numpy's arrays are not seen.

    Raises:
        CannotRunError: more is allocated than the log has room for.
    """

    def __init__(self, layers: ModuleMarks, known: Iterable[Tensor] = ()) -> None:
        self.made: list[NewStorage] = []
        self.log: list[tuple[int, int]] = []
        self.clock: list[float] = []
        self.backward_start: int | None = None
        self._layers = layers
        self._indices: dict[int, int] = {}
        """Index into `made` by the address of a storage, as in PeakTensors."""
        self._numbered: dict[int, tuple[str, str]] = {}
        """Layer and line of the forward operator by autograd's sequence number."""
        self._latest = (OUTSIDE, "")
        self._operation = ""
        super().__init__(known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._operation = operator_name(func)
        if running_backward_node() is not None:
            self.backward_start = len(self.log) if self.backward_start is None else self.backward_start
        else:
            # The backward node of this operator, if it has one, was numbered before the dispatch mode is called.
            number = last_sequence_number()
            if number not in self._numbered:
                self._numbered[number] = (self._layers.current, _line())
        return super().__torch_dispatch__(func, types, args, kwargs)

    def at_peak(self) -> tuple[int, int, dict[int, int]]:
        """Return the peak in bytes, the length of the log then, and the bytes alive by index into `made`."""
        total, peak, place = 0, 0, 0
        for position, (_, change) in enumerate(self.log, start=1):
            total += change
            if total > peak:
                peak, place = total, position
        return peak, place, self.after(place)

    def after(self, place: int) -> dict[int, int]:
        """Return the bytes alive after the first `place` entries of the log, by index into `made`."""
        alive: dict[int, int] = {}
        for index, change in self.log[:place]:
            alive[index] = alive.get(index, 0) + change
        return {index: size for index, size in alive.items() if size}

    def _note(self, tensor: Tensor, counts: bool = True) -> None:
        before = self.alive_bytes
        super()._note(tensor, counts)
        if self.alive_bytes == before:
            return
        key = storage_address(tensor)
        if key not in self._indices:
            self._indices[key] = len(self.made)
            self.made.append(NewStorage(self._origin(), tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")))
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
        node = running_backward_node()
        if node is None or self._layers.current != OUTSIDE:  # a checkpointed block is recomputed in the backward pass
            return Origin(self._layers.current, node is not None, self._operation, _line())
        number = sequence_number(node)
        if number != ACCUMULATE_GRAD:
            self._latest = self._numbered.get(number, (OUTSIDE, ""))
        layer, line = self._latest
        return Origin(layer, True, self._operation, line)


def _line() -> str:
    """Return the innermost source line of speechattn or the user, as "speechattn/encoder/encoder.py:150"."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        if name := _shown_path(frame.f_code.co_filename):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


@functools.cache
def _shown_path(file: str) -> str:
    """Return a short path of a file; "" for files of torch, of Python and of the counter itself."""
    installed = "site-packages" in file or "dist-packages" in file
    if file.startswith((TORCH, *COUNTING, "<")) or (file.startswith(PYTHON) and not installed):
        return ""
    folder = next((folder for folder in (PACKAGE.parent, Path.cwd()) if Path(file).is_relative_to(folder)), None)
    return file if folder is None else str(Path(file).relative_to(folder))
