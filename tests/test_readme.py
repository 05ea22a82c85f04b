"""Every example that a reader can copy runs: code blocks of the READMEs, their commands, and docstrings.

A ```python block runs, and a ```text block right after it shows what the document's Python prints. The commands of a
```bash block exist, with their options; a ```text block right after `speechattn plan` shows what that prints.
"""

from __future__ import annotations

import contextlib
import doctest
import functools
import importlib
import inspect
import io
import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from speechattn.cli import main as cli
from speechattn.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *ROOT.glob("recipes/*/README.md"),
        *ROOT.glob("speechattn/models/*/README.md"),
        *ROOT.glob("docs/*.md"),
    ]
)
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "speechattn").rglob("*.py")
    if path.name not in ("__init__.py", "__main__.py")
    and not (path.parent.name == "integrations" and path.stem in ("huggingface", "hub", "espnet", "nemo", "icefall"))
)
NEEDING = [  # a block that begins with ```python needs=toolkit runs where that toolkit is, in tests marked integration
    (document, toolkit)
    for document in DOCUMENTS
    for toolkit in sorted(set(re.findall(r"^```python needs=(\w+)$", document.read_text(), flags=re.MULTILINE)))
]


def blocks(text: str, *languages: str, needs: str = "") -> Iterator[tuple[int, str]]:
    """(line of its first line, content) of every fenced block in one of `languages` that needs just this toolkit."""
    for match in re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        needed = re.search(r"\bneeds=(\w+)", match[2])
        if match[1] in languages and needs == (needed[1] if needed else ""):
            yield text[: match.start(3)].count("\n"), match[3]


def as_program(text: str, needs: str = "") -> str:
    """The python blocks as one file, each on the lines it has in the document, so that a traceback points there."""
    lines = [""] * text.count("\n")
    for start, block in blocks(text, "python", needs=needs):
        lines[start : start + block.count("\n")] = block.splitlines()
    return "\n".join(lines) + "\n"


def shown(text: str, language: str) -> list[tuple[str, str]]:
    """(block, output) wherever a ```text block comes right after a block in `language`."""
    fenced = list(re.finditer(r"^```(\w*)[^\n]*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
    return [
        (block[2], output[2])
        for block, output in pairwise(fenced)
        if (block[1], output[1]) == (language, "text") and not text[block.end() : output.start()].strip()
    ]


def words_of(block: str) -> Iterator[list[str]]:
    """The words of every command of a shell block."""
    for line in block.replace("\\\n", " ").splitlines():
        for command in re.split(r"&&|;|\|", line.split(" #")[0].removeprefix("$ ")):
            if words := shlex.split(command, comments=True):
                yield words


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command in the shell blocks."""
    for _, block in blocks(text, "bash", "sh", "shell", "console"):
        yield from words_of(block)


def trimmed(output: str) -> str:
    """`output` without spaces at the end of its lines, which documents do not have."""
    return "\n".join(line.rstrip() for line in output.splitlines()) + "\n"


@functools.cache
def help_text(*command: str) -> str:
    """What `speechattn [COMMAND] --help` prints, train with --preset; sweep is a script of the recipe."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        if command == ("sweep",):
            runpy.run_path(str(ROOT / "recipes" / "frame_classifier" / "sweep.py"))["main"](["--help"])
        cli.main([*command, "--help"], presets={"demo": TrainConfig()})
    return printed.getvalue()


@functools.cache
def scripts_text() -> str:
    """The source of all scripts, where their options stand in quotes."""
    return "\n".join(path.read_text() for path in sorted((ROOT / "scripts").glob("*.py")))


def unknown_options(words: list[str]) -> list[str]:
    """Options of a command of speechattn, of the recipe or of a script that it does not have."""
    plain = [word for word in words if not word.startswith("-")]
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    recipes = (Path(word).stem for word in plain if word.startswith("recipes/") and word.endswith(".py"))
    command = next(recipes, "").replace("_", "-")
    if plain[:1] == ["speechattn"]:
        command = next(iter(plain[1:]), "")
    if command:
        return [option for option in options if not re.search(rf"(?<!\S){option}(?![\w-])", help_text(command))]
    if any(word.startswith("scripts/") for word in plain):
        return [option for option in options if f'"{option}"' not in scripts_text()]
    return []


def wrong_commands(text: str) -> list[str]:
    """Commands that name a Makefile target, a subcommand, a script or an option that does not exist."""
    made = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    wrong = []
    for words in commands(text):
        while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):  # a variable of the environment
            words = words[1:]
        if not words:
            continue
        if words[0] == "torchrun":  # its own options are those before the program
            first = next(i for i, word in enumerate(words) if word == "-m" or word.endswith(".py"))
            words = ["python", *words[first:]]
        program, *rest = words
        plain = [word for word in rest if not word.startswith("-") and "=" not in word]
        script = plain[0] if plain else ""
        if (
            (program == "make" and not made.issuperset(plain))
            or (program.endswith("speechattn") and plain and not re.search(rf"(?m)^ +{script}( |$)", help_text()))
            or (program.split("/")[-1].startswith("python") and script.endswith(".py") and not (ROOT / script).exists())
            or unknown_options(words)
        ):
            wrong.append(" ".join(words))
    return wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_python_of_a_document_runs_and_prints_what_the_document_shows(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / f"{document.stem}.py"
    program.write_text(as_program(document.read_text()))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(program))
    printed = capsys.readouterr().out
    for _, output in shown(document.read_text(), "python"):
        assert trimmed(output) in trimmed(printed)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_of_plan_print_what_the_document_shows(
    document: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPEECHATTN_CACHE", str(tmp_path))  # not calibrated
    for block, output in shown(document.read_text(), "bash"):
        planned = [words[1:] for words in words_of(block) if words[:2] == ["speechattn", "plan"]]
        for words in planned:
            assert cli.main(words) == 0
        if planned:
            assert trimmed(output) in trimmed(capsys.readouterr().out)


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("document", "toolkit"), NEEDING, ids=[f"{path.stem}-{name}" for path, name in NEEDING])
def test_the_python_that_needs_a_toolkit_runs(
    document: Path, toolkit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(toolkit)
    program = tmp_path / f"{document.stem}.py"
    program.write_text(as_program(document.read_text(), needs=toolkit))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(program))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_commands_of_a_document_exist(document: Path) -> None:
    if document.name == "README.md":
        assert list(commands(document.read_text())), "a README shows how to run something"
    assert wrong_commands(document.read_text()) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_files_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / link).exists(), link


def test_the_readme_names_every_package_that_is_needed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=!~; \[]", package)[0] for package in project["dependencies"]}
    requirements = (ROOT / "README.md").read_text().partition("Requirements:")[2].partition("```")[0]
    assert {package for package in needed if not re.search(rf"\b{package}\b", requirements)} == set()


def test_common_changes_need_at_most_four_files_which_exist() -> None:
    """Of "Where to change what" in CONTRIBUTING.md; NAME stands for a new file."""
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Where to change what")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 5
    for change, files, tests in rows:
        named = re.findall(r"`([\w/]+\.py)`", files)
        assert 1 <= len(named) <= 4, change
        for name in (f"speechattn/{name}" for name in named if "NAME" not in name):
            assert (ROOT / name).is_file(), name
        for name in re.findall(r"`(tests/[\w/]+\.py)`", tests):
            assert "NAME" in name or (ROOT / name).is_file(), name


def test_blocks_are_found_in_order_and_on_their_lines() -> None:
    text = "a\n```python\nx = 1\n```\n```bash\nmake test\n```\n\n```python\ny = x\n```\n"
    assert as_program(text) == "\n\nx = 1\n\n\n\n\n\n\ny = x\n\n"
    assert list(commands(text)) == [["make", "test"]]
    text = "```python\nx = 1\n```\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\nSo:\n\n```text\n2\n```\n"
    assert shown(text, "python") == [("print(1)\n", "1\n")]
    text = "```python needs=kit\nz = 1\n```\n```python\nx = 1\n```\n"
    assert as_program(text) == "\n\n\n\nx = 1\n\n" and as_program(text, "kit") == "\nz = 1\n\n\n\n\n"


@pytest.mark.parametrize(
    ("command", "right"),
    [
        ("make test", True),
        ("make PYTHON=python3.12 demo", True),
        ("make tset", False),
        ("speechattn doctor", True),
        ("speechattn doktor", False),
        ("speechattn plan --memory 8GB", True),
        ("speechattn plan --memmory 8GB", False),
        ("speechattn stream - --picture x.png", False),
        ("OMP_NUM_THREADS=1 python scripts/benchmark_attention.py --frames 64", True),
        ("python scripts/benchmark_attention.py --frame 64", False),
        ("python recipes/frame_classifier/train.py --preset demo --epochs 2", True),
        ("python recipes/frame_classifier/train.py --preset demo --epoch 2", False),
        ("cd speechattn && make test", True),
        ("python recipes/frame_classifier/sweep.py --redraw sweep.json --plot sweep.png", True),
        ("python recipes/frame_classifier/sweep.py --redrawn sweep.json", False),
        ("python recipes/lost.py --x", False),
        (".venv/bin/python -m pytest", True),
    ],
)
def test_wrong_commands_are_seen(command: str, right: bool) -> None:
    assert (wrong_commands(f"```bash\n{command}\n```\n") == []) is right


class UnwrappingFinder(doctest.DocTestFinder):
    """Also finds examples of decorated functions, which doctest takes for functions of the decorator's module."""

    def _from_module(self, module: ModuleType | None, object: Any) -> bool:
        return bool(super()._from_module(module, inspect.unwrap(object)))  # type: ignore[misc]


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_docstrings_are_true(module: str) -> None:
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in ("numba", "llvmlite"):
            raise
        pytest.skip("numba compiles this module, and is not installed")
    if module == "speechattn.decoding.ctc_beam_search":
        pytest.importorskip("flashlight", reason="needs flashlight-text: pip install 'speechattn[ctc]'")
    finder, runner = UnwrappingFinder(), doctest.DocTestRunner()
    for examples in finder.find(imported, module):
        runner.run(examples)
    assert runner.failures == 0, f"{module}: see the captured output"
