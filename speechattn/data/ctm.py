"""CTM, the table of NIST's scoring tools: a line for each phone or word, `utterance channel start duration label`.

Labels stay as they are written; what they mean is said in `labels`. Only CTM is read here.
"""

from __future__ import annotations

import math
from pathlib import Path

from speechattn.data.segments import Segment, in_order, read_lines
from speechattn.errors import DataError


def read_ctm(path: str | Path) -> dict[str, list[Segment]]:
    """Segments by utterance id, sorted, times in seconds. Lines that begin with ;; are comments.

    A segment that reaches at most one frame (10 ms) into the next is cut there.

    Raises:
        DataError: a line has too few fields, a time is no finite number or negative, or two segments
            overlap by more; file and line are named.
    """
    rows: dict[str, list[tuple[Segment, int]]] = {}
    for number, line in enumerate(read_lines(Path(path)), start=1):
        fields = line.split()
        if not fields or fields[0].startswith(";;"):
            continue
        try:
            id, _, start, duration, label = fields[:5]
            begin, length = float(start), float(duration)
        except ValueError as error:
            raise DataError(
                f"{path}:{number}: expected 'utterance channel start duration label', got {line.strip()!r}."
            ) from error
        if not (math.isfinite(begin) and math.isfinite(length) and begin >= 0 and length >= 0):
            raise DataError(
                f"{path}:{number}: start and duration must be 0 or more seconds, got {start} and {duration}."
            )
        rows.setdefault(id, []).append((Segment(begin, begin + length, label), number))
    return {id: in_order(segments, path) for id, segments in rows.items()}
