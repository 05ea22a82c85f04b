"""The only import of torchaudio. Its three ways to fail become one line that names both versions and the fix."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from speechattn.errors import UserError, reason


def require_torchaudio(purpose: str) -> ModuleType:
    """Return the torchaudio module.

    A torchaudio that does not match the installed torch raises RuntimeError or OSError on import, a
    missing one ImportError; all three become a UserError that says what `purpose` needs.
    """
    try:
        return importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"{purpose} needs torchaudio, which cannot be imported here (torch {_version('torch')}, torchaudio "
            f"{_version('torchaudio')}: {reason(error)}). "
            "A pair that works: pip install torch==2.11.0 torchaudio==2.11.0"
        ) from error


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
