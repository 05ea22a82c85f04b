"""`speechattn stream`: labels of a file or of stdin as they become certain; `stream_runner.py` does the work."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from speechattn.cli.options import Parser, check_output_file, positive
from speechattn.cli.smoothing_options import DEFAULT_COST, DEFAULT_LAG_MS, SmoothingMs, add_smoothing, number
from speechattn.errors import UserError

PIPE_BYTES = 2**20
"""32 s of 16-bit samples at 16 kHz: the most that Linux gives without privileges. The default of a pipe is 64 KiB."""


def main(argv: Sequence[str]) -> int:
    """Print the labels of a file or of stdin as they become certain; return the exit status."""
    options = _parser().parse_args(argv)
    source = options.source
    if source == "-" and options.realtime:
        raise UserError("--realtime is for files: sound on stdin comes at its own pace.")
    if source != "-" and options.rate is not None:
        raise UserError("--rate is for raw samples on stdin: a sound file states its own rate.")
    if source != "-" and not os.path.exists(source):
        raise UserError(f"{source} does not exist. Give the path of a sound file, or - for raw PCM on stdin.")
    smoothing = _smoothing(options)
    if options.plot is not None:
        check_output_file("--plot", options.plot, (".png",))
    if source == "-":
        make_room()
    from speechattn.cli.stream_runner import run_stream

    return run_stream(
        source,
        options.model,
        rate=options.rate,
        push_ms=options.push_ms,
        realtime=options.realtime,
        as_json=options.format == "json",
        plot=options.plot,
        smoothing=smoothing,
    )


def _parser() -> Parser:
    parser = Parser(
        "speechattn stream",
        description="Labels as they become certain, one line per segment: start and stop (s), label, probability.",
        epilog="A microphone: arecord -f S16_LE -r 16000 | speechattn stream -",
    )
    add = parser.add_argument
    add("source", metavar="FILE", help="wav, flac, ogg or mp3; - is raw 16-bit mono PCM on stdin")
    add("--model", metavar="DIR", help="a saved model (default: the shipped one)")
    add("--rate", type=positive, metavar="HZ", help="samples per second on stdin (default: the model's)")
    add("--push-ms", type=positive, default=100, metavar="MS", help="sound per push, in milliseconds (default 100)")
    add("--realtime", action="store_true", help="push a file at the pace of speech, and report the latency")
    add("--format", choices=("text", "json"), default="text", help="json: one object per line (default text)")
    add("--smooth", action="store_true", help="smooth the labels, which come later: see --lag-ms")
    add_smoothing(parser)
    add(
        "--lag-ms",
        type=number,
        metavar="MS",
        help=f"smoothing: sound that a label waits for after the model has it (default {DEFAULT_LAG_MS:g})",
    )
    add("--plot", type=Path, metavar="FILE", help="a .png of when each label appeared against when it was spoken")
    return parser


def _smoothing(options: argparse.Namespace) -> SmoothingMs | None:
    """Return the smoothing that was asked for, or None."""
    given = {name: getattr(options, name) for name in ("change_cost", "min_ms", "lag_ms")}
    given = {name: value for name, value in given.items() if value is not None}
    if given and not options.smooth:
        raise UserError(f"--{next(iter(given)).replace('_', '-')} is a setting of the smoothing: add --smooth.")
    return SmoothingMs(**{"change_cost": DEFAULT_COST, "lag_ms": DEFAULT_LAG_MS, **given}) if options.smooth else None


def make_room() -> None:
    """Enlarge the pipe on stdin to `PIPE_BYTES`, where the system can.

    A microphone does not wait until torch is imported and, on the first use, native attention compiled. A default pipe
    is full after 2 s, and later samples would be lost.
    """
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):  # no Linux, or no pipe
        import fcntl

        fcntl.fcntl(sys.stdin.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
