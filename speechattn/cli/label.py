"""`speechattn label`: labels of recordings, in a file for each; `label_runner.py` does the work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from speechattn.cli.label_jobs import find_jobs
from speechattn.cli.options import Parser, positive
from speechattn.cli.smoothing_options import SmoothingMs, add_smoothing
from speechattn.errors import UserError

SUFFIXES = {"ctm": ".ctm", "textgrid": ".TextGrid", "audacity": ".txt", "jsonl": ".jsonl"}
"""As in streaming/label_formats.py, which needs torch."""
DESCRIPTION = """Label recordings: phones, or the classes of --model, as segments with start and stop. <out>/ gets one
file for each recording, <name> with the suffix of the format, in the same subfolders as below DIR. Memory hardly grows
with the duration. A file that is there from the same sound, model and settings is not made again, so the same command
continues after Ctrl-C. Labels are smoothed: a change costs --change-cost, which removes segments of one frame."""


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
