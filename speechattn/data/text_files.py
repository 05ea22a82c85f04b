"""Lines of UTF-8 text files, as transcripts and tables of labels have them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from speechattn.errors import DataError

_LINE_SEPARATORS = re.compile("[\u2028\u2029]")  # Unicode's own, which end a line in some editors


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 text file, without byte-order marks and carriage returns.

    A byte-order mark in the middle of a file, which joining two files leaves there, is dropped too. Accents are
    composed (NFC), so that ids equal those of file names, which macOS writes decomposed.

    Raises:
        DataError: the file is missing, is not a file, cannot be read, or is not UTF-8.
    """
    return list(_lines(path))


def _lines(path: Path, errors: str = "strict") -> Iterator[str]:
    try:
        check_not_device(path)
        with open(path, encoding="utf-8-sig", errors=errors) as file:
            for line in file:
                row = line.rstrip("\n")
                yield row if row.isascii() else unicodedata.normalize("NFC", row.replace("\ufeff", ""))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8.") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_table(path: Path) -> list[str]:
    """Return the lines of a table as a list: see `table_lines`."""
    return list(table_lines(path))


def table_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a table in which one damaged line costs one utterance: `check_text` refuses such a line.

    Unicode's line and paragraph separators end a line too: a reader of fields would take them for spaces, and what
    follows for further fields.

    Raises:
        DataError: the file is missing, is not a file, or cannot be read.
    """
    for line in _lines(path, errors="surrogateescape"):
        if line.isascii():
            yield line
        else:
            yield from _LINE_SEPARATORS.split(line)


def check_text(line: str) -> None:
    """Raise ValueError if a line of `table_lines` holds bytes that are not UTF-8."""
    if not line.isascii() and any("\udc80" <= character <= "\udcff" for character in line):
        raise ValueError("this line is not UTF-8 text: save the file as UTF-8.")


def check_not_device(path: Path) -> None:
    """Raise DataError for a pipe or a device: reading one may wait, or fill the memory, without end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{path} is a pipe or a device, not a text file.")
