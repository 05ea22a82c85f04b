"""Fixtures of all tests: the real data of ../shared/data (without it such tests are skipped), torchaudio, seeds."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from speechattn.errors import UserError
from speechattn.system import cache_folder
from speechattn.system.optional_imports import require_torchaudio

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


def shared_folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not in ../shared/data")
    return folder


@pytest.fixture
def librispeech_tiny() -> Path:
    """Seven LibriSpeech utterances with phone alignments: LibriSpeech/ and alignments/."""
    return shared_folder("librispeech_tiny")


@pytest.fixture
def librispeech_shared() -> Path:
    """365 LibriSpeech utterances of 205 speakers with phone alignments: LibriSpeech/ and alignments/."""
    return shared_folder("librispeech_shared")


@pytest.fixture
def long_chapters() -> Path:
    """One chapter of 16.8 minutes."""
    return shared_folder("long_chapters")


@pytest.fixture
def fsdd_mini() -> Path:
    """Spoken digits at 8 kHz."""
    return shared_folder("fsdd_mini")


@pytest.fixture
def torchaudio() -> ModuleType:
    """torchaudio, for tests that compare with it or call it."""
    try:
        return require_torchaudio("This test")
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of features for this session, not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache_folder, "default_cache", lambda: tmp_path_factory.getbasetemp() / "cache")
        yield


torch.set_num_threads(1)  # the tensors of tests are small: more threads do not help


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs CUDA")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random numbers."""
    torch.manual_seed(0)


with contextlib.suppress(ImportError):  # environments of integrations have pytest alone
    from hypothesis import HealthCheck, settings

    # The same examples in every run, however slow the machine is.
    settings.register_profile("anywhere", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("anywhere")
