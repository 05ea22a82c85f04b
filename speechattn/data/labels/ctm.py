"""CTM, the table of NIST's scoring tools: a line for each phone or word, `utterance channel start duration label`.

Labels are returned as they are written; classes.py maps them to classes. `write_ctm` writes such a table.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from speechattn.data.labels.segment_arrays import Indices, SegmentSlice, SegmentTable, Times
from speechattn.data.labels.segments import MAX_OVERLAP_S, FaultHandler, Segment, raise_fault, sort_segments
from speechattn.data.text_files import check_text, table_lines
from speechattn.errors import DataError
from speechattn.system.atomic_files import write_lines

_CHANNELS = {"A": "1", "B": "2"}

Row = tuple[str, Segment, int]
"""The channel, the segment and the number of a line."""


class _Lines(NamedTuple):
    """The good lines of a file as columns, in the order of the file; names are in the order of their first line."""

    ids: tuple[str, ...]
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    id_of: Indices
    channel_of: Indices
    label_of: Indices
    numbers: Indices
    starts_s: Times
    stops_s: Times


def read_ctm(path: str | Path, fault: FaultHandler = raise_fault) -> dict[str, SegmentSlice]:
    """Return the segments of each utterance by id, sorted, in seconds. Lines that begin with ;; are comments.

    A segment that reaches at most one frame (10 ms) into the next is cut there. Each bad line is passed to `fault` with
    file and line number; the good lines of its utterance are returned.

    Raises:
        DataError: the file cannot be read; and, unless `fault` keeps them: a line has too few fields, a time is not a
            finite number or is negative, two segments overlap by more, or an utterance has several channels.
    """
    lines = _read_lines(path, fault)
    order = np.lexsort((lines.stops_s, lines.starts_s, lines.id_of))
    id_of, starts, stops = lines.id_of[order], lines.starts_s[order], lines.stops_s[order]
    table = SegmentTable(starts, stops, lines.label_of[order], lines.labels)
    same = id_of[1:] == id_of[:-1]
    overlap = np.where(same, stops[:-1] - starts[1:], 0.0)
    channels = np.array([_channel(name) for name in lines.channels])[lines.channel_of[order]]
    suspects = set(id_of[1:][(overlap > MAX_OVERLAP_S) | (same & (channels[1:] != channels[:-1]))].tolist())
    stops[:-1] = np.where(overlap > 0, starts[1:], stops[:-1])
    edges = np.searchsorted(id_of, np.arange(len(lines.ids) + 1))
    found = {}
    for index, id in enumerate(lines.ids):
        if index in suspects:
            try:
                rows = _rows(lines, index)
                _check_channel(id, rows, path)
                sort_segments([(segment, number) for _, segment, number in rows], path)
            except DataError as error:
                fault(id, error)
                continue
        found[id] = SegmentSlice(table, int(edges[index]), int(edges[index + 1]))
    return found


def _read_lines(path: str | Path, fault: FaultHandler) -> _Lines:
    """Return the good lines; 100 hours of speech have 3.5 million, so that a regular line takes a microsecond."""
    ids: dict[str, int] = {}
    channels: dict[str, int] = {}
    labels: dict[str, int] = {}
    id_of, channel_of, label_of, numbers = array("i"), array("i"), array("i"), array("i")
    starts, stops = array("d"), array("d")
    for number, line in enumerate(table_lines(Path(path)), start=1):
        fields = line.split()
        try:
            id, channel, start, duration, label = fields[:5]
            begin, length = float(start), float(duration)
            end = begin + length
            if not (begin >= 0 and length >= 0 and end < math.inf and line.isascii()) or id.startswith(";;"):
                raise ValueError
        except ValueError:  # not a regular line: find out why
            if not fields or fields[0].startswith(";;"):
                continue
            try:
                channel, segment, _ = _row(fields, path, number)
            except DataError as error:
                fault(fields[0], error)
                continue
            id, label, begin, end = fields[0], segment.label, segment.start_s, segment.stop_s
        id_of.append(ids.setdefault(id, len(ids)))
        channel_of.append(channels.setdefault(channel, len(channels)))
        label_of.append(labels.setdefault(label, len(labels)))
        numbers.append(number)
        starts.append(begin)
        stops.append(end)
    return _Lines(
        tuple(ids),
        tuple(channels),
        tuple(labels),
        np.frombuffer(id_of, np.int32),
        np.frombuffer(channel_of, np.int32),
        np.frombuffer(label_of, np.int32),
        np.frombuffer(numbers, np.int32),
        np.frombuffer(starts),
        np.frombuffer(stops),
    )


def _rows(lines: _Lines, index: int) -> list[Row]:
    """Return the lines of one utterance in the order of the file."""
    return [
        (
            lines.channels[lines.channel_of[i]],
            Segment(float(lines.starts_s[i]), float(lines.stops_s[i]), lines.labels[lines.label_of[i]]),
            int(lines.numbers[i]),
        )
        for i in np.flatnonzero(lines.id_of == index)
    ]


def _row(fields: list[str], path: str | Path, number: int) -> Row:
    try:
        check_text(" ".join(fields))
    except ValueError as error:
        raise DataError(f"{path}:{number}: {error}") from error
    try:
        _, channel, start, duration, label = fields[:5]
        begin, length = float(start), float(duration)
    except ValueError as error:
        raise DataError(
            f"{path}:{number}: expected 'utterance channel start duration label', got {' '.join(fields)[:80]!r}."
        ) from error
    if not (math.isfinite(begin + length) and begin >= 0 and length >= 0):
        raise DataError(f"{path}:{number}: start and duration must be 0 or more seconds, got {start} and {duration}.")
    return channel, Segment(begin, begin + length, label), number


def _check_channel(id: str, lines: Sequence[Row], path: str | Path) -> None:
    """Raise DataError for labels of several channels, whose audio is averaged; 1 equals A, and 2 equals B."""
    first = {_channel(channel): (number, channel) for channel, _, number in reversed(lines)}
    if len(first) > 1:
        names = ", ".join(sorted(channel for _, channel in first.values()))
        raise DataError(
            f"{path}:{max(first.values())[0]}: utterance {id} has labels of {len(first)} channels "
            f"({names}), and its audio is averaged to one. Write each channel to a file of its own "
            "(sox in.wav left.wav remix 1), and give its lines that file's id."
        )


def _channel(name: str) -> str:
    return _CHANNELS.get(name.upper(), name)


def is_ctm_id(id: str) -> bool:
    """Return whether an utterance's id is one field of a CTM line that is no comment, and UTF-8 text."""
    return len(id.split()) == 1 and not id.startswith(";;") and not any("\ud800" <= sign <= "\udfff" for sign in id)


def write_ctm(path: str | Path, utterances: Iterable[tuple[str, Sequence[Segment]]]) -> None:
    """Write the segments of each (id, segments) as a CTM file, atomically; times are rounded to whole milliseconds.

    A segment shorter than half a millisecond may be left out.

    Raises:
        ValueError: an id is none for `is_ctm_id`, or a label is empty or holds a space.
    """
    write_lines(path, _lines(utterances))


def _lines(utterances: Iterable[tuple[str, Sequence[Segment]]]) -> Iterator[str]:
    for id, segments in utterances:
        for segment in segments:
            start, stop = round(1000 * segment.start_s), round(1000 * segment.stop_s)
            if not is_ctm_id(id) or len(segment.label.split()) != 1:
                raise ValueError(f"utterance {id!r}, label {segment.label!r}: a field of a CTM line holds no space.")
            if start < stop:
                yield f"{id} 1 {start / 1000:.3f} {(stop - start) / 1000:.3f} {segment.label}"
