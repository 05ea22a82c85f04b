"""The folder for what can be made again: synthetic speech, features. Standard library only."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def default_cache() -> Path:
    """Return $SPEECHATTN_CACHE, else ~/.cache/speechattn, else a temporary folder."""
    if chosen := os.environ.get("SPEECHATTN_CACHE"):
        return Path(chosen).expanduser()
    with contextlib.suppress(OSError, RuntimeError):  # a home that is read-only, or none at all
        folder = Path.home() / ".cache" / "speechattn"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return Path(tempfile.gettempdir()) / f"speechattn-{getattr(os, 'getuid', int)()}"
