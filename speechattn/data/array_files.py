"""Arrays in a safetensors file without loading all of it: the header, and any array as a memory map."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_HEADER_BYTES = 10**8
"""safetensors' own limit."""
DTYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32, "I16": np.int16}
DTYPES |= {"U8": np.uint8}


class Column(NamedTuple):
    """Type and shape of an array, and its place in the file in bytes."""

    dtype: str
    shape: tuple[int, ...]
    offset: int


def read_header(path: Path) -> tuple[dict[str, str], dict[str, Column]]:
    """Return metadata and arrays of a file, whose size is that of its contents.

    Raises:
        FileNotFoundError: there is no file.
        OSError, ValueError: it cannot be read, is no safetensors file, or has another size than its header says.
    """
    with path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= min(MAX_HEADER_BYTES, size):
            raise ValueError(f"{size} bytes without a header")
        try:
            header = json.loads(file.read(length))
            metadata = dict(header.pop("__metadata__", {}))
            start = 8 + length
            columns = {
                name: Column(str(entry["dtype"]), tuple(entry["shape"]), start + int(entry["data_offsets"][0]))
                for name, entry in header.items()
            }
            expected = start + max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("its header is damaged") from error
    if size != expected:
        raise ValueError(f"it has {size} bytes, expected {expected}")
    return metadata, columns


def mapped(path: Path, column: Column) -> NDArray[Any]:
    """Return an array as a map of the file: its pages are shared by processes, and the system may drop them."""
    if 0 in column.shape:
        return np.zeros(column.shape, DTYPES[column.dtype])
    return np.asarray(np.memmap(path, DTYPES[column.dtype], "r", column.offset, column.shape))
