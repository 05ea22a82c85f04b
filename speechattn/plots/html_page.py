"""A self-contained HTML page of headings, text, tables and figures; nothing about speech.

All text is escaped; no method accepts HTML.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Collection, Sequence
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from speechattn.errors import UserError
from speechattn.plots.html_style import PAGE, STYLE
from speechattn.plots.style import DPI
from speechattn.system.atomic_files import write_bytes


class Report:
    """A page that is built from top to bottom and then written. Each method returns the report, for chained calls.

    Examples:
        >>> report = Report("Digits").heading("Result").table(["encoder", "accuracy"], [["linear", 0.5]])
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self._body: list[str] = []
        self._headings: list[str] = []
        self._pictures: dict[str, bytes] = {}

    def heading(self, text: str) -> Report:
        """Begin a section, which also appears in the list of contents under the title."""
        self._headings.append(text)
        return self._add(f'<h2 id="section-{len(self._headings)}">{escape(text)}</h2>')

    def text(self, paragraph: str) -> Report:
        """Add a paragraph."""
        return self._add(f"<p>{escape(paragraph)}</p>")

    def code(self, text: str) -> Report:
        """Add preformatted text: spaces and line breaks are kept."""
        return self._add(f"<pre>{escape(text)}</pre>")

    def numbers(self, numbers: Sequence[tuple[str, str, str]]) -> Report:
        """Add headline numbers side by side: (number, its name, a remark)."""
        cells = (
            f"<b>{escape(number)}</b><span>{escape(name)}</span><small>{escape(remark)}</small>"
            for number, name, remark in numbers
        )
        boxes = "".join(f'<div class="number">{cell}</div>' for cell in cells)
        return self._add(f'<div class="numbers">{boxes}</div>')

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[object]], right: Collection[int] | None = None
    ) -> Report:
        """Add a table. Numbers are rounded; None and NaN are a dash.

        On a narrow screen each row becomes a block, with the header in front of each cell.

        Args:
            header: titles of the columns.
            rows: cells; text stays as it is.
            right: columns that are aligned to the right; None is those with numbers.

        Raises:
            ValueError: a row has more or fewer cells than the header.
        """
        for row in rows:
            if len(row) != len(header):
                raise ValueError(f"a row of {len(row)} cells under a header of {len(header)}: {list(row)!r}.")
        if right is None:
            right = [i for i in range(len(header)) if any(isinstance(row[i], int | float) for row in rows)]
        classes = [' class="right"' if i in right else "" for i in range(len(header))]
        head = "".join(f"<th{c}>{escape(name)}</th>" for c, name in zip(classes, header, strict=True))
        names = [f' data-name="{escape(name)}"' for name in header]
        body = "".join(
            "<tr>"
            + "".join(f"<td{c}{n}>{escape(_cell(value))}</td>" for c, n, value in zip(classes, names, row, strict=True))
            + "</tr>"
            for row in rows
        )
        return self._add(f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>')

    def figure(self, name: str, figure: Figure, caption: str) -> Report:
        """Draw a figure into the page; `write` also stores it as `pictures/<name>.png`.

        Raises:
            ValueError: the name is taken, or is not made of letters, digits, dots, dashes and underscores.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
            raise ValueError(f"a picture's name becomes a file name: letters, digits, '.', '-' and '_', got {name!r}.")
        if name in self._pictures:
            raise ValueError(f"there already is a picture named {name!r} in this report.")
        buffer = io.BytesIO()
        # Without the version of matplotlib in the file, an upgrade that draws the same writes the same bytes.
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        self._pictures[name] = buffer.getvalue()
        data = base64.b64encode(self._pictures[name]).decode("ascii")
        # 1131 pixels for 13 inches in every figure, so that letters have the same size in all.
        width = figure.get_figwidth()
        image = f'<img width="{87 * width:.0f}" alt="{escape(caption or name)}" src="data:image/png;base64,{data}">'
        note = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        return self._add(f"<figure>{image}{note}</figure>")

    def write(self, directory: str | Path, name: str = "report.html") -> Path:
        """Write the page and `pictures/<name>.png` into `directory`; return the path of the page.

        Each file is written to a temporary one and renamed, the page last, so that no file is ever half written.

        Raises:
            UserError: `directory` is a file.
        """
        directory = Path(directory)
        if directory.exists() and not directory.is_dir():
            raise UserError(f"{directory} is a file: the report needs a directory to write {name} into.")
        folder = directory / "pictures"
        folder.mkdir(parents=True, exist_ok=True)
        for picture, data in self._pictures.items():
            write_bytes(folder / f"{picture}.png", data)
        page = directory / name
        write_bytes(page, self._html().encode("utf-8", errors="replace"))
        return page

    def _html(self) -> str:
        """Return the whole page."""
        links = (f'<a href="#section-{i}">{escape(text)}</a>' for i, text in enumerate(self._headings, start=1))
        contents = f"<nav>{''.join(links)}</nav>" if len(self._headings) > 1 else ""
        return PAGE.format(title=escape(self.title), style=STYLE, contents=contents, body="\n".join(self._body))

    def _add(self, piece: str) -> Report:
        self._body.append(piece)
        return self


def _cell(value: object) -> str:
    """Format a cell of a table: 0.7012 is 0.701, 51234.5 is 51,234, None and NaN are a dash."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
