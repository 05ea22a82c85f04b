"""An utterance over seconds: its log-mel, and under it its reference labels and those that a model predicted.

Frames are placed by `Framing` and labels by their seconds, so that audio, labels and predictions of any source share
one axis. A segment is anything with `start`, `stop` (seconds) and `label`.
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
"""Width of a figure with a time axis, in inches."""
PHONE_SIZE = 7.5
"""Font size of a label in a strip, in points."""


@matplotlib.rc_context(STYLE)
def phone_strips(
    log_mel: ArrayLike,
    framing: Framing,
    reference: Sequence[Labelled],
    predicted: Sequence[Labelled],
    title: str = "",
    flavor: str = "kaldi",
) -> Figure:
    """Draw the log-mel over seconds with reference and predicted phones below it, wrapped into lines.

    Phones are coloured by family and named where the name fits. A bar marks where the prediction is wrong; the heading
    gives the share of the labelled time that is right. `log_mel` is [T, F]; `flavor` ("kaldi" or "librosa") is its mel
    scale, for the Hz on the axis.
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
    colour_range = mel_range(mel)
    for line in range(lines):
        above, below = grid[2 * line], grid[2 * line + 1]
        draw_mel(above, mel, edges, (line * span, (line + 1) * span), colour_range, framing, flavor)
        _draw_strips(below, reference, predicted, wrong, (line * span, (line + 1) * span))
        for axes in (above, below):
            axes.set_xlim(line * span, (line + 1) * span)
    grid[-1].set_xlabel("seconds")
    heading(figure, title or "Phones", _accuracy_note(reference, predicted, wrong))
    phones = [segment.label for segment in (*reference, *predicted)]
    family_legend(figure, phones, [Patch(facecolor=ALARM, label="wrong")])
    return figure


def _accuracy_note(
    reference: Sequence[Labelled], predicted: Sequence[Labelled], wrong: Sequence[tuple[float, float]]
) -> str:
    """Return the share of the time labelled by both that is right, as text."""
    labelled = sum(stop - start for start, stop, _, _ in overlaps(reference, predicted))
    if not labelled:
        return "nothing to compare: reference and prediction do not overlap"
    right = 1 - sum(stop - start for start, stop in wrong) / labelled
    return f"{right:.1%} of {labelled:.1f} s labelled right"


def mel_range(mel: NDArray[np.float64]) -> tuple[float, float]:
    """Return the values drawn darkest and brightest, without the extreme percentiles, which would flatten the rest."""
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
    """Draw the log-mel inside `window` (seconds), with mel bins evenly spaced and labelled in kHz."""
    # Imported here because both import torch, which figures of contexts do not need.
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
    """Draw two lanes of phones and a thin lane of errors under them, inside `window` (seconds)."""
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
    """Draw a lane of coloured boxes of height 1 inside `window` (seconds), each with its label where that fits."""
    # A capital is about 0.7 times the font size wide, and the axes take 0.93 of the figure.
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
    """Draw a filled box from `start` to `stop` seconds."""
    axes.add_patch(Rectangle((start, bottom), stop - start, height, facecolor=colour, edgecolor=edge, linewidth=0.7))
