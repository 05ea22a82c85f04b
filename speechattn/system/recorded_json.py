"""JSON files of this package that are read back: each says its kind and the version of its format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechattn.errors import UserError
from speechattn.system.serialization import parse_json


def read_recorded(path: Path, kind: str, format: int, what: str, hint: str) -> dict[str, Any]:
    """Return the JSON object in a file, with "kind" and "format" as they are wanted.

    `what` the file should be, with an article, and a `hint`, a sentence about where such files come from, are for
    messages.

    Raises:
        UserError: the file cannot be read, is not JSON, of another kind, or of another format.
    """
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). {hint}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}). {hint}") from error
    if not isinstance(data, dict) or data.get("kind") != kind:
        raise UserError(f"{path} is not {what}. {hint}")
    if data.get("format") != format:
        raise UserError(f"{path} has format {data.get('format')!r}; this speechattn reads format {format}.")
    return data
