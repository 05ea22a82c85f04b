"""`speechattn attention`: where the heads of a model look, how far, and what smaller windows change."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from speechattn.cli.options import Parser, check_output_file, duration
from speechattn.cli.plot import context_option
from speechattn.context import Context
from speechattn.errors import UserError

Window = Context | Fraction
DEFAULT_WINDOWS = (Fraction(1), Fraction(1, 2), Fraction(1, 4), Fraction(1, 8), Fraction(0))
DESCRIPTION = """Where every head looks over the frames of a recording, how far and how widely, by layer and by class of
the frame that looks; how much of its choice the distance alone explains; and what the same weights do with smaller
windows. Statistics of hours take constant memory. --out DIR writes a page with all pictures."""
EPILOG = """Classes are families of phones, by the labels of --alignment or --text, or else by the model's own. A head
"looks 12 ms" if that is the mean distance of a key, weighted; see docs/attention_heads.md."""


def main(argv: Sequence[str]) -> int:
    """Analyse the attention of a model with the options `argv`; return the exit status, 130 or 143 after a signal."""
    options = _parser().parse_args(argv)
    if not os.path.exists(options.file):
        raise UserError(f"{options.file} does not exist. Give the path of a sound file.")
    if options.file.is_dir():
        raise UserError(f"{options.file} is a folder: give one sound file in it.")
    if options.alignment is not None and options.text is not None:
        raise UserError("--alignment and --text are two references: give one.")
    if options.json_out is not None:
        check_output_file("--json-out", options.json_out, (".json",))
    if options.out is not None and options.out.exists() and not options.out.is_dir():
        raise UserError(f"--out {options.out} is a file: give a folder for the page and its pictures.")
    from speechattn.cli.attention_run import run_attention

    return run_attention(options)


def _parser() -> Parser:
    parser = Parser("speechattn attention", description=DESCRIPTION, epilog=EPILOG)
    add = parser.add_argument
    seconds = duration(0.0, limits="from 0s on")
    add("file", type=Path, metavar="FILE", help="wav, flac, ogg or mp3; resampled if needed")
    add("--model", metavar="DIR", help="a saved model (default: the shipped one)")
    add("--out", type=Path, metavar="DIR", help="folder for report.html and pictures/")
    add("--start", type=seconds, default=0.0, metavar="TIME", help="where to begin, as 12.5s (default 0s)")
    add(
        "--duration",
        type=seconds,
        metavar="TIME",
        help="how much to read, as 10min (default: all; 60s if the model's windows are unlimited)",
    )
    add("--alignment", type=Path, metavar="FILE", help="reference phones of the recording: CTM, TextGrid, frame labels")
    add("--text", metavar="TEXT", help="the words that are spoken: the reference is then made by forced alignment")
    add(
        "--windows",
        type=_window,
        nargs="*",
        default=DEFAULT_WINDOWS,
        metavar="WINDOW",
        help="parts of the trained window, as 1/2 or 0, or left,right[,chunk] in frames, as 13,2 "
        "(default: 1/2 1/4 1/8 0); none: --windows without a value",
    )
    add("--format", choices=("text", "json"), default="text", help="json: all heads, one object (default text)")
    add("--json-out", type=Path, metavar="FILE", help="write that object to a .json file, too")
    return parser


def _window(text: str) -> Window:
    if "," in text:
        return context_option(text)
    try:
        part = Fraction(text)
    except (ValueError, ZeroDivisionError):
        part = Fraction(-1)
    if not 0 <= part <= 1:
        raise argparse.ArgumentTypeError(
            f"must be a part of the trained window from 0 to 1, as 1/4, or left,right in frames, as 13,2, got {text!r}"
        )
    return part
