"""Where two runs confuse classes differently: one confusion matrix minus another, in shares of the reference."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from speechattn.data.labels.families import family
from speechattn.plots.style import (
    GREY,
    STYLE,
    as_array,
    by_family,
    family_legend,
    heading,
    most_frequent,
    new_figure,
    phone_ticks,
    say_empty,
)


@matplotlib.rc_context(STYLE)
def confusion_difference(
    first: ArrayLike, second: ArrayLike, classes: Sequence[str], names: tuple[str, str], title: str = ""
) -> Figure:
    """Draw the shares of the second confusion matrix minus those of the first; both are counts [C, C].

    Rows are the reference and columns the prediction. Red cells are more frequent in the second run, blue ones in the
    first: on the diagonal red is better, elsewhere it is worse. Classes are those of `confusion`, in its order.
    """
    one, two = as_array(first, "C, C"), as_array(second, "C, C")
    if not one.shape == two.shape == (len(classes), len(classes)):
        raise ValueError(
            f"confusion matrices of {len(classes)} classes are square, got {list(one.shape)}, {list(two.shape)}."
        )
    seen = [index for index in range(len(classes)) if one[index].sum() and two[index].sum()]
    kept, left_out = most_frequent(one.sum(1)[seen])
    seen = [seen[index] for index in kept]
    order = [seen[index] for index in by_family([classes[index] for index in seen])]
    labels = [classes[index] for index in order]
    size = max(4.8, 0.21 * len(labels) + 1.6) + 0.06 * max(map(len, labels), default=0)
    figure = new_figure(size + 0.9, size + 0.6)
    axes = figure.subplots()
    heading(figure, title or f"{names[1]} minus {names[0]}", "     ".join(filter(None, (_note(names), left_out))))
    if not order:
        say_empty(axes, "no frames")
        return figure
    points = 100 * (_shares(two) - _shares(one))[np.ix_(order, order)]
    limit = max(2.0, float(np.percentile(np.abs(points), 99.5)))
    heat = axes.imshow(points, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    for at in range(1, len(labels)):
        if family(labels[at]) != family(labels[at - 1]):
            axes.axhline(at - 0.5, color=GREY, linewidth=0.7)
            axes.axvline(at - 0.5, color=GREY, linewidth=0.7)
    phone_ticks(axes.xaxis, labels)
    axes.tick_params(axis="x", labelrotation=90)
    phone_ticks(axes.yaxis, labels)
    axes.set(xlabel="predicted", ylabel="reference")
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(
        heat, ax=axes, shrink=0.7, aspect=35, pad=0.015, extend="both", label="points of the reference frames"
    )
    bar.outline.set_visible(False)
    family_legend(figure, labels)
    return figure


def _note(names: tuple[str, str]) -> str:
    return f"red: more often in {names[1]}     blue: more often in {names[0]}"


def _shares(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row of counts in shares of its sum; a row without counts is 0."""
    totals = counts.sum(1, keepdims=True)
    return np.asarray(np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0))
