"""The pages of the documentation site: every public name has its entry, every entry exists, links lead somewhere."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import speechattn as sa

ROOT = Path(__file__).parents[1]
REFERENCE = sorted((ROOT / "docs" / "reference").glob("*.md"))
ENTRIES = [name for page in REFERENCE for name in re.findall(r"^::: (\S+)$", page.read_text(), flags=re.MULTILINE)]
NEEDS_A_TOOLKIT = ("huggingface", "hub", "espnet", "nemo", "icefall")


CONFIG = SimpleNamespace(extra={"repository": "https://host/repo"})


@pytest.fixture
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "scripts" / "site_pages.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def find(entry: str) -> Any:
    """Return the module, or the object of a module, that an entry of the reference names."""
    try:
        return importlib.import_module(entry)
    except ModuleNotFoundError:
        module, name = entry.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.split(".")[-1] not in NEEDS_A_TOOLKIT])
def test_an_entry_of_the_reference_exists(entry: str) -> None:
    assert find(entry).__doc__


def test_every_public_name_has_an_entry_and_a_link() -> None:
    entries = {entry.split(".")[-1] for entry in ENTRIES}
    index = (ROOT / "docs" / "reference" / "index.md").read_text()
    assert [name for name in sa.__all__ if name not in entries or f"[`sa.{name}`](" not in index] == []


def test_links_of_the_reference_name_an_entry_of_their_page() -> None:
    index = (ROOT / "docs" / "reference" / "index.md").read_text()
    for page, entry in re.findall(r"\]\((\w+\.md)#(\S+?)\)", index):
        assert f"::: {entry}\n" in (ROOT / "docs" / "reference" / page).read_text()


def test_every_page_is_in_the_navigation(hook: ModuleType) -> None:
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    listed = re.findall(r"^ +- (?:[^:\n]+: )?([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(pages | set(hook.PAGES.values()))


@pytest.mark.parametrize(
    ("page", "link", "leads_to"),
    [
        ("index.md", "docs/memory.md", "memory.md"),
        ("index.md", "docs/memory.md#trace", "memory.md#trace"),
        ("index.md", "docs/pictures/phones.png", "pictures/phones.png"),
        ("index.md", "ARCHITECTURE.md", "architecture.md"),
        ("index.md", "recipes/frame_classifier/README.md", "frame_classifier.md"),
        ("memory.md", "../speechattn/context.py", "https://host/repo/blob/main/speechattn/context.py"),
        ("memory.md", "../tests", "https://host/repo/tree/main/tests"),
        ("memory.md", "streaming.md", "streaming.md"),
        ("memory.md", "lost.md", "lost.md"),
        ("memory.md", "../../elsewhere", "../../elsewhere"),
        ("memory.md", "https://www.openslr.org/12", "https://www.openslr.org/12"),
        ("memory.md", "#below", "#below"),
        ("reference/index.md", "../conformance.md", "../conformance.md"),
        ("small_en_phones.md", "../../../README.md", "index.md"),
    ],
)
def test_a_link_of_the_repository_leads_to_the_same_file_from_the_site(
    hook: ModuleType, page: str, link: str, leads_to: str
) -> None:
    shown = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert hook.on_page_markdown(f"see [it]({link}).", shown, CONFIG) == f"see [it]({leads_to})."


def test_a_block_that_needs_a_toolkit_is_an_ordinary_one_on_the_site(hook: ModuleType) -> None:
    shown = SimpleNamespace(file=SimpleNamespace(src_uri="integrations.md"))
    text = hook.on_page_markdown("```python needs=nemo\nx\n```", shown, CONFIG)
    assert text == "```python\nx\n```"
