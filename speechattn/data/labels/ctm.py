"""CTM, the table of NIST's scoring tools: a line for each phone or word, `utterance channel start duration label`.

Labels are returned as they are written; classes.py maps them to classes. `write_ctm` writes such a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from speechattn.data.labels.segments import FaultHandler, Segment, raise_fault, sort_segments
from speechattn.data.text_files import check_text, read_table
from speechattn.errors import DataError
from speechattn.system.atomic_files import write_lines

_CHANNELS = {"A": "1", "B": "2"}

Row = tuple[str, Segment, int]
"""The channel, the segment and the number of a line."""


def read_ctm(path: str | Path, fault: FaultHandler = raise_fault) -> dict[str, list[Segment]]:
    """Return the segments of each utterance by id, sorted, in seconds. Lines that begin with ;; are comments.

    A segment that reaches at most one frame (10 ms) into the next is cut there. Each bad line is passed to `fault` with
    file and line number; the good lines of its utterance are returned.

    Raises:
        DataError: the file cannot be read; and, unless `fault` keeps them: a line has too few fields, a time is not a
            finite number or is negative, two segments overlap by more, or an utterance has several channels.
    """
    rows: dict[str, list[Row]] = {}
    for number, line in enumerate(read_table(Path(path)), start=1):
        fields = line.split()
        if not fields or fields[0].startswith(";;"):
            continue
        try:
            row = _row(fields, path, number)
        except DataError as error:
            fault(fields[0], error)
        else:
            rows.setdefault(fields[0], []).append(row)
    found = {}
    for id, lines in rows.items():
        try:
            _check_channel(id, lines, path)
            found[id] = sort_segments([(segment, number) for _, segment, number in lines], path)
        except DataError as error:
            fault(id, error)
    return found


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
    first = {_CHANNELS.get(channel.upper(), channel): (number, channel) for channel, _, number in reversed(lines)}
    if len(first) > 1:
        names = ", ".join(sorted(channel for _, channel in first.values()))
        raise DataError(
            f"{path}:{max(first.values())[0]}: utterance {id} has labels of {len(first)} channels "
            f"({names}), and its audio is averaged to one. Write each channel to a file of its own "
            "(sox in.wav left.wav remix 1), and give its lines that file's id."
        )


def write_ctm(path: str | Path, utterances: Iterable[tuple[str, Sequence[Segment]]]) -> None:
    """Write the segments of each (id, segments) as a CTM file, atomically; times are rounded to whole milliseconds.

    A segment shorter than half a millisecond may be left out.

    Raises:
        ValueError: an id or a label is empty or holds a space, and would not be one field of a line.
    """
    write_lines(path, _lines(utterances))


def _lines(utterances: Iterable[tuple[str, Sequence[Segment]]]) -> Iterator[str]:
    for id, segments in utterances:
        for segment in segments:
            start, stop = round(1000 * segment.start_s), round(1000 * segment.stop_s)
            if len(id.split()) != 1 or len(segment.label.split()) != 1:
                raise ValueError(f"utterance {id!r}, label {segment.label!r}: a field of a CTM line holds no space.")
            if start < stop:
                yield f"{id} 1 {start / 1000:.3f} {(stop - start) / 1000:.3f} {segment.label}"
