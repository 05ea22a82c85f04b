"""Imports go down, never up or sideways, and ARCHITECTURE.md is true: both are read from the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "speechattn"
STDLIB_ONLY = {
    *("context.py", "framing.py", "config.py", "choices.py", "errors.py", "plain.py"),
    *("guard.py", "memory.py", "words.py", "amplitude.py"),
    *(f"planning/{name}.py" for name in ("plan", "memory", "operations", "machine", "advice", "sheet")),
    *("files.py", "lock.py", "signals.py", "_torchaudio.py"),
}
MAP = {"__init__.py"}  # names every module, lazily: on no floor


def documented(text: str) -> dict[str, int]:
    """Floor of each file in ARCHITECTURE.md, whose lines read `<floor>  <file>  <what it is>`."""
    return {file: int(floor) for floor, file in re.findall(r"^ {4}(\d)  ([\w/]+\.py)\b", text, flags=re.MULTILINE)}


def modules(package: Path) -> dict[str, Path]:
    """File below the package, `attention/dense.py`, by its dotted name, `attention.dense`."""
    found = {}
    for path in package.rglob("*.py"):
        file = path.relative_to(package)
        dotted = ".".join(file.with_suffix("").parts).removesuffix("__init__").removesuffix(".")
        found[dotted] = file
    return found


def imports(path: Path, file: Path) -> Iterator[tuple[int, str, list[str]]]:
    """(line, absolute module, names taken from it) of every import statement, function bodies included."""
    folder = ["speechattn", *file.parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, []
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) + 1 - node.level] if node.level else []
            yield node.lineno, ".".join([*above, *filter(None, [node.module])]), [alias.name for alias in node.names]


def targets(module: str, names: list[str], known: dict[str, Path]) -> Iterator[str]:
    """The dotted names inside the package that `from module import names` reaches; "" is the map."""
    inside = module.removeprefix("speechattn").removeprefix(".")
    submodules = [f"{inside}.{name}".removeprefix(".") for name in names]
    yield from (name for name in submodules if name in known)
    if not names or any(name not in known for name in submodules):
        yield inside


def violations(package: Path, floors: dict[str, int]) -> list[str]:
    """Every import that goes up or sideways, as `file:line: what is wrong`."""
    known = modules(package)
    wrong = []
    for file in known.values():
        if file.as_posix() in MAP:
            continue
        for line, module, names in imports(package / file, file):
            if module.split(".")[0] != "speechattn":
                said = outside(file, module)
                wrong += [f"{file}:{line}: {said}"] if said else []
                continue
            for target in targets(module, names, known):
                said = inside(file, target, known, floors)
                wrong += [f"{file}:{line}: {said}"] if said else []
    return wrong


def outside(file: Path, module: str) -> str:
    """What is wrong with an import of another package, or nothing."""
    name = module.split(".")[0]
    if name == "torchaudio":
        return "imports torchaudio; use require_torchaudio of speechattn._torchaudio"
    if file.as_posix() in STDLIB_ONLY and name not in sys.stdlib_module_names:
        return f"imports {name}, but this file is standard library only"
    return ""


def inside(file: Path, target: str, known: dict[str, Path], floors: dict[str, int]) -> str:
    """What is wrong with an import of `target` from the package, or nothing."""
    if target == "":
        return "" if floor_of(file, floors) == 6 else "imports the map; import the module that holds the name"
    if target not in known:
        return f"imports {target}, which is not there"
    mine, theirs = floor_of(file, floors), floor_of(known[target], floors)
    if mine is None or theirs is None:
        return f"{file if mine is None else known[target]} has no floor in ARCHITECTURE.md"
    if theirs > mine:
        return f"floor {mine} imports {target} of floor {theirs}"
    if mine == theirs == 1 and file.parts[0] != known[target].parts[0]:
        return f"{file.parts[0]} imports its sibling {target}"
    if file.name == "checkpoint.py" and theirs > 0:
        return f"checkpoint.py knows nothing above floor 0, and imports {target}"
    if file.as_posix() in STDLIB_ONLY and known[target].as_posix() not in STDLIB_ONLY:
        return f"imports {target}, but this file is standard library only"
    return ""


def floor_of(file: Path, floors: dict[str, int]) -> int | None:
    """A folder's `__init__.py` lives on the folder's floor."""
    if file.name == "__init__.py" and len(file.parts) > 1:
        return max((floor for other, floor in floors.items() if other.startswith(f"{file.parts[0]}/")), default=None)
    return floors.get(file.as_posix())


@pytest.fixture
def floors() -> dict[str, int]:
    return documented((ROOT / "ARCHITECTURE.md").read_text())


def test_imports_only_go_down(floors: dict[str, int]) -> None:
    assert violations(PACKAGE, floors) == []


def test_architecture_names_every_module_and_no_other(floors: dict[str, int]) -> None:
    there = {file.as_posix() for file in modules(PACKAGE).values() if file.name != "__init__.py"}
    assert there - set(floors) == set(), "these files have no line in ARCHITECTURE.md"
    assert set(floors) - there == set(), "ARCHITECTURE.md names files that are not there"


def test_a_folder_has_one_floor(floors: dict[str, int]) -> None:
    seen: dict[str, set[int]] = {}
    for file, floor in floors.items():
        if "/" in file:
            seen.setdefault(file.split("/")[0], set()).add(floor)
    assert {folder: found for folder, found in seen.items() if len(found) > 1} == {}


PLANTED_FLOORS = {
    "context.py": 0,
    "lengths.py": 0,
    "frontend/logmel.py": 1,
    "attention/dense.py": 1,
    "attention/masks.py": 1,
    "encoder.py": 2,
    "training.py": 5,
    "checkpoint.py": 5,
    "cli.py": 6,
}


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("context.py", "import torch", "standard library only"),
        ("context.py", "from speechattn.lengths import x", "standard library only"),
        ("lengths.py", "from speechattn.encoder import Encoder", "floor 0 imports encoder of floor 2"),
        ("lengths.py", "from . import encoder", "floor 0 imports encoder of floor 2"),
        ("encoder.py", "def f():\n    import speechattn.training", "floor 2 imports training of floor 5"),
        ("attention/dense.py", "from speechattn.frontend.logmel import LogMel", "sibling frontend.logmel"),
        ("attention/dense.py", "from speechattn.frontend import logmel", "sibling frontend.logmel"),
        ("attention/dense.py", "from ..frontend.logmel import LogMel", "sibling frontend.logmel"),
        ("attention/dense.py", "from ..frontend import *", "sibling frontend"),
        ("checkpoint.py", "from speechattn.training import train", "nothing above floor 0"),
        ("encoder.py", "from speechattn import Context", "imports the map"),
        ("encoder.py", "import speechattn as sa", "imports the map"),
        ("encoder.py", "import torchaudio.functional", "require_torchaudio"),
        ("encoder.py", "from speechattn.lost import x", "imports lost, which is not there"),
        ("new.py", "from speechattn.context import Context", "new.py has no floor"),
        ("attention/dense.py", "from .masks import mask\nfrom ..context import Context\nimport torch", ""),
        ("encoder.py", "from speechattn import context as law\nfrom speechattn.attention import dense", ""),
        ("training.py", "from speechattn.checkpoint import x\nfrom speechattn.encoder import y", ""),
        ("cli.py", "from speechattn import __version__\nfrom speechattn.training import main", ""),
    ],
)
def test_the_checker_sees_what_is_planted(tmp_path: Path, file: str, line: str, said: str) -> None:
    for name in [*PLANTED_FLOORS, "__init__.py", "frontend/__init__.py", "attention/__init__.py"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / file).write_text(line + "\n")
    found = violations(tmp_path, PLANTED_FLOORS)
    if said:
        assert len(found) == 1 and found[0].startswith(f"{file}:") and said in found[0], found
    else:
        assert found == []


def test_importing_the_map_and_the_definitions_costs_nothing() -> None:
    dotted = [file.removesuffix(".py").replace("/", ".") for file in STDLIB_ONLY if (PACKAGE / file).exists()]
    names = ", ".join(f"speechattn.{name}" for name in dotted)
    program = f"import sys, speechattn, {names}; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.stdout == "[]\n", ran.stderr
