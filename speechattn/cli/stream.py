"""`speechattn stream`: labels of a file or of stdin as they become certain; `stream_runner.py` does the work."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any

from speechattn.cli.options import positive
from speechattn.errors import UserError

PIPE_BYTES = 2**20
"""32 s of 16-bit samples at 16 kHz, and what Linux lets anybody have; a pipe has 64 KiB."""


def add(commands: Any) -> None:
    """Its options; `commands` is what argparse calls subparsers."""
    command = commands.add_parser(
        "stream",
        help="phones of a file or a microphone, as soon as they are certain",
        description="Labels as they become certain, a line a segment: start and stop in seconds, label, probability.",
        epilog="A microphone: arecord -f S16_LE -r 16000 | speechattn stream -",
    )
    command.add_argument("source", metavar="FILE", help="wav, flac, ogg or mp3; - is raw 16-bit mono PCM on stdin")
    command.add_argument("--model", metavar="DIR", help="a saved model (default: the small one that is shipped)")
    command.add_argument("--rate", type=positive, metavar="HZ", help="samples a second on stdin (default the model's)")
    command.add_argument("--push-ms", type=positive, default=100, metavar="MS", help="sound at a time (default 100)")
    command.add_argument("--realtime", action="store_true", help="pace a file as it was spoken, and report the latency")
    command.add_argument("--json", action="store_true", help="a line is a JSON object")
    command.add_argument("--picture", metavar="PNG", help="draw when each label appeared against when it was spoken")


def run(options: argparse.Namespace) -> int:
    """Print labels of a file or of stdin as they become certain; see `listen`."""
    source = options.source
    if source == "-" and options.realtime:
        raise UserError("--realtime paces a file; what comes on stdin has a pace of its own.")
    if source != "-" and options.rate is not None:
        raise UserError("--rate is of raw samples on stdin; a sound file tells its own.")
    if source != "-" and not os.path.exists(source):
        raise UserError(f"{source} does not exist. Give the path of a sound file, or - for raw PCM on stdin.")
    if options.picture is not None and not options.picture.lower().endswith(".png"):
        raise UserError(f"--picture {options.picture} must end in .png.")
    if options.picture is not None and not os.access(os.path.dirname(options.picture) or ".", os.W_OK):
        raise UserError(f"--picture {options.picture} cannot be written: its folder is missing or not yours.")
    if source == "-":
        make_room()
    from speechattn.cli.stream_runner import listen

    return listen(
        source,
        options.model,
        rate=options.rate,
        push_ms=options.push_ms,
        realtime=options.realtime,
        as_json=options.json,
        picture=options.picture,
    )


def make_room() -> None:
    """Let the pipe on stdin hold `PIPE_BYTES`, where the system can.

    A microphone does not wait until torch is imported and, the first time, native attention compiled. After 2 s
    a pipe would be full, and what is spoken then be lost.
    """
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):  # no Linux, or no pipe
        import fcntl

        fcntl.fcntl(sys.stdin.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
