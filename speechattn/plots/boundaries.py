"""An alignment over seconds: words, the log-mel with a line at each boundary of phones, and the phones below it.

A reference, if there is one, is drawn below in a lane of its own, and its boundaries as lines in another colour.
alignment.py compares phones of a reference with predictions instead, and marks errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from speechattn.framing import Framing
from speechattn.plots.alignment import WIDTH, draw_lane, draw_mel, mel_range
from speechattn.plots.disagreement import Labelled
from speechattn.plots.style import GREY, INK, OUTLINE, STYLE, as_array, frame_edges, heading, new_figure

LINE_S, MAX_LINES = 2.8, 5
"""Seconds of a line, in which the name of a phone of 40 ms fits, and most lines of a picture."""
WORD_SIZES = (10.0, 6.5)
"""Largest and smallest font size of a word, in points; a word without room for the smallest has no label."""
_LANE_INCHES, _MEL_INCHES, _WORD_INCHES = 0.27, 1.35, 0.24
_AXES_SHARE = 0.93  # of the figure's width


@matplotlib.rc_context(STYLE)
def phone_boundaries(
    log_mel: ArrayLike,
    framing: Framing,
    phones: Sequence[Labelled],
    words: Sequence[Labelled],
    reference: Sequence[Labelled] = (),
    title: str = "",
    flavor: str = "kaldi",
) -> Figure:
    """Draw the log-mel [T, F] with words above it, and phones and their boundaries, wrapped into lines of 2.8 s.

    White lines are boundaries of `phones`, blue ones those of `reference`. Of a long recording the first 14 s are
    drawn, and the heading says so. `flavor` ("kaldi" or "librosa") is the mel scale, for the Hz on the axis.
    """
    mel = as_array(log_mel, "T, F")
    edges = frame_edges(framing, len(mel))
    end = max([float(edges[-1]), *(segment.stop_s for segment in (*phones, *reference))])
    shown = min(end, LINE_S * MAX_LINES)
    lines = max(1, math.ceil(shown / LINE_S - 0.05))
    span = max(shown / lines, 1.0)
    lanes = 2 if reference else 1
    heights = [_WORD_INCHES, _MEL_INCHES, _LANE_INCHES * lanes]
    figure = new_figure(WIDTH, (sum(heights) + 0.22) * lines + 1.0)
    grid = figure.subplots(3 * lines, 1, squeeze=False, height_ratios=heights * lines)[:, 0]
    extremes = mel_range(mel)
    for line in range(lines):
        window = (line * span, (line + 1) * span)
        above, middle, below = grid[3 * line : 3 * line + 3]
        _draw_words(above, words, window)
        draw_mel(middle, mel, edges, window, extremes, framing, flavor)
        _draw_boundaries(middle, phones, reference, mel.shape[1])
        _draw_lanes(below, phones, reference, window)
        for axes in (above, middle, below):
            axes.set_xlim(*window)
    grid[-1].set_xlabel("seconds")
    heading(figure, title or "Phones", f"the first {shown:g} of {round(end, 1):g} s" if end > shown + 0.05 else "")
    if reference:
        handles = [
            Line2D([], [], color=GREY, linewidth=0.8, label="boundary of the alignment (white)"),
            Line2D([], [], color=OUTLINE, linewidth=2, label="boundary of the reference"),
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=9, handlelength=1.4)
    return figure


def _draw_words(axes: Axes, words: Sequence[Labelled], window: tuple[float, float]) -> None:
    """Draw words in the size in which they fit between their boundaries, which are short lines."""
    points_per_s = 72 * _AXES_SHARE * WIDTH / (window[1] - window[0])
    for word in words:
        if word.stop_s <= window[0] or word.start_s >= window[1]:
            continue
        start, stop = max(word.start_s, window[0]), min(word.stop_s, window[1])
        size = min(WORD_SIZES[0], (stop - start) * points_per_s / (0.62 * len(word.label)))
        if size >= WORD_SIZES[1]:
            axes.text((start + stop) / 2, 0.45, word.label, ha="center", va="center", fontsize=size, color=INK)
        for edge in (word.start_s, word.stop_s):
            axes.plot([edge, edge], [0.0, 1.0], color=GREY, linewidth=0.8)
    axes.set(ylim=(0, 1), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _draw_boundaries(axes: Axes, phones: Sequence[Labelled], reference: Sequence[Labelled], num_mels: int) -> None:
    """Draw a line at each start of a phone: over all of the height, and, of the reference, over its lower third."""
    top = num_mels - 0.5
    starts = np.array([segment.start_s for segment in phones])
    axes.vlines(starts, -0.5, top, color="white", linewidth=0.8, alpha=0.85)
    if reference:
        axes.vlines([segment.start_s for segment in reference], -0.5, top / 3, color=OUTLINE, linewidth=1.8)


def _draw_lanes(
    axes: Axes, phones: Sequence[Labelled], reference: Sequence[Labelled], window: tuple[float, float]
) -> None:
    """Draw the phones, and the reference under them."""
    lanes = [("aligned", phones), *([("reference", reference)] if reference else [])]
    for index, (_, segments) in enumerate(lanes):
        draw_lane(axes, segments, window, bottom=-1.1 * index)
    axes.set_yticks([0.5 - 1.1 * index for index in range(len(lanes))], [name for name, _ in lanes])
    axes.set(ylim=(-1.1 * (len(lanes) - 1) - 0.05, 1.05))
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=9)
    axes.tick_params(axis="x", length=2, labelsize=8)
    axes.spines[:].set_visible(False)
