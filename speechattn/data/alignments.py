"""Phone alignments to segments in seconds, and segments to one label per frame and back, through `Framing`.

Seconds are the truth. A frame's label is the phone at its window's centre, looked up in whole samples;
outside every segment it is IGNORE. So one alignment serves all framings, and labels made for one framing move
to another by way of segments, never by copying rows whose frames lie elsewhere. Not an aligner.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path

import torch
from torch import Tensor

from speechattn.data.arpabet import CLASSES
from speechattn.data.segments import IGNORE, Segment, read_lines
from speechattn.errors import DataError
from speechattn.framing import Framing

PHONES: tuple[str, ...] = CLASSES
"""The 41 classes: silence, 39 ARPAbet phones without stress, spoken noise."""

MAX_OVERHANG_S = 0.5
"""How far an alignment may end from its audio's end before the two do not belong together."""

SNIP = Framing(align="snip")
ONE_FRAME_S = Framing().hop_ms / 1000
SILENCES = dict.fromkeys(("", "SIL", "SP", "PAU", "SILENCE", "<EPS>", "<SIL>"), "SIL")
NOISES = dict.fromkeys(("SPN", "NSN", "<UNK>", "<SPN>"), "SPN")


def read_classes(path: str | Path) -> tuple[str, ...]:
    """Class names by index, from lines `index name` that count up from 0.

    Raises:
        DataError: a line is no such pair, an index is out of turn, or a name occurs twice; file and line are named.
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


def phone_class(label: str, classes: Sequence[str] = PHONES) -> str:
    """The entry of `classes` that `label` means: case, stress digits, word positions and names of silence aside.

    Raises:
        DataError: no class fits; the nearest one is named.

    Example:
        >>> [phone_class(label) for label in ("AH0", "ih", "T_B", "sp", "")]
        ['AH', 'IH', 'T', 'SIL', 'SIL']
    """
    if label in classes:
        return label
    plain = label.strip().upper()
    plain = re.sub(r"(?<=[A-Z])[0-2]$", "", re.sub(r"_[BIES]$", "", plain))  # Kaldi writes AH0_B
    plain = SILENCES.get(plain, NOISES.get(plain, plain))
    for name in classes:
        if name.upper() == plain:
            return name
    near = difflib.get_close_matches(plain, classes, n=1, cutoff=0.4)
    known = f"the nearest of the {len(classes)} classes is {near[0]!r}" if near else f"classes are {', '.join(classes)}"
    raise DataError(f"unknown phone {label!r}: {known}.")


def read_ctm(path: str | Path) -> dict[str, list[Segment]]:
    """Segments by utterance id, sorted, from lines `utterance channel start duration label` in seconds.

    Labels stay as they are written, so words are read too. A segment that reaches at most one frame (10 ms)
    into the next is cut there.

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
    return {id: _in_order(segments, path) for id, segments in rows.items()}


def _in_order(rows: list[tuple[Segment, int]], path: str | Path) -> list[Segment]:
    rows = sorted(rows, key=lambda row: (row[0].start, row[0].stop))
    segments = []
    for (segment, _), (following, number) in pairwise(rows):
        overlap = segment.stop - following.start
        if overlap > ONE_FRAME_S + 1e-9:  # decimal seconds are not exact in binary
            raise DataError(
                f"{path}:{number}: {following.label!r} from {following.start:g} s overlaps {segment.label!r}, "
                f"which lasts until {segment.stop:g} s."
            )
        segments.append(replace(segment, stop=following.start) if overlap > 0 else segment)
    return [*segments, rows[-1][0]]


def read_frame_rows(
    path: str | Path, classes: Sequence[str] = PHONES, framing: Framing = SNIP
) -> dict[str, list[Segment]]:
    """Segments by utterance id, from lines `utterance c c c ...` with one class index per frame.

    Such rows were made for Kaldi's frames, hence `snip`. Raises DataError, with file and line, for what is
    no index of `classes` (-100 is a gap) and for an utterance that occurs twice.
    """
    rows: dict[str, list[Segment]] = {}
    for number, line in enumerate(read_lines(Path(path)), start=1):
        fields = line.split()
        if not fields:
            continue
        id, *labels = fields
        if id in rows:
            raise DataError(f"{path}:{number}: utterance {id} occurs twice.")
        try:
            rows[id] = labels_to_segments([int(label) for label in labels], framing, classes)
        except ValueError as error:
            raise DataError(f"{path}:{number}: {error}") from error
    return rows


def frame_labels(
    segments: Sequence[Segment], num_samples: int, framing: Framing, classes: Sequence[str] = PHONES
) -> Tensor:
    """The class index of each frame, [T] int64 with T = framing.num_frames(num_samples), IGNORE outside segments.

    Raises:
        DataError: a phone is unknown (the nearest is named), two segments overlap, or the last one ends
            more than 0.5 s after the audio. Up to there it is clipped.

    Example:
        >>> framing = Framing(sample_rate=1000, window=4, hop=2, align="snip")  # centres at 2, 4, 6, 8 ms
        >>> frame_labels([Segment(0.0, 0.004, "SIL"), Segment(0.004, 0.007, "AA")], 10, framing).tolist()
        [0, 1, 1, -100]
    """
    index = {label: list(classes).index(phone_class(label, classes)) for label in {s.label for s in segments}}
    ordered = sorted(segments, key=lambda segment: (segment.start, segment.stop))
    spans = [(framing.samples_at(s.start), framing.samples_at(s.stop), index[s.label]) for s in ordered]
    for (_, stop, _), (start, _, _) in pairwise(spans):
        if start < stop:
            raise DataError(f"segments overlap: one ends at sample {stop}, the next begins at {start}.")
    overhang = spans[-1][1] - num_samples if spans else 0
    if overhang > framing.samples_at(MAX_OVERHANG_S):
        raise DataError(
            f"the alignment ends {overhang / framing.sample_rate:.2f} s after the audio "
            f"({num_samples / framing.sample_rate:.2f} s): they do not belong together."
        )
    labels, current = [], 0
    for t in range(framing.num_frames(num_samples)):
        center = framing.center_sample(t, num_samples)
        while current < len(spans) and spans[current][1] <= center:
            current += 1
        inside = current < len(spans) and spans[current][0] <= center
        labels.append(spans[current][2] if inside else IGNORE)
    return torch.tensor(labels, dtype=torch.int64)


def labels_to_segments(
    labels: Tensor | Sequence[int], framing: Framing, classes: Sequence[str] = PHONES, num_samples: int | None = None
) -> list[Segment]:
    """Runs of equal labels, [T] class indices, as segments in seconds; IGNORE leaves a gap.

    A label holds half way to the neighbouring centres, the first one from 0, the last one to the end of the
    audio (without `num_samples`: for half a hop). `frame_labels` with the same framing gives the labels back.
    Frames clipped to the same centre (causal windows longer than four hops begin with such) share the last one's.

    Raises:
        ValueError: a label is no class index, or T is not the number of frames in `num_samples`.
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
    centers = [framing.center_sample(t, num_samples) for t in range(len(values))]
    end = centers[-1] + (framing.hop + 1) // 2 if num_samples is None else num_samples
    edges = [0, *((before + after + 1) // 2 for before, after in pairwise(centers)), end]
    segments = []
    for value, run in groupby(range(len(values)), key=values.__getitem__):
        frames = list(run)
        start, stop = edges[frames[0]], edges[frames[-1] + 1]
        if value != IGNORE and start < stop:
            segments.append(Segment(start / framing.sample_rate, stop / framing.sample_rate, classes[value]))
    return segments


def load_alignments(
    directory_or_file: str | Path, subset: str, classes: Sequence[str] = PHONES
) -> dict[str, list[Segment]]:
    """Segments by utterance id with labels from `classes`, from a file or the best file of a folder.

    In a folder: `<subset>.phones.ctm`, else `<subset>.frame_labels.txt`, whose numbers mean the lines of
    `classes.txt` beside it, if there is one.

    Raises:
        DataError: nothing is found (the message says what was looked for), or a file is malformed.
    """
    path = Path(directory_or_file)
    if path.is_dir():
        candidates = [path / f"{subset}.phones.ctm", path / f"{subset}.frame_labels.txt"]
        found = [candidate for candidate in candidates if candidate.is_file()]
        if not found:
            wanted = " or ".join(candidate.name for candidate in candidates)
            present = ", ".join(sorted(p.name for p in path.iterdir())[:10]) or "nothing"
            raise DataError(f"{path} has no alignments of {subset!r}: looked for {wanted}, found {present}.")
        path = found[0]
    if path.suffix == ".ctm":
        alignments = read_ctm(path)
    else:
        names = path.parent / "classes.txt"
        alignments = read_frame_rows(path, read_classes(names) if names.is_file() else classes)
    return {
        id: [replace(s, label=_class_at(path, id, s.label, classes)) for s in row] for id, row in alignments.items()
    }


def _class_at(path: Path, id: str, label: str, classes: Sequence[str]) -> str:
    try:
        return phone_class(label, classes)
    except DataError as error:
        raise DataError(f"{path}: utterance {id}: {error}") from error
