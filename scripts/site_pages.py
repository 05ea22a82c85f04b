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
    return LINK.sub(lambda link: f"]({site_link(link[1], source, page_uri, config.repo_url)}{link[2] or ''})", text)


def site_link(link: str, source: str, page_uri: str, repo_url: str) -> str:
    """Return where a relative link of the file `source`, shown as the page `page_uri`, leads on the site.

    >>> site_link("../tests/rounding.py", "docs/streaming.md", "streaming.md", "https://host/repo/")
    'https://host/repo/blob/main/tests/rounding.py'
    >>> site_link("docs/memory.md", "README.md", "index.md", "https://host/repo/")
    'memory.md'
    """
    target = os.path.normpath(os.path.join(os.path.dirname(source), link))
    if not (ROOT / target).exists():
        return link
    uri = PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
    if uri is not None and (ROOT / target).is_file():
        return os.path.relpath(uri, os.path.dirname(page_uri) or ".")
    kind = "tree" if (ROOT / target).is_dir() else "blob"
    return f"{repo_url.rstrip('/')}/{kind}/main/{target}"
