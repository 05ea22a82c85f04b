"""ResumableArray: a .npy file that grows block by block, and continues after an interruption.

While `x.npy` is unfinished, `x.npy.part` holds its rows, and `x.npy.state`, safetensors and JSON, what is needed to
continue: the owner of the rows, their number, and the state of the stream after them. At the end the first is renamed
and the second removed. A kill at any moment loses the current block.
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

FORMAT_VERSION = 2
HEADER_BYTES = 128
"""Header size with space for any number of rows, which is known at the end only."""


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a file has been written."""

    owner: str
    """Hash of the model and the settings."""
    rows: int
    """Rows in the file."""
    taken: int
    """Samples or frames of the source that they were computed from."""
    sha256: str
    """Hash of these."""


class ResumableArray:
    """A .npy file of rows [T, width] in the writing: ``with ResumableArray(...) as array: ...``.

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
        """Return (progress, state) of an interrupted call, or None; `initial` is a state of the same classes."""
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
        """Append rows [n, width]."""
        self._write(self._end, rows.detach().cpu().double().numpy().astype(self.dtype).tobytes())
        self.rows += len(rows)

    def keep(self, taken: int, sha256: str, state: Any) -> None:
        """Make the rows so far and the state after them durable: an interrupted call continues from here."""
        tensors: dict[str, Tensor] = {}
        described = dataclasses.asdict(Progress(self.owner, self.rows, taken, sha256))
        described |= {"format_version": FORMAT_VERSION, "state": packed(state, tensors)}
        with self._written(self.state):
            os.fsync(self._file.fileno())
            write_bytes(self.state, to_bytes(tensors, {"progress": json.dumps(described)}))

    def finish(self) -> None:
        """Rename the complete file to its final name."""
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
        """Open and lock the unfinished file, and return True if it existed."""
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
        """Return True if the open file still has the name of the unfinished one."""
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
        """Turn an OSError into a UserError that says what to do."""
        try:
            yield
        except OSError as error:
            raise UserError(
                f"{path} cannot be written ({error.strerror}); finished rows are kept: repeat the call to continue."
            ) from error


def packed(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a state as plain JSON types, with its tensors moved into `tensors`."""
    if isinstance(tree, Tensor):
        name = str(len(tensors))
        tensors[name] = tree.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if dataclasses.is_dataclass(tree):
        tree = tuple(getattr(tree, entry.name) for entry in dataclasses.fields(tree))
    return [packed(part, tensors) for part in tree] if isinstance(tree, tuple) else tree


def unpacked(plain: Any, like: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the state that `packed` took apart; `like` is a state of the same classes."""
    if isinstance(plain, dict):
        return tensors[plain["tensor"]]
    if not isinstance(plain, list):
        return plain
    named = dataclasses.is_dataclass(like)
    examples = [getattr(like, entry.name) for entry in dataclasses.fields(like)] if named else like or ()
    parts = [unpacked(part, example, tensors) for part, example in zip_longest(plain, examples)]
    return type(like)(*parts) if named or hasattr(like, "_fields") else tuple(parts)
