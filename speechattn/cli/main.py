"""The command `speechattn`: choose a command, and turn its errors into one line and an exit status.

A mistake of the user is one line on stderr and exit status 2; SPEECHATTN_DEBUG=1, or --debug first, shows the
traceback. A command's module is imported when it is called, and imports torch when there is work for it.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import traceback
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from speechattn.cli.options import Parser
from speechattn.errors import UserError

if TYPE_CHECKING:
    from speechattn.training.config import TrainConfig

COMMANDS = {
    "download": "subsets of LibriSpeech from openslr.org or a mirror",
    "train": "train a classifier of frames or utterances, or CTC, and write its report",
    "cross-validate": "train and score a classifier of utterances with each speaker held out in turn",
    "align": "times of phones and words from recordings and their transcripts",
    "beam-search": "greedy decoding and beam search of a CTC run, side by side",
    "evaluate": "scores of a saved model on labelled speech",
    "compare": "runs side by side: scores, settings, and a page with curves and confusions",
    "stream": "phones of a file or a microphone, as soon as they are certain",
    "attention": "where the heads of a model look, how far, and what smaller windows change",
    "label": "labels of recordings as CTM, TextGrid, Audacity labels or JSON lines",
    "features": "log-mel frames of sound files as .npy, and as plots",
    "plan": "how much audio fits into how much memory, and how long it takes",
    "profile": "memory and time of encoders over the length of audio",
    "plot": "receptive field and latency through the layers, of any context or saved model",
    "doctor": "what is installed, and whether it works",
}
"""Commands with their help; `main(arguments)` of the module of that name runs one."""
RENAMED_COMMANDS = {"picture": "plot"}
MAX_CHARACTERS = 2000
"""Length of the longest message that is printed whole."""


def main(
    argv: Sequence[str] | None = None,
    presets: Mapping[str, TrainConfig] | None = None,
    task: str | None = None,
) -> int:
    """Run one command and return its exit status: 0, 2 for a mistake of the user, 130 after Ctrl-C.

    `presets` are the choices of ``train --preset NAME`` and `task` is that of the models which ``evaluate`` takes; a
    recipe brings its own.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file name that the terminal cannot show must not stop a command
        sys.stdout.reconfigure(errors="backslashreplace")
    if arguments[:1] == ["--debug"]:
        os.environ["SPEECHATTN_DEBUG"] = "1"
        del arguments[0]
    try:
        with warnings.catch_warnings():
            if not os.environ.get("SPEECHATTN_DEBUG"):
                warnings.showwarning = _show_warning
            status = _run(arguments, presets or {}, task)
        if sys.stdout is not None:  # None where the shell has closed it
            sys.stdout.flush()  # a closed pipe raises here, where it is caught
        return status
    except UserError as error:
        if os.environ.get("SPEECHATTN_DEBUG"):
            traceback.print_exc()
        print(f"speechattn: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("speechattn: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `speechattn doctor | head -1` closes the pipe early
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a full disk, a folder without permission: the user can fix it
        if os.environ.get("SPEECHATTN_DEBUG"):
            traceback.print_exc()
        print(f"speechattn: {_one_line(error)}", file=sys.stderr)
        return 2


def _one_line(message: object) -> str:
    """Return a message as one line; of a long one, which repeats a long value, its beginning and its end."""
    text = " ".join(str(message).split())
    return text if len(text) <= MAX_CHARACTERS else f"{text[: MAX_CHARACTERS // 2]} ... {text[-MAX_CHARACTERS // 2 :]}"


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as one line; --debug shows where it was raised."""
    print(f"speechattn: warning: {_one_line(message)}", file=sys.stderr)


def _run(arguments: list[str], presets: Mapping[str, TrainConfig], task: str | None) -> int:
    command, rest = (arguments or [""])[0], arguments[1:]
    if command in RENAMED_COMMANDS:
        raise UserError(f"the command {command} is now {RENAMED_COMMANDS[command]}.")
    if command in COMMANDS:
        module = importlib.import_module(f"speechattn.cli.{command.replace('-', '_')}")
        given = {"train": (presets,), "cross-validate": (presets,), "evaluate": (task,)}.get(command, ())
        status: int = module.main(rest, *given)
        return status
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        return 2
    parser.parse_args(arguments[:1])  # --help, --version, or an error
    return 0


def _parser() -> Parser:
    parser = Parser(
        "speechattn",
        usage="speechattn [-h] [--version] COMMAND ...",
        description="Truncated self-attention over speech: train, evaluate, stream, extract features.",
        epilog="SPEECHATTN_DEBUG=1, or --debug before the command, shows the traceback of an error.",
    )
    parser.add_argument("--version", action="version", version=_version())
    # The width of the metavar is that of the column of names, to argparse: "attention" has to fit.
    commands = parser.add_subparsers(required=True, metavar="COMMAND ...", parser_class=Parser)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def _version() -> str:
    try:
        return f"speechattn {version('speechattn')}"
    except PackageNotFoundError:
        return "speechattn (running from its folder, not installed)"
