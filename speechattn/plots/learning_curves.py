"""Learning curves: loss and accuracy over steps, from the records of a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from speechattn.plots.style import LINES, STYLE, heading, new_figure, say_empty


@matplotlib.rc_context(STYLE)
def curves(
    records: Sequence[Mapping[str, Any]],
    title: str = "Learning curves",
    score: str = "Frame accuracy",
    errors: bool = False,
) -> Figure:
    """Draw loss and accuracy over steps from the records of `metrics.jsonl`, one colour for each encoder.

    `score` is the title of the accuracies; with `errors`, 1 - accuracy is drawn, an error rate.

    Training is thin and smoothed over a twentieth of the run, validation thick with a dot at each measurement. Of a
    step that was recorded twice (a resumed run) the last record is drawn; values that are not finite leave a gap.
    """
    figure = new_figure(13.0, 4.6)
    panels = figure.subplots(1, 2)
    encoders = list(dict.fromkeys(str(record.get("encoder", "model")) for record in records))
    for axes, key in zip(panels, ("loss", "accuracy"), strict=True):
        drawn = [
            _draw_encoder(axes, records, name, key, i, errors and key == "accuracy") for i, name in enumerate(encoders)
        ]
        axes.set_title("Loss, nats" if key == "loss" else score, fontsize=10.5, fontweight="normal")
        if not any(drawn):
            say_empty(axes, "no records yet")
            continue
        axes.grid(axis="y")
        axes.set_xlabel("step")
        axes.set_xlim(left=0)
        axes.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1.0, 1.02), handlelength=1.4)
    heading(figure, title, "thick with dots: validation, its last value in the legend     thin: training, smoothed")
    return figure


def has_curves(records: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether `curves` would draw a line; a run with one record has only dots."""
    series = Counter((record.get("encoder"), record.get("kind")) for record in records if "loss" in record)
    return any(count > 1 for (_, kind), count in series.items() if kind in ("train", "valid"))


def _draw_encoder(
    axes: Axes, records: Sequence[Mapping[str, Any]], name: str, key: str, place: int, errors: bool
) -> bool:
    """Draw training and validation of one encoder, earlier ones on top; return False if it has no records."""
    colour, above = LINES[place % len(LINES)], 3 - place / 100
    own = [record for record in records if str(record.get("encoder", "model")) == name]
    train, valid = (
        _series([record for record in own if record.get("kind") == kind], key, errors) for kind in ("train", "valid")
    )
    if len(train[0]):
        label = None if len(valid[0]) else f"{name}, training"
        axes.plot(train[0], _smooth(train[1]), color=colour, linewidth=1.0, alpha=0.6, zorder=above - 0.5, label=label)
    if len(valid[0]):
        label = f"{name}  {valid[1][-1]:.3f}"
        axes.plot(*valid, color=colour, linewidth=2.2, marker="o", markersize=4, zorder=above, label=label)
    return bool(len(train[0]) or len(valid[0]))


def _series(
    records: Sequence[Mapping[str, Any]], key: str, errors: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return steps and finite values in order of step, the last record of each step."""
    found = [record for record in records if "step" in record and record.get(key) is not None]  # JSON's NaN is null
    points = {float(record["step"]): float(record[key]) for record in found}
    kept = sorted((step, value) for step, value in points.items() if math.isfinite(value))
    array = np.array(kept, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], 1 - array[:, 1] if errors else array[:, 1]


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the moving mean over about a twentieth of the points, over fewer at both ends."""
    half = len(values) // 40
    sums = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    start, stop = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return np.asarray((sums[stop] - sums[start]) / (stop - start))
