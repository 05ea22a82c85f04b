"""The labels of a recording as a file: CTM, Praat's TextGrid, a label track of Audacity, or lines of JSON.

    ctm        hello 1 0.5425 0.0700 HH 0.76           utterance, channel, start, duration, label, probability
    textgrid   one tier, named phones, words or speech
    audacity   0.5425<tab>0.6125<tab>HH
    jsonl      {"file": "hello.wav", "start_s": 0.5425, "stop_s": 0.6125, "label": "HH", "probability": 0.7561}

Times are seconds, written so that they are exact to 0.1 microseconds; read_ctm and read_textgrid read them back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from speechattn.data.labels.classes import label_set
from speechattn.data.labels.ctm import is_ctm_id
from speechattn.data.labels.textgrid import Tier, write_textgrid
from speechattn.errors import UserError
from speechattn.streaming.recording import LabelledRecording
from speechattn.system.atomic_files import to_json, write_lines

SUFFIXES = {"ctm": ".ctm", "textgrid": ".TextGrid", "audacity": ".txt", "jsonl": ".jsonl"}
"""Formats, and how the names of their files end."""


def write_labels(path: str | Path, format: str, recording: LabelledRecording, source: str | Path) -> None:
    """Write the segments of the sound file `source` to `path`, atomically; `format` is a key of SUFFIXES.

    Raises:
        UserError: the format cannot hold the name of the file or of a class.
    """
    check_format(format, recording.classes, source)
    if format == "textgrid":
        write_textgrid(path, [Tier(label_set(recording.classes), recording.segments, recording.seconds)])
        return
    lines = {"ctm": _ctm, "audacity": _audacity, "jsonl": _jsonl}[format]
    write_lines(path, lines(recording, Path(source)))


def check_format(format: str, classes: Sequence[str], source: str | Path) -> None:
    """Raise UserError if a format cannot hold the name of the file or of a class."""
    others = ", ".join(name for name in SUFFIXES if name not in ("ctm", "audacity"))
    if format == "ctm" and not is_ctm_id(ctm_id(source)):
        raise UserError(f"{source} has a name that a CTM table cannot hold: rename it, or take --format {others}.")
    for name in classes:
        if (format == "ctm" and len(name.split()) != 1) or (format == "audacity" and set(name) & set("\t\n\r")):
            raise UserError(f"the class {name!r} is no field of --format {format}: take {others}.")


def ctm_id(source: str | Path) -> str:
    """Return the utterance of a sound file in a CTM table: its name without suffix, with _ for spaces."""
    return "_".join(Path(source).stem.split())


def _ctm(recording: LabelledRecording, source: Path) -> Iterator[str]:
    id = ctm_id(source)
    for segment in recording:
        start, duration = decimal(segment.start_s), decimal(segment.stop_s - segment.start_s)
        yield f"{id} 1 {start} {duration} {segment.label} {segment.probability:.2f}"


def _audacity(recording: LabelledRecording, source: Path) -> Iterator[str]:
    for segment in recording:
        yield f"{decimal(segment.start_s)}\t{decimal(segment.stop_s)}\t{segment.label}"


def _jsonl(recording: LabelledRecording, source: Path) -> Iterator[str]:
    for segment in recording:
        row = {"file": str(source), "start_s": round(segment.start_s, 7), "stop_s": round(segment.stop_s, 7)}
        line = to_json({**row, "label": segment.label, "probability": round(segment.probability, 4)})
        yield line.encode("utf-8", "backslashreplace").decode()  # a file name that is not UTF-8


def decimal(seconds: float) -> str:
    """Return seconds with 4 to 7 decimals.

    Examples:
        >>> decimal(0.5), decimal(1 / 16_000)
        ('0.5000', '0.0000625')
    """
    whole, _, part = f"{seconds:.7f}".partition(".")
    return f"{whole}.{part.rstrip('0').ljust(4, '0')}"
