"""A hook of mkdocs.yml: pages that lie outside docs/, and links to files that are not pages.

Documents link to files of the repository, as `[dense.py](../speechattn/attention/dense.py)`, so that they work in a
checkout and on the repository's host. On the site a link to a page leads to that page, one to any other file of the
repository to the repository's host. A link to a missing file is left alone: `mkdocs build --strict` names it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "recipes/frame_classifier/README.md": "frame_classifier.md",
    "recipes/utterance_classifier/README.md": "utterance_classifier.md",
    "recipes/ctc/README.md": "ctc_recipe.md",
    "speechattn/models/small-en-phones/README.md": "small_en_phones.md",
}
"""Files outside docs/ that are pages of the site: path in the repository -> path under docs/."""
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that lie outside docs/."""
    from mkdocs.structure.files import File  # mkdocs is not needed by the tests of this file

    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Return the text of a page with its links rewritten for the site."""
    page_uri = page.file.src_uri
    source = next((path for path, uri in PAGES.items() if uri == page_uri), f"docs/{page_uri}")
    text = re.sub(r"^```python needs=\w+$", "```python", markdown, flags=re.MULTILINE)  # for tests/test_readme.py

    def rewritten(link: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(source), link[1]))
        return f"]({site_link(target, page_uri, config.extra['repository']) or link[1]}{link[2] or ''})"

    return LINK.sub(rewritten, text)


def site_link(target: str, page_uri: str, repository: str) -> str | None:
    """Return how the page `page_uri` links to the file `target` of the repository; None if there is no such file."""
    if target.startswith("..") or not (ROOT / target).exists():
        return None
    if (ROOT / target).is_dir():
        return f"{repository}/tree/main/{target}"
    uri = PAGES.get(target, target.removeprefix("docs/"))
    if uri != target:
        return os.path.relpath(uri, os.path.dirname(page_uri) or ".")
    return f"{repository}/blob/main/{target}"
