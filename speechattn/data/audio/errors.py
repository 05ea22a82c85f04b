"""The error and the warning of the audio reader."""

from __future__ import annotations

from pathlib import Path

from speechattn.errors import DataError


class AudioError(DataError):
    """One file that cannot be used. `path` names it, `reason` is a short kind to count by ("truncated", "text")."""

    def __init__(self, message: str, path: str | Path = "", reason: str = "") -> None:
        super().__init__(message)  # the message alone: worker processes rebuild an error from its args
        self.path = Path(path)
        self.reason = reason


class AudioWarning(UserWarning):
    """Audio that was changed or left out while reading."""
