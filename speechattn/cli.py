"""The command `speechattn`: thin, and quick to answer. Nothing here imports torch before there is work for it.

    speechattn train ...       train a frame classifier and write its report
    speechattn evaluate ...    frame accuracy of a saved model on labelled speech
    speechattn stream ...      phones of a file or a microphone, as soon as they are certain
    speechattn features ...    log-mel frames of sound files as .npy, and as pictures
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
from pathlib import Path
from typing import Any, NoReturn

from speechattn.config import FLAVORS
from speechattn.errors import UserError
from speechattn.trainconfig import TrainConfig

DELEGATED = ("train", "evaluate")


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
        from speechattn import commands

        if arguments[0] == "train":
            return commands.train(arguments[1:], presets)
        return commands.evaluate(arguments[1:])
    options = _parser().parse_args(arguments)
    if options.command == "doctor":
        from speechattn import doctor

        return doctor.main()
    if options.command == "stream":
        return stream(options)
    return features(options.files, options.out, options.num_mels, options.flavor, options.picture)


def stream(options: argparse.Namespace) -> int:
    """Print labels of a file or of stdin as they become certain; see `listen`."""
    source = options.source
    if source == "-" and options.realtime:
        raise UserError("--realtime paces a file; what comes on stdin has a pace of its own.")
    if source != "-" and options.rate is not None:
        raise UserError("--rate is of raw samples on stdin; a sound file tells its own.")
    if source != "-" and not os.path.exists(source):
        raise UserError(f"{source} does not exist. Give the path of a sound file, or - for raw PCM on stdin.")
    if options.picture is not None and not os.access(os.path.dirname(options.picture) or ".", os.W_OK):
        raise UserError(f"--picture {options.picture} cannot be written: its folder is missing or not yours.")
    from speechattn.listen import listen

    return listen(
        source,
        options.model,
        rate=16000 if options.rate is None else options.rate,
        push_ms=options.push_ms,
        realtime=options.realtime,
        as_json=options.json,
        picture=options.picture,
    )


def features(files: Sequence[Path], out: Path, num_mels: int, flavor: str, picture: bool) -> int:
    """Write `out/<name>.npy`, float32 [T, num_mels], for every file, and `out/<name>.png` if asked.

    A file that cannot be read is named and the others are done; then the exit status is 2.
    """
    _check_files(files)
    import torch

    from speechattn.data.audio import load_audio
    from speechattn.files import write_bytes
    from speechattn.frontend.logmel import LogMel

    frontend = LogMel(num_mels=num_mels, flavor=flavor)
    unread = 0
    for file in files:
        try:
            waveform, _ = load_audio(file, frontend.framing.sample_rate)
            with torch.inference_mode():
                frames = frontend(waveform[None])[0][0].numpy()
        except UserError as error:
            print(f"speechattn: {error}", file=sys.stderr)
            unread += 1
            continue
        try:
            out.mkdir(parents=True, exist_ok=True)
            write_bytes(out / f"{file.stem}.npy", _npy(frames))
            if picture:
                write_bytes(out / f"{file.stem}.png", _png(frames, frontend.framing.hop_ms / 1000, file.name))
        except OSError as error:
            raise UserError(f"Cannot write to {out} ({error.strerror}): choose another --out.") from error
        print(f"{out / file.stem}.npy  {frames.shape[0]} frames x {frames.shape[1]}")
    if unread:
        raise UserError(f"{unread} of {len(files)} files gave no features; they are named above.")
    return 0


def _check_files(files: Sequence[Path]) -> None:
    """What can be said before torch is imported: files that are not there, and names that would collide."""
    for file in files:
        if not os.path.exists(file):  # unlike Path.exists, False where a folder may not be looked into
            raise UserError(f"{file} does not exist. Give the paths of sound files (wav, flac, ogg, mp3).")
    stems: dict[str, Path] = {}
    for file in files:
        other = stems.setdefault(file.stem, file)
        if other is not file:
            raise UserError(f"{other} and {file} would both become {file.stem}.npy: give them separate --out folders.")


def _npy(frames: Any) -> bytes:
    import io

    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, frames)
    return buffer.getvalue()


def _png(frames: Any, hop_s: float, title: str) -> bytes:
    """A spectrogram [T, F] in seconds and mel bands, made without pyplot: nothing global, no window."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.add_subplot(xlabel="seconds", ylabel="mel band", title=title)
    if frames.size:
        extent = (0.0, frames.shape[0] * hop_s, 0.0, frames.shape[1])
        image = axes.imshow(frames.T, origin="lower", aspect="auto", extent=extent, interpolation="nearest")
        figure.colorbar(image, label="log energy")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


class _Parser(argparse.ArgumentParser):
    """argparse whose errors are the same one line as all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See: {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="speechattn",
        description="Truncated self-attention over speech: train, evaluate, stream, extract features.",
        epilog="SPEECHATTN_DEBUG=1, or --debug before the command, shows the traceback of an error.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    commands.add_parser("train", help="train a frame classifier and write its report", add_help=False)
    commands.add_parser("evaluate", help="frame accuracy of a saved model on labelled speech", add_help=False)
    help_features = "log-mel frames of sound files"
    command = commands.add_parser("features", help=help_features, description=f"{help_features}, one .npy a file.")
    command.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="wav, flac, ogg or mp3; resampled if need be"
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where <name>.npy goes, [T, F] float32")
    command.add_argument("--num-mels", type=_positive, default=80, metavar="F", help="mel bands (default 80)")
    command.add_argument("--flavor", choices=FLAVORS, default="kaldi", help="whose log-mel (default kaldi)")
    command.add_argument("--picture", action="store_true", help="write <name>.png too")
    _add_stream(commands)
    commands.add_parser("doctor", help="what is installed, and whether it works")
    return parser


def _add_stream(commands: Any) -> None:
    command = commands.add_parser(
        "stream",
        help="phones of a file or a microphone, as soon as they are certain",
        description="Labels as they become certain, a line a segment: start and stop in seconds, label, probability.",
        epilog="A microphone: arecord -f S16_LE -r 16000 | speechattn stream -",
    )
    command.add_argument("source", metavar="FILE", help="wav, flac, ogg or mp3; - is raw 16-bit mono PCM on stdin")
    command.add_argument("--model", metavar="DIR", help="a saved model (default: the small one that is shipped)")
    command.add_argument("--rate", type=_positive, metavar="HZ", help="samples a second on stdin (default 16000)")
    command.add_argument("--push-ms", type=_positive, default=100, metavar="MS", help="sound at a time (default 100)")
    command.add_argument("--realtime", action="store_true", help="pace a file as it was spoken, and report the latency")
    command.add_argument("--json", action="store_true", help="a line is a JSON object")
    command.add_argument("--picture", metavar="PNG", help="draw when each label appeared against when it was spoken")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, got {text!r}")
    return int(text)


def _version() -> str:
    try:
        return f"speechattn {version('speechattn')}"
    except PackageNotFoundError:
        return "speechattn (running from its folder, not installed)"
