"""Label many recordings, one after the other: what is done is kept, and what is damaged is named."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import torch

from speechattn.cli.label_index import LabelIndex, file_digest
from speechattn.cli.label_jobs import Job
from speechattn.cli.smoothing_options import SmoothingMs
from speechattn.data.audio.errors import AudioError
from speechattn.data.audio.sound_file import open_sound_file
from speechattn.decoding.smoothing import Smoothing
from speechattn.errors import UserError
from speechattn.models.pretrained import FOLDER
from speechattn.models.speech_model import SpeechModel, load
from speechattn.streaming.label_formats import check_format, write_labels
from speechattn.streaming.recording import label_recording, labels_frames
from speechattn.system.atomic_files import remove_leftovers
from speechattn.system.progress import progress_bar
from speechattn.system.run_lock import RunLock
from speechattn.system.stop_signal import StopSignal

VERSION = 1
"""Of the labels: with another one, files are made again."""
MODEL_FILES = ("config.json", "model.safetensors")


def run_label(
    jobs: Sequence[Job],
    out: Path,
    format: str,
    stop: StopSignal,
    *,
    model: str | None = None,
    smoothing: SmoothingMs | None = None,
    threads: int = 1,
) -> int:
    """Write the labels of each sound file into `out`; return the exit status, 2 if a file gave none.

    Raises:
        UserError: the model, the folder or a name cannot be used; nothing is written then.
        Interrupted: a signal came.
    """
    torch.set_num_threads(threads)
    folder = FOLDER / "small-en-phones" if model is None else Path(model)
    loaded = load(folder)
    frames = _frames(loaded, smoothing, folder)
    for job in jobs:
        check_format(format, loaded.config.classes, job.sound)
    settings = _digest(folder, format, frames)
    with RunLock(out):
        remove_leftovers(out)
        index = LabelIndex(out)
        index.compact()
        unknown = [job.name for job in jobs if index.is_there(job.name) and job.name not in index.entries]
        if unknown:
            raise UserError(
                f"{out / unknown[0]} exists and is not of this command (one of {len(unknown)}): "
                "nothing is overwritten. Remove it, or choose another --out."
            )
        return _label_all(jobs, out, format, loaded, frames, index, settings, stop)


def _label_all(
    jobs: Sequence[Job],
    out: Path,
    format: str,
    model: SpeechModel,
    smoothing: Smoothing | None,
    index: LabelIndex,
    settings: str,
    stop: StopSignal,
) -> int:
    seconds = [_seconds(job.sound, model.config.framing.sample_rate) for job in jobs]
    current, failed = 0, 0
    with progress_bar(total=round(sum(seconds)), desc="label", unit=" s of audio") as bar:
        for job, duration in zip(jobs, seconds, strict=True):
            stop.poll()
            done = _Counter(bar, stop)
            try:
                sound = _sound_digest(job.sound)
                if index.is_current(job.name, sound, settings):
                    current += 1
                elif index.is_foreign(job.name):
                    raise UserError(
                        f"{out / job.name} was changed after it had been written: remove it, and it is made again."
                    )
                else:
                    found = label_recording(model, job.sound, smoothing, done.add)
                    (out / job.name).parent.mkdir(parents=True, exist_ok=True)
                    index.begin(job.name)
                    write_labels(out / job.name, format, found, job.sound)
                    index.finish(job.name, sound, settings)
                    _say(bar, f"{out / job.name}  {len(found)} segments, {found.seconds:.1f} s", sys.stdout)
            except UserError as error:
                _say(bar, f"speechattn: {error}", sys.stderr)
                failed += 1
            done.finish(round(duration))
    if current:
        print(f"{current} of {len(jobs)} files were there already, from the same sound and settings")
    if failed:
        raise UserError(f"{failed} of {len(jobs)} files gave no labels; they are named above.")
    return 0


def _say(bar: Any, text: str, file: TextIO) -> None:
    """Print a line; on a terminal above the bar."""
    if sys.stderr.isatty():
        bar.write(text, file=file)
    else:
        print(text, file=file, flush=True)


class _Counter:
    """Progress of one file, in whole seconds on the bar."""

    def __init__(self, bar: Any, stop: StopSignal) -> None:
        self._bar, self._stop, self._seconds, self._shown = bar, stop, 0.0, 0

    def add(self, seconds: float) -> None:
        """Count seconds of audio; raise Interrupted if a signal has come."""
        self._seconds += seconds
        self.finish(int(self._seconds))
        self._stop.poll()

    def finish(self, seconds: int) -> None:
        """Show that so many seconds are done."""
        self._bar.update(max(0, seconds - self._shown))
        self._shown = max(self._shown, seconds)


def _frames(model: SpeechModel, smoothing: SmoothingMs | None, folder: Path) -> Smoothing | None:
    """Return the smoothing in frames; None for a model whose labels are not of frames."""
    if smoothing is None or labels_frames(model):
        return None if smoothing is None else smoothing.frames(model.config.framing)
    if smoothing != SmoothingMs():
        raise UserError(
            f'--change-cost and --min-ms smooth the labels of frames, and {folder} has head="{model.config.head}": '
            "leave them out."
        )
    return None


def _digest(folder: Path, format: str, smoothing: Smoothing | None) -> str:
    """Return a hash of all that decides the labels, except the sound."""
    parts = [str(VERSION), format, repr(smoothing), *(file_digest(folder / name) for name in MODEL_FILES)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _sound_digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror or error}.", path, "unreadable") from error


def _seconds(path: Path, rate: int) -> float:
    """Return what the header says, for the progress bar; 0 if it says nothing, or is damaged."""
    try:
        with open_sound_file(path) as sound:
            return (sound.num_samples(rate) or 0) / rate
    except AudioError:
        return 0.0
