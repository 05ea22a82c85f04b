"""Segments as arrays: 20 bytes a segment, where a list of `Segment` objects takes 200.

A corpus of 100 hours has 3.5 million phones. `SegmentTable` holds the columns, `SegmentSlice` is a sequence of
`Segment` over some of its rows, made on access.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from speechattn.data.labels.segments import Segment
from speechattn.errors import DataError

Times = NDArray[np.float64]
Indices = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class SegmentTable:
    """Segments in rows: where each begins and ends, in seconds [S], and the index of its label in `names` [S]."""

    starts_s: Times
    stops_s: Times
    labels: Indices
    names: tuple[str, ...]

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> SegmentTable:
        """Return the table of a sequence of segments."""
        index: dict[str, int] = {}
        labels = [index.setdefault(segment.label, len(index)) for segment in segments]
        return cls(
            np.array([segment.start_s for segment in segments], np.float64),
            np.array([segment.stop_s for segment in segments], np.float64),
            np.array(labels, np.int32),
            tuple(index),
        )


class SegmentSlice(Sequence[Segment]):
    """The segments in rows [first, last) of a table; equal to any sequence of the same segments."""

    __slots__ = ("first", "last", "table")

    def __init__(self, table: SegmentTable, first: int, last: int) -> None:
        self.table, self.first, self.last = table, first, last

    @classmethod
    def of(cls, segments: Sequence[Segment]) -> SegmentSlice:
        """Return segments as a slice; one that is a slice is returned unchanged."""
        return segments if isinstance(segments, cls) else cls(SegmentTable.of(segments), 0, len(segments))

    @property
    def starts_s(self) -> Times:
        """Where each segment begins, in seconds."""
        return self.table.starts_s[self.first : self.last]

    @property
    def stops_s(self) -> Times:
        """Where each segment ends, in seconds."""
        return self.table.stops_s[self.first : self.last]

    @property
    def labels(self) -> Indices:
        """The index of each segment's label in `table.names`."""
        return self.table.labels[self.first : self.last]

    def __len__(self) -> int:
        return self.last - self.first

    @overload
    def __getitem__(self, index: int) -> Segment: ...
    @overload
    def __getitem__(self, index: slice) -> list[Segment]: ...
    def __getitem__(self, index: int | slice) -> Segment | list[Segment]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = range(self.first, self.last)[index]
        table = self.table
        return Segment(float(table.starts_s[row]), float(table.stops_s[row]), table.names[table.labels[row]])

    def __iter__(self) -> Iterator[Segment]:
        names = self.table.names
        for start, stop, label in zip(self.starts_s.tolist(), self.stops_s.tolist(), self.labels.tolist(), strict=True):
            yield Segment(start, stop, names[label])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


class Relabelling:
    """The class of each name of a table, looked up once a table, or the error of names that have no class.

    Args:
        to_class: returns the class of a label, or raises DataError.
    """

    def __init__(self, to_class: Callable[[str], str]) -> None:
        self._to_class = to_class
        self._last: tuple[SegmentTable, SegmentTable, dict[int, DataError]] | None = None

    def __call__(self, segments: Sequence[Segment]) -> SegmentSlice:
        """Return the segments with classes for labels.

        Raises:
            DataError: that of the first segment whose label has no class.
        """
        known = SegmentSlice.of(segments)
        if self._last is None or self._last[0] is not known.table:
            self._last = (known.table, *self._relabelled(known.table))
        _, table, faults = self._last
        if faults:
            for label in known.labels.tolist():
                if label in faults:
                    raise faults[label]
        return SegmentSlice(table, known.first, known.last)

    def _relabelled(self, table: SegmentTable) -> tuple[SegmentTable, dict[int, DataError]]:
        index: dict[str, int] = {}
        faults: dict[int, DataError] = {}
        classes = np.zeros(len(table.names), np.int32)
        for i, name in enumerate(table.names):
            try:
                classes[i] = index.setdefault(self._to_class(name), len(index))
            except DataError as error:
                faults[i] = error
        return SegmentTable(table.starts_s, table.stops_s, classes[table.labels], tuple(index)), faults


def concatenate(parts: Sequence[SegmentSlice]) -> SegmentTable:
    """Return one table with the rows of all parts, in their order."""
    index: dict[str, int] = {}
    labels: list[NDArray[Any]] = []
    table: SegmentTable | None = None
    for part in parts:
        if part.table is not table:
            table = part.table
            merged = np.array([index.setdefault(name, len(index)) for name in table.names], np.int32)
        labels.append(merged[part.labels])
    empty = SegmentTable.of([])
    return SegmentTable(
        np.concatenate([empty.starts_s, *(part.starts_s for part in parts)]),
        np.concatenate([empty.stops_s, *(part.stops_s for part in parts)]),
        np.concatenate([empty.labels, *labels]),
        tuple(index),
    )
