"""Imports go down the ranks of ARCHITECTURE.md, without cycles; both are read from the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "speechattn"
STANDARD_LIBRARY = {
    *("errors.py", "context.py", "receptive_field.py", "framing.py", "config.py", "model_config.py"),
    *("heuristics.py", "amplitude.py"),
    *("system/", "planning/"),
}
"""What has to import in milliseconds. `system/` takes tqdm besides."""


def documented_ranks(text: str) -> dict[str, int]:
    """Return the rank of each package and root file, from lines that read `<rank>  <name>  <sentence>`."""
    return {name: int(rank) for rank, name in re.findall(r"^ {4}(\d)  (\w+(?:/|\.py)) ", text, flags=re.MULTILINE)}


def modules(package: Path) -> dict[str, Path]:
    """Return each file of the package, `attention/dense.py`, by its dotted name, `attention.dense`."""
    files = [path.relative_to(package) for path in package.rglob("*.py")]
    return {".".join(file.with_suffix("").parts).removesuffix("__init__").removesuffix("."): file for file in files}


def imported(path: Path, file: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yield (line, absolute module, names taken from it) of every import statement, function bodies included."""
    folder = ["speechattn", *file.parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, []
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) + 1 - node.level] if node.level else []
            yield node.lineno, ".".join([*above, *filter(None, [node.module])]), [alias.name for alias in node.names]


def targets(module: str, names: list[str], known: dict[str, Path]) -> Iterator[str]:
    """Yield the dotted names inside the package that `from module import names` reaches; "" is `__init__.py`."""
    inside = module.removeprefix("speechattn").removeprefix(".")
    submodules = [f"{inside}.{name}".removeprefix(".") for name in names]
    yield from (name for name in submodules if name in known)
    if not names or any(name not in known for name in submodules):
        yield inside


def owner(file: Path) -> str:
    """Return the package that a file belongs to, `attention/`, or the file itself at the root."""
    return f"{file.parts[0]}/" if len(file.parts) > 1 else file.name


def violations(package: Path, ranks: dict[str, int]) -> list[str]:
    """Return every import that does not go down, as `file:line: what is wrong`."""
    known = modules(package)
    wrong = []
    for file in known.values():
        if file.as_posix() == "__init__.py":
            continue
        for line, module, names in imported(package / file, file):
            if module.split(".")[0] != "speechattn":
                faults = [outside(file, module)]
            else:
                faults = [inside(file, target, known, ranks) for target in targets(module, names, known)]
            wrong += [f"{file}:{line}: {fault}" for fault in faults if fault]
    return wrong


def outside(file: Path, module: str) -> str:
    """Return what is wrong with an import of another distribution, or nothing."""
    name = module.split(".")[0]
    if name == "torchaudio":
        return "imports torchaudio; use require_torchaudio of speechattn.system.optional_imports"
    allowed = name in sys.stdlib_module_names or (owner(file) == "system/" and name == "tqdm")
    return f"imports {name}, but must need the standard library only" * (
        owner(file) in STANDARD_LIBRARY and not allowed
    )


def inside(file: Path, target: str, known: dict[str, Path], ranks: dict[str, int]) -> str:
    """Return what is wrong with an import of `target` from the package, or nothing."""
    if target == "":
        return "" if ranks.get(owner(file)) == 9 else "imports speechattn; import the module that holds the name"
    if target not in known:
        return f"imports {target}, which does not exist"
    mine, theirs = owner(file), owner(known[target])
    if mine not in ranks or theirs not in ranks:
        return f"{mine if mine not in ranks else theirs} has no rank in ARCHITECTURE.md"
    if mine == theirs or (mine, theirs) == ("__main__.py", "cli/"):
        return ""
    if ranks[theirs] > ranks[mine] or (ranks[theirs] == ranks[mine] and theirs.endswith("/") and ranks[mine] > 0):
        return f"rank {ranks[mine]} imports {target} of rank {ranks[theirs]}"
    if mine in STANDARD_LIBRARY and theirs not in STANDARD_LIBRARY:
        return f"imports {target}, but must need the standard library only"
    return ""


@pytest.fixture
def ranks() -> dict[str, int]:
    return documented_ranks((ROOT / "ARCHITECTURE.md").read_text())


def test_imports_only_go_down(ranks: dict[str, int]) -> None:
    assert violations(PACKAGE, ranks) == []


def test_no_file_imports_itself_through_others() -> None:
    known = modules(PACKAGE)
    graph = {
        name: {
            target for _, module, names in imported(PACKAGE / file, file) for target in targets(module, names, known)
        }
        for name, file in known.items()
        if name
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_architecture_names_every_package_and_no_other(ranks: dict[str, int]) -> None:
    assert set(ranks) == {owner(file) for file in modules(PACKAGE).values()} - {"__init__.py"}


def walks(text: str) -> list[list[str]]:
    """Return the files of each walk in ARCHITECTURE.md, in order."""
    blocks = re.findall(r"(?:^ {4}[\w/]+\.py +.*\n)+", text.partition("## Two walks")[2], flags=re.MULTILINE)
    return [re.findall(r"^ {4}([\w/]+\.py) ", block, flags=re.MULTILINE) for block in blocks]


def test_every_file_of_a_walk_is_imported_by_one_before_it() -> None:
    found = walks((ROOT / "ARCHITECTURE.md").read_text())
    assert len(found) == 2 and all(len(walk) > 5 for walk in found)
    known = modules(PACKAGE)
    for walk in found:
        for number, file in enumerate(walk[1:], start=1):
            taken = {
                known[target].as_posix()
                for before in walk[:number]
                for _, module, names in imported(PACKAGE / before, Path(before))
                for target in targets(module, names, known)
                if target in known
            }
            assert file in taken, f"{file} is imported by none of {walk[:number]}"


PLANTED_RANKS = {
    "errors.py": 0,
    "system/": 0,
    "context.py": 1,
    "lengths.py": 1,
    "planning/": 2,
    "frontend/": 3,
    "attention/": 3,
    "encoder/": 4,
    "training/": 7,
    "cli/": 9,
}


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("context.py", "import torch", "standard library only"),
        ("context.py", "from speechattn.lengths import x", "standard library only"),
        ("planning/memory.py", "from speechattn.lengths import x", "standard library only"),
        ("lengths.py", "from speechattn.encoder.encoder import Encoder", "rank 1 imports encoder.encoder of rank 4"),
        ("lengths.py", "from .encoder import encoder", "rank 1 imports encoder.encoder of rank 4"),
        ("encoder/encoder.py", "def f():\n    import speechattn.training.loop", "rank 4 imports training.loop"),
        ("attention/dense.py", "from speechattn.frontend.logmel import LogMel", "imports frontend.logmel of rank 3"),
        ("attention/dense.py", "from speechattn.frontend import logmel", "imports frontend.logmel of rank 3"),
        ("attention/dense.py", "from ..frontend.logmel import LogMel", "imports frontend.logmel of rank 3"),
        ("attention/dense.py", "from ..frontend import *", "imports frontend of rank 3"),
        ("encoder/encoder.py", "from speechattn import Context", "imports speechattn;"),
        ("encoder/encoder.py", "import speechattn as sa", "imports speechattn;"),
        ("encoder/encoder.py", "import torchaudio.functional", "require_torchaudio"),
        ("encoder/encoder.py", "from speechattn.lost import x", "imports lost, which does not exist"),
        ("new.py", "from speechattn.context import Context", "new.py has no rank"),
        ("attention/dense.py", "from .masks import mask\nfrom ..context import Context\nimport torch", ""),
        ("encoder/encoder.py", "from speechattn import context\nfrom speechattn.attention import dense", ""),
        ("cli/main.py", "from speechattn import __version__\nfrom speechattn.training.loop import main", ""),
        ("system/progress.py", "import os\nfrom tqdm import tqdm\nfrom speechattn.errors import UserError", ""),
    ],
)
def test_the_checker_finds_what_is_planted(tmp_path: Path, file: str, line: str, fault: str) -> None:
    files = ["frontend/logmel.py", "attention/dense.py", "attention/masks.py", "encoder/encoder.py", "training/loop.py"]
    files += ["planning/memory.py", "cli/main.py", "system/progress.py", "errors.py", "context.py", "lengths.py"]
    for name in ["__init__.py", *files, *(f"{folder}/__init__.py" for folder in PLANTED_RANKS if folder[-1] == "/")]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / file).write_text(line + "\n")
    found = violations(tmp_path, PLANTED_RANKS)
    if fault:
        assert len(found) == 1 and found[0].startswith(f"{file}:") and fault in found[0], found
    else:
        assert found == []


def test_importing_the_definitions_takes_neither_torch_nor_numpy() -> None:
    light = [name for name, file in modules(PACKAGE).items() if owner(file) in STANDARD_LIBRARY]
    names = ", ".join(["speechattn", *(f"speechattn.{name}" for name in light)])
    program = f"import sys, {names}; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.stdout == "[]\n", ran.stderr


ALLOWED_ARITHMETIC = {
    ("window", "encoder/convolution_as_attention.py"): "taps of a Conv1d of any kind become a Context here",
    ("window", "plots/memory_growth.py"): "ends of an axis",
    ("window", "plots/receptive_field.py"): "ends of a drawn bar",
    ("frame", "data/labels/energy_vad.py"): "levels on a grid of its own, at any sample rate, not frames of a model",
    ("literal 160", "data/audio/containers/mpeg.py"): "kbit/s",
    ("literal 160", "data/synthetic/espeak.py"): "characters of a path",
    ("literal 400", "errors.py"): "characters of a message",
    ("literal 160", "training/config.py"): "features",
    ("literal 400", "training/config.py"): "frames of a crop",
}


def own_name(node: ast.expr) -> str:
    """Return `left` for the expressions `left` and `context.left`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def arithmetic(package: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, file, "line: expression") of window and frame arithmetic outside of its files."""
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        if file in ("context.py", "receptive_field.py", "framing.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.BinOp):
                sides = (node.left, node.right)
                names, text = {own_name(side) for side in sides}, f"{node.lineno}: {ast.unparse(node)}"
                if names & {"left", "right"} and isinstance(node.op, ast.Add | ast.Sub):
                    yield "window", file, text
                if "hop" in names or any(
                    own_name(side) == "window" and "framing" in ast.unparse(side) for side in sides
                ):
                    yield "frame", file, text
            elif isinstance(node, ast.Constant) and type(node.value) is int and node.value in (16000, 400, 160):
                yield f"literal {node.value}", file, f"{node.lineno}: {node.value}"


def test_window_arithmetic_stays_in_context_and_frame_arithmetic_in_framing() -> None:
    found = list(arithmetic(PACKAGE))
    assert [entry for entry in found if entry[:2] not in ALLOWED_ARITHMETIC] == []
    assert ALLOWED_ARITHMETIC.keys() <= {entry[:2] for entry in found}, "an allowed file does not need it any more"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("start = i - context.left", ["i - context.left"]),
        ("stop = i + 1 + right", ["i + 1 + right"]),
        ("samples = frames * hop", ["frames * hop"]),
        ("center = start + framing.window // 2", ["framing.window // 2"]),
        ("seconds = n / 16_000", ["16000"]),
        ("start = context.span(i)[0]\nheads = left @ right\nframe_ms = n * hop_ms", []),
    ],
)
def test_planted_arithmetic_is_found(tmp_path: Path, line: str, found: list[str]) -> None:
    (tmp_path / "encoder.py").write_text(line + "\n")
    assert [text.partition(": ")[2] for _, _, text in arithmetic(tmp_path)] == found


def test_every_progress_bar_is_the_one_that_writes_few_lines_into_a_log() -> None:
    found = [
        file.as_posix()
        for file in modules(PACKAGE).values()
        for _, name, _ in imported(PACKAGE / file, file)
        if name == "tqdm"
    ]
    assert found == ["system/progress.py"]
