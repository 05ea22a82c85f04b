"""A wheel of this tree holds the whole package, and runs in another environment, from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import speechattn

ROOT = Path(__file__).parents[1]
PROGRAM = """
import torch
import speechattn as sa
model = sa.load_pretrained("small-en-phones")
logits, lengths = model(torch.zeros(1, 16000))
print(sa.__file__, tuple(logits.shape), lengths.tolist())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built without a network from a copy of what it is made of, so that the checkout stays clean."""
    pytest.importorskip("setuptools", minversion="77", reason="the build needs setuptools 77")
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for path in tracked():
        copy = tree / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    run("-m", "pip", "wheel", str(tree), "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out))
    (built,) = out.glob("*.whl")
    return built


def tracked() -> Iterator[Path]:
    """Yield what a wheel is built from, and the tests, which must not get into it."""
    yield from (ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"))
    for folder in ("speechattn", "tests"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def run(*arguments: str, python: str | Path = sys.executable, folder: Path | None = None) -> str:
    done = subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment() -> dict[str, str]:
    """Return the variables for a process that does not find the checkout, and compiles nothing."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return kept | {"SPEECHATTN_NATIVE": "0"}


def test_a_wheel_holds_every_file_of_the_package_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = ROOT / "speechattn"
    expected = [*package.rglob("*.py"), package / "py.typed", *(package / "models").glob("*/*.*")]
    assert held == {path.relative_to(ROOT).as_posix() for path in expected}
    assert "speechattn/models/small-en-phones/model.safetensors" in held


def test_the_version_of_a_wheel_is_that_of_the_package(wheel: Path) -> None:
    assert wheel.name == f"speechattn-{speechattn.__version__}-py3-none-any.whl"


def test_a_wheel_runs_in_another_environment_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(home), "platbase": str(home)}))
    run("-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "--target", str(packages), str(wheel))
    # The dependencies come from this environment. Its .pth files are not read, so an editable install is not found.
    shared = [path for path in sys.path if path.endswith("-packages")]
    (packages / "dependencies.pth").write_text(f"import sys; sys.path.extend({shared})\n")
    version = run("-m", "speechattn", "--version", python=python, folder=tmp_path)
    assert version.split() == ["speechattn", speechattn.__version__]
    printed = run("-c", PROGRAM, python=python, folder=tmp_path)
    assert printed.split()[0].startswith(str(packages)) and printed.endswith("(1, 100, 41) [100]\n")
