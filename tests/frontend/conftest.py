"""torchaudio for the tests that compare with it or call it: skipped with a reason where it cannot be imported."""

from types import ModuleType

import pytest

from speechattn._torchaudio import require_torchaudio
from speechattn.errors import UserError


@pytest.fixture
def torchaudio() -> ModuleType:
    try:
        return require_torchaudio("This test")
    except UserError as error:
        pytest.skip(str(error))
