"""A hypothesis under its reference, label by label, errors in red: the alignment that an error rate counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from speechattn.data.labels.families import family
from speechattn.plots.alignment import WIDTH
from speechattn.plots.style import (
    ALARM,
    GREY,
    INK,
    PALE,
    STYLE,
    family_legend,
    fill,
    heading,
    new_figure,
    say_empty,
)

GAP = "\u2013"
"""What is drawn where one side has no label."""
LINE_HEIGHT = 0.62
"""Height of a reference with its hypothesis, in inches."""


@matplotlib.rc_context(STYLE)
def edit_rows(
    pairs: Sequence[tuple[str, str]], title: str = "", note: str = "", columns: int = 44, size: float = 8.5
) -> Figure:
    """Draw pairs (label of the reference, label of the hypothesis) as columns, wrapped into lines.

    "" is a gap: a deletion if the hypothesis has it, an insertion if the reference has it. Phones have the colour of
    their family, other labels none. Lines are `columns` pairs long, letters `size` points high.
    """
    lines = max(1, math.ceil(len(pairs) / columns))
    figure = new_figure(WIDTH, LINE_HEIGHT * lines + 1.1)
    axes = figure.subplots()
    axes.set(xlim=(-2.6, columns), ylim=(lines * 2.6 - 0.4, -0.2))
    axes.axis("off")
    for start in range(0, len(pairs), columns):
        top = start // columns * 2.6
        for row, name in enumerate(("reference", "model")):
            axes.text(-0.25, top + row + 0.5, name, ha="right", va="center", fontsize=8.5, color=GREY)
        for place, (reference, hypothesis) in enumerate(pairs[start : start + columns]):
            wrong = reference != hypothesis
            _cell(axes, place, top, reference or GAP, False, size)
            _cell(axes, place, top + 1, hypothesis or GAP, wrong, size)
    if not pairs:
        say_empty(axes, "no labels")
    heading(figure, title or "Reference and hypothesis", note)
    family_legend(figure, [label for pair in pairs for label in pair if label], [Patch(facecolor=ALARM, label="wrong")])
    return figure


def _cell(axes: Axes, x: float, y: float, label: str, wrong: bool, size: float) -> None:
    """Draw one label in its box."""
    colour = ALARM if wrong else PALE if family(label) == "other" else fill(label)
    axes.add_patch(Rectangle((x + 0.03, y + 0.04), 0.94, 0.92, facecolor=colour, edgecolor="none"))
    ink = "white" if wrong else GREY if label == GAP else INK
    axes.text(x + 0.5, y + 0.52, label, ha="center", va="center", fontsize=size, color=ink)
