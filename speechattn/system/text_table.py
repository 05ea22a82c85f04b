"""Rows of text as lines of aligned columns, for terminals. The only formatter of text tables. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(rows: Sequence[Sequence[str]], align: str = "<", indent: int = 0) -> list[str]:
    r"""Return one line per row, columns two spaces apart, without trailing spaces.

    Args:
        rows: cells as text, a header first if there is one. A row may be shorter than the others.
        align: "<" (left) or ">" (right) for each column; the last one holds for all columns after it.
        indent: spaces in front of each line.

    Examples:
        >>> print("\n".join(text_table([("encoder", "MB", "note"), ("full", "1,200", "out of memory")], "<><")))
        encoder     MB  note
        full     1,200  out of memory
    """
    widths = [0] * max(map(len, rows), default=0)
    for row in rows:
        widths = [max(width, len(row[i]) if i < len(row) else 0) for i, width in enumerate(widths)]
    sides = align.ljust(len(widths), align[-1])
    return [
        " " * indent
        + "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=False)).rstrip()
        for row in rows
    ]
