"""Scores of a run: confusion matrix, and recall of each class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from speechattn.data.labels.families import family
from speechattn.plots.style import (
    GREY,
    HEAT,
    INK,
    PALE,
    STYLE,
    as_array,
    by_family,
    family_legend,
    fill,
    heading,
    most_frequent,
    new_figure,
    phone_ticks,
    say_empty,
)


@matplotlib.rc_context(STYLE)
def confusion(matrix: ArrayLike, classes: Sequence[str], title: str = "Confusion", unit: str = "frames") -> Figure:
    """Draw a confusion matrix: rows are the reference, in shares of its frames, columns the prediction.

    `unit` says what is counted, if it is not frames.

    `matrix` is counts [C, C]. Classes are sorted by family, with lines between families. Classes that neither occur nor
    are predicted are left out, and of more than 48 the less frequent ones. A row without frames is grey. Brightness is
    the square root of the share, which is written out where there is room.
    """
    counts = as_array(matrix, "C, C")
    if counts.shape != (len(classes), len(classes)):
        raise ValueError(f"a confusion matrix of {len(classes)} classes is square, got {list(counts.shape)}.")
    seen = [index for index in range(len(classes)) if counts[index].sum() + counts[:, index].sum() > 0]
    kept, left_out = most_frequent(counts.sum(1)[seen])
    seen = [seen[index] for index in kept]
    order = [seen[index] for index in by_family([classes[index] for index in seen])]
    names = [classes[index] for index in order]
    size = max(4.4, 0.21 * len(names) + 1.6) + 0.06 * max(map(len, names), default=0)
    figure = new_figure(size + 0.9, size + 0.6)
    axes = figure.subplots()
    if not order:
        say_empty(axes, f"no {unit}")
        return figure
    rows, totals = counts[np.ix_(order, order)], counts[order].sum(1, keepdims=True)
    shares = np.divide(rows, totals, out=np.full_like(rows, np.nan), where=totals > 0)
    heat = axes.imshow(
        shares,
        cmap=matplotlib.colormaps[HEAT].with_extremes(bad=PALE),
        norm=PowerNorm(0.5, vmin=0, vmax=1),
        interpolation="nearest",
    )
    for at in range(1, len(names)):
        if family(names[at]) != family(names[at - 1]):
            axes.axhline(at - 0.5, color=GREY, linewidth=0.7)
            axes.axvline(at - 0.5, color=GREY, linewidth=0.7)
    if len(names) <= 12:
        digits, size = (3, 10) if len(names) <= 4 else (2, 7)
        for (row, column), share in np.ndenumerate(np.nan_to_num(shares)):
            colour = INK if share > 0.4 else "white"
            axes.text(column, row, f"{share:.{digits}f}", ha="center", va="center", color=colour, fontsize=size)
    phone_ticks(axes.xaxis, names)
    axes.tick_params(axis="x", labelrotation=90)
    phone_ticks(axes.yaxis, names)
    axes.set(xlabel="predicted", ylabel="reference")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(heat, ax=axes, shrink=0.7, aspect=35, pad=0.015, label=f"share of the reference {unit}")
    bar.outline.set_visible(False)
    family_legend(figure, names)
    right, total = float(np.trace(counts)), float(counts.sum())
    note = f"{right / total:.1%} of {total:,.0f} {unit} on the diagonal"
    heading(figure, title, "     ".join(filter(None, (note, left_out))))
    if max(map(len, names)) > 4:
        figure.draw_without_rendering()  # beside long names the layout needs a second pass
    return figure


@matplotlib.rc_context(STYLE)
def per_class_bars(
    per_class: Mapping[str, tuple[float, int]], title: str = "Accuracy of each class", unit: str = "frames"
) -> Figure:
    """Draw the recall of each class as a bar in the colour of its family, best first, with its frames at the foot.

    `per_class` is what `FrameScores.per_class` returns. Classes without frames are left out, and of more than 48 the
    less frequent ones.
    """
    seen = {name: value for name, value in per_class.items() if value[1] and math.isfinite(value[0])}
    kept, left_out = most_frequent([count for _, count in seen.values()])
    frequent = [list(seen)[index] for index in kept]
    best_first = sorted(frequent, key=lambda name: -seen[name][0])
    names = [best_first[index] for index in by_family(best_first)]
    figure = new_figure(min(13.0, max(6.0, 0.32 * len(names) + 1.5)), 4.2)
    axes = figure.subplots()
    if not names:
        say_empty(axes, f"no {unit}")
        return figure
    recalls = [seen[name][0] for name in names]
    axes.bar(range(len(names)), recalls, width=0.82, color=[fill(name) for name in names])
    for at, (name, recall) in enumerate(zip(names, recalls, strict=True)):
        above = max(recall, 0.035) + 0.012  # and above the number at the foot
        axes.text(at, above, f"{100 * recall:.0f}", ha="center", va="bottom", fontsize=7.5, color=INK)
        axes.text(at, 0.012, short_count(seen[name][1]), ha="center", va="bottom", fontsize=6.2, color=INK)
    phone_ticks(axes.xaxis, names, size=8)
    if max(map(len, names)) > 4 and len(names) > 8:
        axes.tick_params(axis="x", labelrotation=90)
    axes.set(xlim=(-0.6, len(names) - 0.4), ylim=(0, 1.05), ylabel="recall")
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.grid(axis="y")
    family_legend(figure, names)
    note = f"top: recall in percent     foot: {unit} of the class"
    heading(figure, title, "     ".join(filter(None, (note, left_out))))
    return figure


def short_count(count: int) -> str:
    """Return a count in at most four characters: 873, 1.2k, 45k, 3.1M."""
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}" if count < 10 * size else f"{count / size:.0f}{letter}"
    return str(count)
