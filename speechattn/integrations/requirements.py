"""The encoder inside other people's projects: one thin file a toolkit, imported only when you name it.

Each adapter holds an encoder under `.encoder`, so its weights are the encoder's with that prefix, and passes
lengths on in the toolkit's own words. docs/integrations.md has an example of each, and the versions they ran against.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from speechattn.errors import UserError, reason


@contextmanager
def needs(toolkit: str, remedy: str) -> Iterator[None]:
    """Around an adapter's imports: what goes wrong in them becomes one line that ends with the remedy.

    A toolkit on top of a torchaudio that does not match torch fails with OSError or RuntimeError.

    Raises:
        UserError: an import inside failed.
    """
    try:
        yield
    except (ImportError, OSError, RuntimeError) as error:
        why = reason(error)
        raise UserError(f"This adapter needs {toolkit}, which cannot be imported here ({why}). {remedy}") from error
