"""An utterance in seconds: its log-mel, and under it the phones it has and the phones a model heard.

Frames are placed by `Framing` and phones by their seconds, so that audio, labels and predictions of different
origin meet on one axis. A segment is anything with `start`, `stop` (seconds) and `label`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import ArrayLike, NDArray

from speechattn.framing import Framing
from speechattn.plots.disagreement import Labelled, disagreements, overlaps
from speechattn.plots.style import (
    ALARM,
    HEAT,
    INK,
    STYLE,
    as_array,
    family_legend,
    fill,
    frame_edges,
    heading,
    new_figure,
    say_empty,
)

WIDTH = 13.0
"""Inches of a picture with a time axis."""
PHONE_SIZE = 7.5
"""Points of a phone's name in a strip."""


@matplotlib.rc_context(STYLE)
def phone_strips(
    log_mel: ArrayLike,
    framing: Framing,
    reference: Sequence[Labelled],
    predicted: Sequence[Labelled],
    title: str = "",
    flavor: str = "kaldi",
) -> Figure:
    """Log-mel over seconds with the reference and the predicted phones below, wrapped into lines like a score.

    Phones are coloured by family and named where the name fits; what the prediction gets wrong is struck by a
    bar below it, and the heading says how much of the labelled time is right. `log_mel` is [T, F]; `flavor`
    ("kaldi" or "librosa") says which mel scale writes the Hz on its axis.
    """
    mel = as_array(log_mel, "T, F")
    edges = frame_edges(framing, len(mel))
    end = max([float(edges[-1]), *(segment.stop_s for segment in (*reference, *predicted))])
    # Lines of about 4 s keep 40 ms phones readable; past a minute the lines grow longer instead of more.
    lines = min(max(1, math.ceil(end / 4.2)), 15)
    span = max(end / lines, 1.0)
    figure = new_figure(WIDTH, (2.2 if lines > 1 else 2.6) * lines + 1.25)
    grid = figure.subplots(2 * lines, 1, squeeze=False, height_ratios=[1.5 if lines > 1 else 1.9, 0.75] * lines)[:, 0]
    wrong = disagreements(reference, predicted)
    span_of_levels = levels(mel)
    for line in range(lines):
        above, below = grid[2 * line], grid[2 * line + 1]
        draw_mel(above, mel, edges, (line * span, (line + 1) * span), span_of_levels, framing, flavor)
        _draw_strips(below, reference, predicted, wrong, (line * span, (line + 1) * span))
        for axes in (above, below):
            axes.set_xlim(line * span, (line + 1) * span)
    grid[-1].set_xlabel("seconds")
    heading(figure, title or "Phones", _verdict(reference, predicted, wrong))
    phones = [segment.label for segment in (*reference, *predicted)]
    family_legend(figure, phones, [Patch(facecolor=ALARM, label="wrong")])
    return figure


def _verdict(reference: Sequence[Labelled], predicted: Sequence[Labelled], wrong: Sequence[tuple[float, float]]) -> str:
    """How much of the time that both label is labelled right, in words."""
    judged = sum(stop - start for start, stop, _, _ in overlaps(reference, predicted))
    if not judged:
        return "nothing to compare: reference and prediction do not overlap"
    right = 1 - sum(stop - start for start, stop in wrong) / judged
    return f"{right:.1%} of {judged:.1f} s labelled right"


def levels(mel: NDArray[np.float64]) -> tuple[float, float]:
    """Darkest and brightest value drawn: the quietest and loudest hundredths would flatten the rest."""
    finite = mel[np.isfinite(mel)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, [2, 99.8])
    return float(low), float(high) if high > low else float(low) + 1.0


def draw_mel(
    axes: Axes,
    mel: NDArray[np.float64],
    edges: NDArray[np.float64],
    window: tuple[float, float],
    extremes: tuple[float, float],
    framing: Framing,
    flavor: str,
) -> None:
    """The part of the log-mel inside `window` (seconds), mel bins evenly spaced and named in Hz."""
    # Here, for both import torch, which pictures of contexts do without.
    from speechattn.frontend.mel import band_centres_hz
    from speechattn.frontend.spectrum import LOW_HZ

    first, last = (int(i) for i in np.searchsorted(edges, window))
    first, last = max(first - 1, 0), min(last, len(mel))
    num_mels = mel.shape[1]
    axes.set_xticks([])
    if last <= first or not num_mels:
        say_empty(axes, "no frames")
        return
    axes.pcolormesh(
        edges[first : last + 1],
        np.arange(num_mels + 1) - 0.5,
        mel[first:last].T,
        cmap=HEAT,
        vmin=extremes[0],
        vmax=extremes[1],
        rasterized=True,
    )
    hertz = np.array([250, 500, 1000, 2000, 4000])
    centres = band_centres_hz(flavor, num_mels, LOW_HZ[flavor], framing.sample_rate / 2).numpy()
    hertz = hertz[(hertz >= centres[0]) & (hertz <= centres[-1])]
    axes.set_yticks(np.interp(hertz, centres, np.arange(num_mels)), [f"{value / 1000:g}" for value in hertz])
    axes.tick_params(axis="y", labelsize=8, length=2)
    axes.set(ylabel="kHz", xlabel="")
    axes.spines[:].set_visible(False)


def _draw_strips(
    axes: Axes,
    reference: Sequence[Labelled],
    predicted: Sequence[Labelled],
    wrong: Sequence[tuple[float, float]],
    window: tuple[float, float],
) -> None:
    """Two lanes of phones and under them a thin lane of mistakes: the part inside `window` (seconds)."""
    for bottom, segments in ((1.2, reference), (0.15, predicted)):
        draw_lane(axes, segments, window, bottom)
    for start, stop in wrong:
        if start < window[1] and stop > window[0]:
            _draw_box(axes, max(start, window[0]), min(stop, window[1]), -0.08, 0.2, ALARM, edge="none")
    axes.set(ylim=(-0.1, 2.25), yticks=[1.7, 0.65], yticklabels=["reference", "predicted"])
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
    axes.tick_params(axis="x", length=2, labelsize=8)
    axes.spines[:].set_visible(False)


def draw_lane(axes: Axes, segments: Sequence[Labelled], window: tuple[float, float], bottom: float) -> None:
    """A lane of coloured boxes of height 1, each with its label where that fits: the part inside `window` (seconds)."""
    # A capital is about 0.7 of the font's size wide, and the axes are 0.93 of the picture.
    letter = 0.7 * PHONE_SIZE / 72 * (window[1] - window[0]) / (0.93 * WIDTH)
    for segment in segments:
        start, stop = max(segment.start_s, window[0]), min(segment.stop_s, window[1])
        if start >= stop:
            continue
        _draw_box(axes, start, stop, bottom, 1.0, fill(segment.label), edge="white")
        if stop - start > letter * len(segment.label):
            middle = (start + stop) / 2
            axes.text(middle, bottom + 0.47, segment.label, ha="center", va="center", fontsize=PHONE_SIZE)


def _draw_box(axes: Axes, start: float, stop: float, bottom: float, height: float, colour: str, edge: str) -> None:
    """A filled box from `start` to `stop` seconds."""
    axes.add_patch(Rectangle((start, bottom), stop - start, height, facecolor=colour, edgecolor=edge, linewidth=0.7))
