"""torchaudio for the tests that compare with it or call it: skipped with a reason where it cannot be imported."""

from types import ModuleType

import pytest

from speechattn.errors import UserError
from speechattn.system.optional_imports import require_torchaudio


@pytest.fixture
def torchaudio() -> ModuleType:
    try:
        return require_torchaudio("This test")
    except UserError as error:
        pytest.skip(str(error))
