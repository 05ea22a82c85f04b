"""One shard of the cache: frames and labels of some utterances in a safetensors file, of which any rows can be read.

    frames   [sum T, F]  float32 or float16         edges    [N + 1]  first frame of each example, and their number
    labels   [sum T]     int16 (int32 of many       samples  [N]      samples of each example
                         classes), -100 no label    sources  [N]      place of its utterance in the shard
    means    [N, F]      float64, of the frames     ids      bytes    ids of the examples, one a line
    squares  [N, F]      float64, summed squares of the deviations from the mean

Examples are utterances and their copies. The header has the key of the contents, utterances that do not decode with the
reason, warnings, and the sha256 of the data. A shard is compared with its sum when it is written; when it is opened,
its size is compared with the header.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechattn.data.array_files import DTYPES, Column, read_header
from speechattn.errors import DataError
from speechattn.system.atomic_files import path_aside, sync_directory, write_synced

VERSION, METADATA = "speechattn-features-1", "speechattn"
"""All metadata are one entry: safetensors writes several in any order, and equal shards shall be equal files."""
Fault = tuple[int, str, str]
"""An utterance that does not decode: its place in the shard, the reason by which it is counted, and the message."""


class ShardDamageError(Exception):
    """A shard that is not whole; the message says what was found."""


@dataclass(frozen=True, eq=False)
class Shard:
    """A shard with its small columns in memory; rows of the others are read when they are asked for."""

    path: Path
    columns: dict[str, Column]
    edges: NDArray[np.int64]
    samples: NDArray[np.int64]
    sources: NDArray[np.int32]
    faults: tuple[Fault, ...]
    changes: dict[str, str]
    """Warnings of changes to the audio, by kind."""

    def __len__(self) -> int:
        return len(self.samples)

    def frames(self, row: int, start: int = 0, stop: int | None = None) -> Tensor:
        """Return frames [start, stop) of an example, all by default, [T, F] in float32."""
        return torch.from_numpy(self._part("frames", row, start, stop).astype(np.float32, copy=False))

    def labels(self, row: int, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return labels [start, stop) of an example, all by default, [T] as they are stored."""
        return self._part("labels", row, start, stop)

    def moments(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean [N, F] and summed squares [N, F] of the frames of each example."""
        return _rows(self.path, self.columns["means"]), _rows(self.path, self.columns["squares"])

    def ids(self) -> list[str]:
        """Return the ids of the examples."""
        return (
            _rows(self.path, self.columns["ids"]).tobytes().decode("utf-8", "surrogateescape").split("\n")
            if len(self)
            else []
        )

    def _part(self, name: str, row: int, start: int, stop: int | None) -> NDArray[Any]:
        first, last = int(self.edges[row]), int(self.edges[row + 1])
        part = range(first, last)[start:stop]
        return _rows(self.path, self.columns[name], part.start, max(part.start, part.stop))


def open_shard(path: Path, key: str) -> Shard | None:
    """Return the shard at `path`, or None if there is none.

    Raises:
        ShardDamageError: its size is not that of its contents, or it is no shard with this key.
    """
    try:
        metadata, columns = read_header(path)
        contents = json.loads(metadata[METADATA])
        if (contents["version"], contents["key"]) != (VERSION, key):
            raise ShardDamageError("it holds other contents than its name says")
        edges, samples, sources = (_rows(path, columns[name]) for name in ("edges", "samples", "sources"))
        faults = tuple((int(i), str(reason), str(found)) for i, reason, found in contents["faults"])
        return Shard(path, columns, edges, samples, sources, faults, dict(contents["changes"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ShardDamageError(str(error) or type(error).__name__) from error


def write_shard(
    path: Path, key: str, columns: dict[str, NDArray[Any]], faults: Sequence[Fault], changes: dict[str, str]
) -> None:
    """Write a shard atomically, and compare what is on the disk with what was written before it gets its name.

    Raises:
        OSError: the system refuses, or the disk returns other bytes.
    """
    contents = {"version": VERSION, "key": key, "faults": faults, "changes": changes, "sha256": _sum(columns)}
    aside = path_aside(path)
    try:
        write_synced(aside, safetensors.numpy.save(columns, {METADATA: json.dumps(contents)}))
        if not is_intact(aside, key):
            raise OSError(errno.EIO, "the disk returns other bytes than were written", str(path))
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def is_intact(path: Path, key: str) -> bool:
    """Return whether the data of a shard have the sum in its header: all of it is read."""
    try:
        shard = open_shard(path, key)
        if shard is None:
            return False
        with safetensors.safe_open(path, "numpy") as file:
            expected = json.loads(file.metadata()[METADATA])["sha256"]
        return _sum({name: _rows(path, column) for name, column in shard.columns.items()}) == str(expected)
    except (ShardDamageError, DataError, OSError, safetensors.SafetensorError):
        return False


def _sum(columns: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(columns):
        digest.update(np.ascontiguousarray(columns[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _rows(path: Path, column: Column, first: int = 0, last: int | None = None) -> NDArray[Any]:
    """Return rows [first, last) of a column, all by default.

    They are read, not mapped: of a file that became shorter a map would kill the process, and pages of a map count as
    resident memory.

    Raises:
        DataError: the file became shorter, or disappeared, after it was opened.
    """
    count, *rest = column.shape
    rows: NDArray[Any] = np.empty((min(count, count if last is None else last) - first, *rest), DTYPES[column.dtype])
    if rows.size:
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(column.offset + first * (rows.nbytes // len(rows)))
                whole = file.readinto(rows.reshape(-1).view(np.uint8).data) == rows.nbytes
        except FileNotFoundError:
            whole = False
        if not whole:
            raise DataError(f"{path} was cut, replaced or removed while in use: start again, it is made anew.")
    return rows
