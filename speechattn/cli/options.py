"""The parser that all commands share, and the kinds of values that several of them take."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from speechattn.errors import ConfigError, UserError
from speechattn.system.units import parse_bytes, parse_duration

RENAMED = {
    "--output": ("--out",),
    "--picture": ("--plot",),
    "--json": ("--format json", "--json-out FILE"),
    "--hours": ("--duration 4h",),
    "--seconds": ("--duration 30s",),
    "--positions": ("--position-encoding",),
    "--scores": ("--activation",),
    "--execution": ("--backend",),
}
"""Options by their old names: what to write now. Of several, the first that the command has is shown."""
MAX_DIGITS = 18
"""Digits of the largest whole number that an option takes."""


class Parser(argparse.ArgumentParser):
    """Argument parser whose mistakes are a `UserError` of one line that names the nearest or the new option."""

    def __init__(self, prog: str, **settings: Any) -> None:
        super().__init__(prog, allow_abbrev=False, **settings)

    def parse_args(self, args: Sequence[str], namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]
        """Return the options in `args`; --num_heads counts as --num-heads.

        Raises:
            UserError: an option is unknown, missing or has an impossible value.
            SystemExit: --help.
        """
        arguments = [_with_dashes(argument) for argument in args]
        for name in (argument.partition("=")[0] for argument in arguments):
            # Before argparse, which would first report that a required option is missing.
            if name.startswith("--") and " " not in name and name not in self._option_string_actions:
                self.error(self._unknown(name))
        options: argparse.Namespace
        options, unexpected = self.parse_known_args(arguments, namespace)
        if unexpected:
            self.error(f"unexpected argument {unexpected[0]!r}")
        return options

    def parse_known_args(self, args: Sequence[str], namespace: Any = None) -> Any:  # type: ignore[override]
        """Refuse --option=--, for which argparse would return an empty list, and parse as argparse does."""
        for argument in args:
            if argument.startswith("--") and argument.endswith("=--"):
                self.error(f"argument {argument.partition('=')[0]}: expected a value, got '--'")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise a UserError that names the command's --help."""
        stop = "" if message.endswith((".", "?")) else "."
        raise UserError(f"{message}{stop} See: {self.prog} --help")

    def _unknown(self, name: str) -> str:
        known = list(self._option_string_actions)
        renamed = [new for new in RENAMED.get(name, ()) if new.split()[0] in known]
        if renamed:
            return f"{name} is now {renamed[0]}"
        near = [] if name in RENAMED else difflib.get_close_matches(name, known, n=1)
        return f"unknown option {name}" + (f": did you mean {near[0]}?" if near else "")


def _with_dashes(argument: str) -> str:
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return name.replace("_", "-") + equals + value


def check_output_file(option: str, path: Path, suffixes: Collection[str]) -> None:
    """Raise UserError before the work, not after it, if a file could not be written or has another suffix."""
    if path.suffix.lower() not in suffixes:
        raise UserError(f"{option} {path} must end in {' or '.join(suffixes)}.")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise UserError(f"{option} {path} cannot be written: its folder is missing or not yours.")


def option_name(field: str) -> str:
    """Return the option of a setting: "num_heads" is --num-heads."""
    return f"--{field.replace('_', '-')}"


def positive(text: str) -> int:
    """Read a whole number, 1 or more."""
    number = _whole(text)
    if not number:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, got {text!r}")
    return number


def frames(text: str) -> int:
    """Read a whole number of frames, 0 or more."""
    number = _whole(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"must be a whole number of frames, 0 or more, got {text!r}")
    return number


def frames_or_all(text: str) -> int | str:
    """Read a whole number of frames, 0 or more, or "all", which is no limit."""
    if text == "all":
        return text
    number = _whole(text)
    if number is None:
        raise argparse.ArgumentTypeError(f"must be a whole number of frames, 0 or more, or all, got {text!r}")
    return number


def _whole(text: str) -> int | None:
    """Return the number that decimal digits write, or None; more than MAX_DIGITS are no size."""
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None


def size(text: str) -> int:
    """Read a size in bytes, as 8GB."""
    try:
        return parse_bytes(text, "size")
    except ConfigError as error:
        raise argparse.ArgumentTypeError(_without_name(error, "size")) from None


def duration(at_least: float = 0.0, at_most: float = float("inf"), limits: str = "") -> Callable[[str], float]:
    """Return a reader of durations, as 4h, between two limits in seconds, which `limits` describes."""

    def read(text: str) -> float:
        try:
            seconds = parse_duration(text, "duration")
        except ConfigError as error:
            raise argparse.ArgumentTypeError(_without_name(error, "duration")) from None
        if not at_least <= seconds <= at_most:
            raise argparse.ArgumentTypeError(f"must be a duration {limits}, got {text!r}")
        return seconds

    return read


def _without_name(error: ConfigError, name: str) -> str:
    """Return a message without its subject, which argparse puts in front, and its full stop."""
    return str(error).removeprefix(f"{name} ").removesuffix(".")
