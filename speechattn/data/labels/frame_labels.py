"""Segments in seconds to one label per frame and back, through `Framing`, and files that hold such labels.

A frame's label is that of the segment at its window's centre, in whole samples; outside every segment it is IGNORE. One
alignment serves all framings, and labels of one framing are converted to another through segments, because equal frame
numbers of two framings are not equal times.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechattn.data.labels.classes import PHONES, label_class
from speechattn.data.labels.segment_arrays import SegmentSlice
from speechattn.data.labels.segments import IGNORE, Alignment, FaultHandler, Segment, raise_fault
from speechattn.data.text_files import check_text, read_lines, read_table
from speechattn.errors import DataError
from speechattn.framing import Framing

MAX_OVERHANG_S = 0.5
"""Largest distance between the end of an alignment and the end of its audio, in seconds."""

SNIP = Framing(align="snip")
"""Kaldi's frames."""


def read_classes(path: str | Path) -> tuple[str, ...]:
    """Return class names by index, from lines `index name` that count up from 0.

    Raises:
        DataError: a line is not such a pair, an index is out of order, or a name occurs twice; file and line are named.
    """
    names: list[str] = []
    for number, line in enumerate(read_lines(Path(path)), start=1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or fields[0] != str(len(names)) or fields[1] in names:
            raise DataError(f"{path}:{number}: expected '{len(names)} <new class name>', got {line.strip()!r}.")
        names.append(fields[1])
    if not names:
        raise DataError(f"{path} names no classes: expected lines such as '0 SIL'.")
    return tuple(names)


def read_frame_rows(
    path: str | Path,
    classes: Sequence[str] = PHONES,
    framing: Framing = SNIP,
    fault: FaultHandler = raise_fault,
) -> dict[str, Alignment]:
    """Return alignments by utterance id, from lines `utterance c c c ...` with one class index per frame.

    Such rows are made for Kaldi's frames, hence `snip`. An alignment covers all frames of its row, including those at
    its end that are -100 (unlabelled). A bad line is passed to `fault`, with its utterance, file and line number.

    Raises:
        DataError: the file cannot be read; and, unless `fault` keeps them: a number is not an index of `classes` and
            not -100, or an utterance occurs twice.
    """
    rows: dict[str, Alignment] = {}
    for number, line in enumerate(read_table(Path(path)), start=1):
        fields = line.split()
        if not fields:
            continue
        id, *labels = fields
        try:
            check_text(line)
            if id in rows:
                raise ValueError(f"utterance {id} occurs twice.")
            segments = labels_to_segments([int(label) for label in labels], framing, classes)
        except ValueError as error:
            fault(id, DataError(f"{path}:{number}: {error}"))
        else:
            rows[id] = Alignment(segments, framing.end_sample(len(labels)) / framing.sample_rate)
    return rows


def frame_labels(
    segments: Sequence[Segment], num_samples: int, framing: Framing, classes: Sequence[str] = PHONES
) -> Tensor:
    """Return the class index of each frame, [T] int64, T = framing.num_frames(num_samples), IGNORE outside segments.

    A segment that ends up to 0.5 s after the audio is clipped; an unknown word is <OTHER>.

    Raises:
        DataError: a phone is unknown (the nearest is named), two segments overlap, or the last one ends more than 0.5 s
            after the audio.

    Examples:
        >>> framing = Framing(sample_rate=1000, window=4, hop=2, align="snip")  # centres at 2, 4, 6, 8 ms
        >>> frame_labels([Segment(0.0, 0.004, "SIL"), Segment(0.004, 0.007, "AA")], 10, framing).tolist()
        [0, 1, 1, -100]
    """
    known = SegmentSlice.of(segments)
    order = np.lexsort((known.stops_s, known.starts_s))
    starts = np.rint(known.starts_s[order] * framing.sample_rate).astype(np.int64)  # Framing.samples_at
    stops = np.rint(known.stops_s[order] * framing.sample_rate).astype(np.int64)
    index = _class_indices(known, tuple(classes))[known.labels[order]]
    overlaps = np.flatnonzero(stops[:-1] > starts[1:])
    if len(overlaps):
        i = overlaps[0]
        raise DataError(f"segments overlap: one ends at sample {stops[i]}, the next begins at {starts[i + 1]}.")
    overhang = int(stops[-1]) - num_samples if len(stops) else 0
    if overhang > framing.samples_at(MAX_OVERHANG_S):
        raise DataError(
            f"the alignment ends {overhang / framing.sample_rate:.2f} s after the audio "
            f"({num_samples / framing.sample_rate:.2f} s): they do not belong together."
        )
    centers = framing.center_samples(framing.num_frames(num_samples))
    at = np.clip(np.arange(centers.start, centers.stop, centers.step), 0, max(0, num_samples - 1))
    if not len(stops):
        return torch.full((len(at),), IGNORE, dtype=torch.int64)
    current = np.searchsorted(stops, at, side="right")  # the first segment that ends after the centre
    last = np.minimum(current, len(stops) - 1)
    inside = (current < len(stops)) & (starts[last] <= at)
    return torch.from_numpy(np.where(inside, index[last], IGNORE))


def _class_indices(segments: SegmentSlice, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Return the index in `classes` of each name of a table that occurs in `segments`.

    Raises:
        DataError: a name is no class.
    """
    names = segments.table.names
    if names == classes:
        return np.arange(len(names))
    indices = np.full(len(names), IGNORE)
    for label in np.unique(segments.labels).tolist():
        indices[label] = classes.index(label_class(names[label], classes))
    return indices


def labels_to_segments(
    labels: Tensor | Sequence[int], framing: Framing, classes: Sequence[str] = PHONES, num_samples: int | None = None
) -> list[Segment]:
    """Return runs of equal labels, [T] class indices, as segments in seconds; IGNORE leaves a gap.

    A label extends half way to the neighbouring centres, the first one from 0, the last one to the end of the audio
    (without `num_samples`: for half a hop). `frame_labels` with the same framing is the inverse. Frames clipped to the
    same centre (the first ones of causal windows longer than four hops) get the label of the last of them.

    Raises:
        ValueError: a label is not a class index, or T is not the number of frames in `num_samples`.
    """
    values: list[int] = labels.tolist() if isinstance(labels, Tensor) else list(labels)
    if num_samples is not None and len(values) != framing.num_frames(num_samples):
        raise ValueError(
            f"got {len(values)} labels, but {num_samples} samples are {framing.num_frames(num_samples)} frames."
        )
    for value in values:
        if value != IGNORE and not 0 <= value < len(classes):
            raise ValueError(f"labels must be class indices in [0, {len(classes)}) or {IGNORE}, got {value}.")
    if not values:
        return []
    end = framing.end_sample(len(values)) if num_samples is None else num_samples
    edges = [*(framing.edge_sample(t, num_samples) for t in range(len(values))), end]
    segments = []
    for value, run in groupby(range(len(values)), key=values.__getitem__):
        frames = list(run)
        start, stop = edges[frames[0]], edges[frames[-1] + 1]
        if value != IGNORE and start < stop:
            segments.append(Segment(start / framing.sample_rate, stop / framing.sample_rate, classes[value]))
    return segments
