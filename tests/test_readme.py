"""Every example that a reader can copy runs: code blocks of the READMEs, their commands, and docstrings."""

from __future__ import annotations

import doctest
import importlib
import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from speechattn.cli import main as cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("recipes/*/README.md"), *ROOT.glob("docs/*.md")]
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


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command in the shell blocks."""
    for _, block in blocks(text, "bash", "sh", "shell", "console"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in re.split(r"&&|;|\|", line.split("#")[0].removeprefix("$ ")):
                if words := command.split():
                    yield words


def wrong_commands(text: str) -> list[str]:
    """Commands that name a Makefile target, a subcommand or a script that does not exist."""
    made = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    known = {*cli.DELEGATED, *cli.COMMANDS, "doctor"}
    wrong = []
    for words in commands(text):
        program, *rest = words
        plain = [word for word in rest if not word.startswith("-") and "=" not in word]
        script = plain[0] if plain else ""
        if (
            (program == "make" and not made.issuperset(plain))
            or (program.endswith("speechattn") and plain and script not in known)
            or (program.split("/")[-1].startswith("python") and script.endswith(".py") and not (ROOT / script).exists())
        ):
            wrong.append(" ".join(words))
    return wrong


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_python_of_a_document_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / f"{document.stem}.py"
    program.write_text(as_program(document.read_text()))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(program))


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


def test_what_the_readme_says_is_printed_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    shown = re.search(r"describe\([^\n]*\)\)\n```\n\n```text\n(.*?)```", text, flags=re.DOTALL)
    program = tmp_path / "readme.py"
    program.write_text(as_program(text))
    runpy.run_path(str(program))
    assert shown is not None and shown[1] in capsys.readouterr().out


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_to_files_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / link).exists(), link


def test_blocks_are_found_in_order_and_on_their_lines() -> None:
    text = "a\n```python\nx = 1\n```\n```bash\nmake test\n```\n\n```python\ny = x\n```\n"
    assert as_program(text) == "\n\nx = 1\n\n\n\n\n\n\ny = x\n\n"
    assert list(commands(text)) == [["make", "test"]]
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
        ("cd speechattn && make test", True),
        ("python recipes/lost.py --x", False),
        (".venv/bin/python -m pytest", True),
    ],
)
def test_wrong_commands_are_seen(command: str, right: bool) -> None:
    assert (wrong_commands(f"```bash\n{command}\n```\n") == []) is right


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_docstrings_are_true(module: str) -> None:
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in ("numba", "llvmlite"):
            raise
        pytest.skip("numba compiles this module, and is not installed")
    failures, _ = doctest.testmod(imported)
    assert failures == 0, f"{module}: see the captured output"
