"""A .npy file that grows block by block, and goes on where an interruption left it.

While `x.npy` is unfinished, `x.npy.part` holds its rows and `x.npy.state` what is needed to go on: whose rows they
are, how many, and the state of the stream behind them, as safetensors and JSON. In the end the one is renamed and the
other removed. A kill at any moment costs the block at work. Not here: what the rows are.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from speechattn.errors import UserError
from speechattn.system.atomic_files import sync_directory, write_bytes

FORMAT_VERSION = 1
HEADER_BYTES = 128
"""Room for any number of rows, which the header names and only the end knows."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """What is kept with the rows: whose they are (`owner`), and how many came of how much input."""

    owner: str
    rows: int
    taken: int  # samples or frames of the source
    heard: str  # sha256 of these


class ResumableArray:
    """Rows [T, width] on their way into the file `path`: ``with ResumableArray(...) as array: ...``.

    Raises:
        UserError: the file cannot be written, another process is writing it, or what is there belongs to another owner.
    """

    def __init__(self, path: str | Path, width: int, dtype: Any, owner: str) -> None:
        self.path, self.width, self.dtype, self.owner = Path(path), width, np.dtype(dtype), owner
        self.part, self.state = (self.path.with_name(self.path.name + end) for end in (".part", ".state"))
        self.rows = 0

    def __enter__(self) -> ResumableArray:
        begun = self._open()
        while not self._is_part():  # its writer has renamed or removed it before it was locked here
            self._file.close()
            begun = self._open()
        if not begun:  # a state whose rows have been renamed already
            self.state.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None and not self.state.exists() and self._is_part():  # nothing to go on from
            self.part.unlink(missing_ok=True)
        self._file.close()  # last: from here another process may write

    def resume(self, initial: Any) -> tuple[Progress, Any] | None:
        """(progress, state) of what an interruption left, or None; `initial` is a state of that kind, for its shape."""
        if not self.state.exists():
            return None
        try:
            with safe_open(self.state, framework="pt") as saved:
                described = json.loads(saved.metadata()["progress"])
                tensors = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118 - not a dict
            if described["format_version"] != FORMAT_VERSION or described["owner"] != self.owner:
                raise UserError(
                    f"{self.part} was begun by another model, or with other settings: "
                    f"delete it and {self.state.name}, or choose another `out`."
                )
            progress = Progress(**{entry.name: described[entry.name] for entry in dataclasses.fields(Progress)})
            state = unpacked(described["state"], initial, tensors)
        except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise UserError(f"{self.state} is damaged ({error}): delete it and {self.part.name}.") from error
        self.rows = progress.rows
        if os.fstat(self._file.fileno()).st_size < self._end:
            raise UserError(f"{self.part} has lost rows: delete it and {self.state.name}.")
        return progress, state

    def append(self, rows: Tensor) -> None:
        """Put rows [n, width] behind those that are there."""
        self._write(self._end, rows.detach().cpu().double().numpy().astype(self.dtype).tobytes())
        self.rows += len(rows)

    def keep(self, taken: int, heard: str, state: Any) -> None:
        """Make the rows so far durable, and the state behind them: from here an interrupted run goes on."""
        tensors: dict[str, Tensor] = {}
        described = dataclasses.asdict(Progress(self.owner, self.rows, taken, heard))
        described |= {"format_version": FORMAT_VERSION, "state": packed(state, tensors)}
        with self._written(self.state):
            os.fsync(self._file.fileno())
            write_bytes(self.state, to_bytes(tensors, {"progress": json.dumps(described)}))

    def finish(self) -> None:
        """Give the file its name: it is whole."""
        words = f"{{'descr': {self.dtype.str!r}, 'fortran_order': False, 'shape': ({self.rows}, {self.width}), }}"
        header = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
        self._write(0, header + words.encode().ljust(HEADER_BYTES - 11) + b"\n")
        with self._written(self.path):
            self._file.truncate(self._end)
            os.fsync(self._file.fileno())
            self.part.replace(self.path)
            sync_directory(self.path.parent)
            self.state.unlink(missing_ok=True)

    @property
    def _end(self) -> int:
        return HEADER_BYTES + self.rows * self.width * int(self.dtype.itemsize)

    def _open(self) -> bool:
        """Open and lock the unfinished file; returns whether it was there."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            begun = self.part.exists()
            # Without a buffer: what a full disk has refused must not be tried again when the file is closed.
            self._file = FileIO(os.open(self.part, os.O_RDWR | os.O_CREAT, 0o666), "r+")
        except OSError as error:
            raise UserError(f"{self.part} cannot be written ({error.strerror}): choose another `out`.") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise UserError(f"another process is writing {self.path}: wait for it, or choose another `out`.") from None
        return begun

    def _is_part(self) -> bool:
        """Whether the open file still has the name of the unfinished one."""
        try:
            return os.path.samestat(self.part.stat(), os.fstat(self._file.fileno()))
        except FileNotFoundError:
            return False

    def _write(self, position: int, data: bytes) -> None:
        with self._written(self.part):
            self._file.seek(position)
            left = memoryview(data)
            while left:  # a disk that is nearly full takes a part
                left = left[self._file.write(left) :]

    @contextmanager
    def _written(self, path: Path) -> Iterator[None]:
        """What the disk refuses, as an error that says what now."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}); what is done is kept, and the same call goes on."
            ) from error


def packed(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """A state as plain JSON types, with its tensors moved into `tensors`."""
    if isinstance(tree, Tensor):
        name = str(len(tensors))
        tensors[name] = tree.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if dataclasses.is_dataclass(tree):
        tree = tuple(getattr(tree, entry.name) for entry in dataclasses.fields(tree))
    return [packed(part, tensors) for part in tree] if isinstance(tree, tuple) else tree


def unpacked(plain: Any, like: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The state that `packed` took apart; `like`, a state of that kind, says which classes it was made of."""
    if isinstance(plain, dict):
        return tensors[plain["tensor"]]
    if not isinstance(plain, list):
        return plain
    named = dataclasses.is_dataclass(like)
    examples = [getattr(like, entry.name) for entry in dataclasses.fields(like)] if named else like or ()
    parts = [unpacked(part, example, tensors) for part, example in zip_longest(plain, examples)]
    return type(like)(*parts) if named or hasattr(like, "_fields") else tuple(parts)
