"""`speechattn label`: labels of recordings, in a file for each; `label_runner.py` does the work."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from speechattn.cli.options import Parser, positive
from speechattn.cli.smoothing_options import SmoothingMs, add_smoothing
from speechattn.errors import UserError

SUFFIXES = {"ctm": ".ctm", "textgrid": ".TextGrid", "audacity": ".txt", "jsonl": ".jsonl"}
"""As in streaming/label_formats.py, which needs torch."""
DESCRIPTION = """Label recordings: phones, or the classes of --model, as segments with start and stop. <out>/ gets one
file for each recording, <name> with the suffix of the format, in the same subfolders as below DIR. Hours at a time take
the memory of seconds. A file that is there from the same sound, model and settings is not made again, so the same
command continues after Ctrl-C. Labels are smoothed: a change costs --change-cost, which removes segments of a frame."""


class Job(NamedTuple):
    """A sound file, and the name of its labels below the output folder."""

    sound: Path
    name: str


def main(argv: Sequence[str]) -> int:
    """Label recordings with the options `argv`; return the exit status, 130 or 143 after a signal."""
    options = _parser().parse_args(argv)
    smoothing = _smoothing(options)
    jobs = find_jobs(options.source, SUFFIXES[options.format])
    from speechattn.cli.label_runner import run_label
    from speechattn.system.stop_signal import Interrupted, StopSignal

    try:
        with StopSignal() as stop:
            return run_label(
                jobs,
                options.out,
                options.format,
                stop,
                model=options.model,
                smoothing=smoothing,
                threads=options.threads,
            )
    except Interrupted as interruption:
        print(f"\n{interruption}; finished files are kept. The same command continues.", file=sys.stderr)
        return interruption.exit_code


def _parser() -> Parser:
    parser = Parser("speechattn label", description=DESCRIPTION)
    add = parser.add_argument
    add("source", nargs="+", type=Path, metavar="FILE|DIR", help="sound files, and folders of them at any depth")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the labels")
    add("--format", choices=tuple(SUFFIXES), required=True, help="of the labels")
    add("--model", metavar="DIR", help="a saved model (default: the shipped one)")
    add("--no-smoothing", action="store_true", help="the most probable label of each frame")
    add_smoothing(parser)
    add("--threads", type=positive, default=1, metavar="N", help="of the processor (default 1)")
    return parser


def _smoothing(options: argparse.Namespace) -> SmoothingMs | None:
    """Return the smoothing, or None if it is switched off."""
    given = {name: getattr(options, name) for name in ("change_cost", "min_ms")}
    given = {name: value for name, value in given.items() if value is not None}
    if options.no_smoothing and given:
        raise UserError(f"--{next(iter(given)).replace('_', '-')} and --no-smoothing contradict each other: give one.")
    return None if options.no_smoothing else SmoothingMs(**given)


def find_jobs(sources: Sequence[Path], suffix: str) -> list[Job]:
    """Return the sound files, each once, with the names of their labels, before torch is imported.

    Raises:
        UserError: a source does not exist, a folder has no sound files, or two files would have one name.
    """
    from speechattn.data.audio.source import SOUND_SUFFIXES
    from speechattn.system.folders import files_below, has_suffix

    jobs: dict[str, Job] = {}
    for source in sources:
        if not os.path.exists(source):  # unlike Path.exists, False in a folder without permission
            raise UserError(f"{source} does not exist. Give sound files, or folders that hold some.")
        found = [source]
        if source.is_dir():
            found = [path for path in files_below(source) if has_suffix(path, *SOUND_SUFFIXES)]
            if not found:
                raise UserError(f"{source} holds no sound files: expected {', '.join(SOUND_SUFFIXES)} at any depth.")
        for path in found:
            below = path.relative_to(source) if source.is_dir() else Path(path.name)
            job = Job(path, str(below.with_name(below.stem + suffix)))
            other = jobs.setdefault(job.name, job)
            if not other.sound.samefile(path):
                raise UserError(
                    f"{other.sound} and {path} would both become {job.name}: rename one, or label them into separate "
                    "--out folders."
                )
    return list(jobs.values())
