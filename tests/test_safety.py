"""What must not stand in this repository: code that runs data, paths of one machine, addresses of registries.

Loading a model, a state or a config never runs code: that promise is kept by not having the functions that could
break it, here or in tests and scripts. The syntax tree is read, so a comment may speak of them.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
IGNORED = {".git", ".cache", ".hypothesis", "__pycache__", "build", "dist", "runs", "shared"}

CODE_IN_DATA = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BANNED_CALLS = {
    "eval": "runs text as code",
    "exec": "runs text as code",
    "torch.load": "can run code; use safetensors through training/checkpoint.py or models/speech_model.py",
    "torch.save": "writes a pickle; use safetensors through training/checkpoint.py or models/speech_model.py",
    "torch.jit.load": "can run code",
    "torch.hub.load": "runs code of others",
    "yaml.load": "can run code; use JSON",
    "yaml.unsafe_load": "runs code",
    "yaml.full_load": "can run code; use JSON",
}
MACHINE_PATH = re.compile(r"(?<![\w.~})])/(?:work|tmp|root|mnt|media|home/\w+|Users/\w+)(?![\w-])")
REGISTRY = re.compile(
    r"\b(?:pypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.(?:org|com))\b|index[-]url"
    r"|://\d+\.\d+\.\d+\.\d+|://[\w.-]+:\d+"
)


def tracked() -> Iterator[Path]:
    """The files of the repository as a walk, for a checkout without git: what .gitignore names is left out."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in IGNORED and not name.startswith(".venv") and not name.endswith(("_cache", ".egg-info"))
        ]
        yield from (Path(folder) / name for name in files if name not in IGNORED)  # .git is a file in a worktree


def names(tree: ast.AST) -> dict[str, str]:
    """What a name means after the imports of a file: {"np": "numpy", "load": "torch.load"}."""
    meaning = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                meaning[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                meaning[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return meaning


def dotted(node: ast.expr, meaning: dict[str, str]) -> str:
    """`torch.load` for any spelling of it; "" for what is no plain name."""
    if isinstance(node, ast.Name):
        return meaning.get(node.id, node.id)
    if isinstance(node, ast.Attribute) and (owner := dotted(node.value, meaning)):
        return f"{owner}.{node.attr}"
    return ""


def unsafe(source: str) -> list[str]:
    """`line: what is wrong` for every unsafe construct."""
    tree = ast.parse(source)
    meaning = names(tree)
    wrong = []
    for node in ast.walk(tree):
        message = ""
        if isinstance(node, ast.Import):
            message = next((f"imports {a.name}" for a in node.names if a.name.split(".")[0] in CODE_IN_DATA), "")
        elif isinstance(node, ast.ImportFrom):
            message = f"imports {node.module}" if (node.module or "").split(".")[0] in CODE_IN_DATA else ""
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Load):
            name = dotted(node, meaning)
            message = f"{name} {BANNED_CALLS[name]}" if name in BANNED_CALLS else ""
        elif isinstance(node, ast.Call):
            message = unsafe_arguments(node)
        if message and isinstance(node, (ast.expr, ast.stmt)):
            wrong.append(f"{node.lineno}: {message}")
    return wrong


def unsafe_arguments(call: ast.Call) -> str:
    """What is wrong with the arguments of a call, or nothing."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    if "allow_pickle" in given and ast.unparse(given["allow_pickle"]) != "False":
        return "allow_pickle can run code"
    if method == "extractall" and ("filter" not in given or ast.unparse(given["filter"]) != "'data'"):
        return 'extractall without filter="data" writes wherever the archive says'
    return ""


def test_nothing_here_runs_data_as_code() -> None:
    found = [f"{path.relative_to(ROOT)}:{message}" for path in python_files() for message in unsafe(path.read_text())]
    assert found == []


def python_files() -> list[Path]:
    files = [path for path in tracked() if path.suffix == ".py"]
    assert ROOT / "speechattn" / "training" / "checkpoint.py" in files
    return files


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import pickle as p",
        "from joblib import load",
        "def f():\n    import marshal",
        "import torch\ntorch.load('x')",
        "import torch as t\nt.save({}, 'x')",
        "from torch import load as read\nread('x')",
        "import torch\nread = torch.load",
        "eval('1')",
        "exec('1')",
        "import yaml\nyaml.load(text)",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=trust)",
        "archive.extractall('x')",
        "archive.extractall('x', filter='tar')",
    ],
)
def test_what_is_planted_is_seen(line: str) -> None:
    assert len(unsafe(line)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "model.eval()",
        "import numpy as np\nnp.load('x', allow_pickle=False)",
        "archive.extractall('x', filter='data')",
        "import json\njson.load(file)",
        "'torch.load is not used here'  # nor eval('x')",
        "from speechattn.models.speech_model import load\nload('x')",
        "import yaml\nyaml.safe_load(text)",
    ],
)
def test_what_is_safe_passes(line: str) -> None:
    assert unsafe(line) == []


def spoken_of_this_machine(text: str) -> list[str]:
    return [
        f"{number}: {found[0]}"
        for number, line in enumerate(text.splitlines(), 1)
        for found in (MACHINE_PATH.search(line), REGISTRY.search(line))
        if found
    ]


def test_no_text_names_a_path_of_a_machine_or_a_registry() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found += [f"{path.relative_to(ROOT)}:{message}" for message in spoken_of_this_machine(text)]
    assert found == []


@pytest.mark.parametrize(
    "parts",
    [
        ("/", "tmp/x"),
        ("open('/", "root/.cache')"),
        ("--data /", "work/data"),
        ("/", "home/ada/data"),
        ("https://pypi", ".org/simple"),
        ("--extra-index", "-url x"),
        ("http://10.0.", "0.7/simple"),
        ("http://mirror", ":8080/simple"),
    ],
)
def test_planted_places_are_seen(parts: tuple[str, str]) -> None:
    assert len(spoken_of_this_machine("".join(parts))) == 1


@pytest.mark.parametrize("text", ["runs/tmp/x", "frame/work", "/dev/null", "https://www.openslr.org/12", "./tmp/x"])
def test_other_places_pass(text: str) -> None:
    assert spoken_of_this_machine(text) == []
