"""The error message of an integration whose toolkit is missing.

Every integration has its encoder in `.encoder`, so its weights have that prefix, and names arguments as its toolkit
does. docs/integrations.md has an example of each, and the versions that they ran against.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from speechattn.errors import UserError, reason


@contextmanager
def needs(toolkit: str, remedy: str) -> Iterator[None]:
    """Turn any error of the imports inside into one line with the reason and the `remedy`.

    A toolkit that imports a torchaudio for another torch raises OSError or RuntimeError.

    Raises:
        UserError: an import inside failed.
    """
    try:
        yield
    except (ImportError, OSError, RuntimeError) as error:
        why = reason(error)
        raise UserError(f"This integration needs {toolkit}, which cannot be imported here ({why}). {remedy}") from error
