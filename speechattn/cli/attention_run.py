"""The work of `speechattn attention`: read the recording and its reference, analyse, print, and write the page."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from speechattn.analysis.heads import analyse_heads, find_layers
from speechattn.analysis.passages import needs_whole
from speechattn.analysis.recording import Recording
from speechattn.analysis.windows import Contexts, part_of
from speechattn.cli.attention_result import STRIP_S, Result
from speechattn.cli.attention_table import format_analysis
from speechattn.cli.spoken import Spoken, find_spoken
from speechattn.context import Context
from speechattn.data.labels.alignments import load_alignments
from speechattn.data.labels.classes import PHONES
from speechattn.data.labels.segments import Segment
from speechattn.errors import UserError
from speechattn.models.pretrained import load_pretrained
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.atomic_files import write_bytes
from speechattn.system.progress import progress_bar
from speechattn.system.stop_signal import StopSignal

MAX_WHOLE_S = 60.0
"""Seconds that are read by default of a model that must read a recording in one piece."""
SHIPPED = "small-en-phones"


def run_attention(options: argparse.Namespace) -> int:
    """Do what the options of `speechattn attention` ask for; return the exit status."""
    model = load_pretrained(SHIPPED) if options.model is None else load(options.model)
    name = SHIPPED if options.model is None else Path(options.model).resolve().name
    find_layers(model)  # before the recording is read
    whole, seconds, notes = needs_whole(model.encoder), options.duration, []
    recording = Recording(options.file, model, options.start, seconds)
    if whole and seconds is None and recording.seconds > MAX_WHOLE_S:
        recording = Recording(options.file, model, options.start, MAX_WHOLE_S)
        notes.append(f"only {MAX_WHOLE_S:g} s were read, as {whole}; --duration reads more, in one piece")
    spoken = find_spoken(options.file, options.text)
    segments = _reference(options, recording)
    with StopSignal() as stop:
        result = _analyse(model, name, recording, spoken, segments, _windows(model, options.windows), notes, stop)
    if options.json_out is not None:
        write_bytes(options.json_out, _json(result))
    if options.format == "json":
        print(_json(result).decode())
    else:
        print(format_analysis(result.analysis, _headline(result)))
        for note in result.notes:
            print(f"Note: {note}.")
    if options.out is not None:
        from speechattn.cli.attention_gallery import write_gallery

        page = write_gallery(options.out, model, result)
        print(page, file=sys.stderr if options.format == "json" else sys.stdout)
    return 0 if stop.received is None else 128 + stop.received


def _analyse(
    model: SpeechModel,
    name: str,
    recording: Recording,
    spoken: Spoken,
    segments: Sequence[Segment] | None,
    windows: Sequence[tuple[str, Contexts]],
    notes: list[str],
    stop: StopSignal,
) -> Result:
    framing = model.config.framing
    classes = model.config.classes if model.config.head == "frames" else PHONES
    reference = None if segments is None else recording.labels(segments, classes)
    frames = recording.frames()
    kept: list[Tensor] = []
    wanted = round(STRIP_S * framing.frames_per_second)
    with progress_bar(total=round(recording.seconds), unit=" s of audio", disable=recording.seconds < 60) as bar:
        done = 0

        def advance(count: int) -> bool:
            nonlocal done
            before, done = done, done + count
            bar.update(int(done / framing.frames_per_second) - int(before / framing.frames_per_second))
            return stop.received is not None

        analysis = analyse_heads(
            model,
            _keeping(frames, kept, wanted),
            recording.num_frames,
            reference,
            None if classes == model.config.classes else classes,
            windows,
            advance,
        )
    if not analysis.complete:
        notes.append(f"stopped after {done / framing.frames_per_second:.0f} of {recording.seconds:.0f} s")
    if analysis.groups == ("silence",):
        notes.append("every frame is labelled silence: the numbers say nothing about speech")
    shown = () if segments is None else tuple(recording.inside(segments))
    return Result(recording, name, spoken, analysis, torch.cat(kept)[:wanted], shown, tuple(notes))


def _keeping(blocks: Iterator[Tensor], kept: list[Tensor], wanted: int) -> Iterator[Tensor]:
    """Yield the blocks, and keep the first `wanted` frames of them."""
    for block in blocks:
        missing = wanted - sum(map(len, kept))
        if missing > 0:
            kept.append(block[:missing].clone())
        yield block


def _windows(model: SpeechModel, windows: Sequence[Context | Fraction]) -> list[tuple[str, Contexts]]:
    """Return names and contexts of the windows to compare, the trained one first; none if none were asked for."""
    if not windows:
        return []
    trained = tuple(layer.context for layer in find_layers(model))
    found = [("trained", trained)]
    for window in windows:
        if isinstance(window, Context):
            found.append((f"({window})", (window,) * len(trained)))
        elif window != 1:
            found.append((_part(window), tuple(part_of(context, window) for context in trained)))
    return found


def _part(part: Fraction) -> str:
    return "itself only" if part == 0 else f"{part} of it"


def _reference(options: argparse.Namespace, recording: Recording) -> Sequence[Segment] | None:
    """Return the reference segments of the whole file, or None without --alignment and --text.

    Raises:
        UserError: the alignment has no phones of this recording.
    """
    model = recording.model
    if options.text is not None:
        from speechattn.alignment.folder import find_model
        from speechattn.alignment.pronunciations import Pronunciations
        from speechattn.alignment.recording import align_recording

        return align_recording(options.file, options.text, find_model(SHIPPED), Pronunciations(None)).phones
    if options.alignment is None:
        return None
    classes = model.config.classes if model.config.head == "frames" else PHONES
    id = "_".join(options.file.stem.split())
    found = load_alignments(options.alignment, "", classes, damaged={})
    if id not in found and len(found) == 1:
        id = next(iter(found))
    if id not in found:
        names = ", ".join(itertools.islice(found, 3))
        raise UserError(
            f"--alignment {options.alignment} has no utterance {id!r}, the name of the recording; it has {names}"
            f"{', ...' if len(found) > 3 else ''}."
        )
    return found[id].segments


def _headline(result: Result) -> str:
    recording, analysis = result.recording, result.analysis
    classes = {"reference": "the reference", "model": "the model's own labels", "none": "not known"}[analysis.labels]
    said = f'"{result.spoken.text}", speaker {result.spoken.speaker}\n' if result.spoken.text else ""
    return (
        f"{recording.path.name}: {recording.seconds:.1f} s, {analysis.frames:,} frames of {analysis.frame_ms:g} ms; "
        f"model: {result.model_name}\n{said}classes of frames: {classes}"
    )


def _json(result: Result) -> bytes:
    return json.dumps(result.to_dict(), indent=1, allow_nan=False).encode() + b"\n"
