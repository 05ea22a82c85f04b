"""The alignments of a subset as arrays, which a file keeps: reading it takes milliseconds, parsing the tables seconds.

The file is safetensors: the columns of segment_arrays.py, ids and names as text, and what was damaged.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from speechattn.data.array_files import mapped, read_header
from speechattn.data.labels.segment_arrays import SegmentSlice, SegmentTable, concatenate
from speechattn.data.labels.segments import Alignment
from speechattn.system.atomic_files import write_bytes

VERSION = "speechattn-alignments-1"


class AlignmentTable(Mapping[str, Alignment]):
    """Alignments by utterance id, and in `damaged` the reason of each utterance whose alignment cannot be used.

    Args:
        ids: of N utterances.
        ends_s: seconds that each alignment covers [N]; NaN where gaps are silence (`Alignment.stop_s` is None).
        edges: rows of the table where each utterance begins, and the number of rows [N + 1].
        segments: of all utterances.
        damaged: reasons by id.
    """

    def __init__(
        self,
        ids: list[str],
        ends_s: NDArray[np.float64],
        edges: NDArray[np.int64],
        segments: SegmentTable,
        damaged: Mapping[str, str],
    ) -> None:
        self.ids, self.ends_s, self.edges, self.segments, self.damaged = ids, ends_s, edges, segments, dict(damaged)
        self._index = {id: i for i, id in enumerate(ids)}

    @classmethod
    def of(cls, alignments: Mapping[str, Alignment], damaged: Mapping[str, str]) -> AlignmentTable:
        """Return the table of alignments by id."""
        slices = [SegmentSlice.of(alignment.segments) for alignment in alignments.values()]
        ends = [math.nan if alignment.stop_s is None else alignment.stop_s for alignment in alignments.values()]
        edges = np.cumsum([0, *map(len, slices)], dtype=np.int64)
        return cls(list(alignments), np.array(ends, np.float64), edges, concatenate(slices), damaged)

    def __getitem__(self, id: str) -> Alignment:
        i = self._index[id]
        end = float(self.ends_s[i])
        segments = SegmentSlice(self.segments, int(self.edges[i]), int(self.edges[i + 1]))
        return Alignment(segments, None if math.isnan(end) else end)

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_bytes(self) -> int:
        """About the size of the file."""
        table = self.segments
        return table.starts_s.nbytes + table.stops_s.nbytes + table.labels.nbytes + 50 * len(self)

    def save(self, path: Path) -> None:
        """Write the table atomically."""
        columns: dict[str, NDArray[Any]] = {
            "starts_s": self.segments.starts_s,
            "stops_s": self.segments.stops_s,
            "labels": self.segments.labels,
            "ends_s": self.ends_s,
            "edges": self.edges,
        }
        texts = {"ids": self.ids, "names": self.segments.names, "damaged": self.damaged}
        write_bytes(path, safetensors.numpy.save(columns, {VERSION: json.dumps(texts)}))

    @classmethod
    def load(cls, path: Path) -> AlignmentTable | None:
        """Return the table that `save` wrote, mapped; None if the file is missing or is no such file."""
        try:
            metadata, columns = read_header(path)
            texts = json.loads(metadata[VERSION])
            ids, names, damaged = texts["ids"], texts["names"], texts["damaged"]
            arrays = {name: mapped(path, column) for name, column in columns.items()}
            table = SegmentTable(arrays["starts_s"], arrays["stops_s"], arrays["labels"], tuple(names))
            return cls(ids, np.array(arrays["ends_s"]), np.array(arrays["edges"]), table, damaged)
        except (OSError, ValueError, KeyError, TypeError):
            return None
