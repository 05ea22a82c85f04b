"""The command `speechattn`: thin, and quick to answer. Nothing here imports torch before there is work for it.

    speechattn train ...       train a frame classifier and write its report
    speechattn evaluate ...    frame accuracy of a saved model on labelled speech
    speechattn stream ...      phones of a file or a microphone, as soon as they are certain
    speechattn features ...    log-mel frames of sound files as .npy, and as pictures
    speechattn plan ...        how much audio fits into how much memory
    speechattn profile ...     memory and time of encoders over the length of audio
    speechattn picture ...     what a frame sees and waits for through the layers
    speechattn doctor          what is installed, and whether it works

A mistake of the user is one line on stderr (an unknown option of train: a box with the nearest one) and exit
status 2; SPEECHATTN_DEBUG=1, or --debug first, shows the traceback. `train` and `evaluate` read their own options, so
`speechattn train --help` lists them.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from speechattn.cli import features, plan, profile, stream
from speechattn.cli import plot as picture
from speechattn.cli.options import Parser
from speechattn.errors import UserError
from speechattn.training.config import TrainConfig

DELEGATED = ("train", "evaluate")
COMMANDS = {"stream": stream, "features": features, "plan": plan, "profile": profile, "picture": picture}
"""Modules with `add`, which names the options, and `run`."""


def main(argv: Sequence[str] | None = None, presets: Mapping[str, TrainConfig] | None = None) -> int:
    """Run one command; returns its exit status: 0, 2 for a mistake of the user, 130 after Ctrl-C.

    `presets` are what ``train --preset NAME`` can pick from; a recipe brings its own.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that the terminal cannot show is no reason to stop
        sys.stdout.reconfigure(errors="backslashreplace")
    if arguments[:1] == ["--debug"]:
        os.environ["SPEECHATTN_DEBUG"] = "1"
        del arguments[0]
    try:
        with warnings.catch_warnings():
            if not os.environ.get("SPEECHATTN_DEBUG"):
                warnings.showwarning = _show_warning
            status = _run(arguments, presets or {})
        if sys.stdout is not None:  # closed by the shell
            sys.stdout.flush()  # a closed pipe shows here, while somebody still listens for it
        return status
    except UserError as error:
        if os.environ.get("SPEECHATTN_DEBUG"):
            traceback.print_exc()
        print(f"speechattn: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("speechattn: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `speechattn doctor | head -1`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk, a folder without permission: the user's to mend
        if os.environ.get("SPEECHATTN_DEBUG"):
            traceback.print_exc()
        print(f"speechattn: {error}", file=sys.stderr)
        return 2


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """A warning as one line for a person; where in the source it was raised is for --debug."""
    print(f"speechattn: warning: {' '.join(str(message).split())}", file=sys.stderr)


def _run(arguments: list[str], presets: Mapping[str, TrainConfig]) -> int:
    if arguments and arguments[0] in DELEGATED:
        from speechattn.cli import train

        if arguments[0] == "train":
            return train.train(arguments[1:], presets)
        return train.evaluate(arguments[1:])
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    options = parser.parse_args(arguments)
    if options.command == "doctor":
        from speechattn.cli import doctor

        return doctor.main()
    status: int = COMMANDS[options.command].run(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="speechattn",
        description="Truncated self-attention over speech: train, evaluate, stream, extract features.",
        epilog="SPEECHATTN_DEBUG=1, or --debug before the command, shows the traceback of an error.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    commands.add_parser("train", help="train a frame classifier and write its report", add_help=False)
    commands.add_parser("evaluate", help="frame accuracy of a saved model on labelled speech", add_help=False)
    for command in COMMANDS.values():
        command.add(commands)
    commands.add_parser("doctor", help="what is installed, and whether it works")
    return parser


def _version() -> str:
    try:
        return f"speechattn {version('speechattn')}"
    except PackageNotFoundError:
        return "speechattn (running from its folder, not installed)"
