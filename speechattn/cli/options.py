"""What the options of all commands share: errors of one line, and kinds of numbers."""

from __future__ import annotations

import argparse
from typing import NoReturn

from speechattn.errors import UserError


class Parser(argparse.ArgumentParser):
    """argparse whose errors are the same one line as all others."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}. See: {self.prog} --help")


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, 1 or more, got {text!r}")
    return int(text)
