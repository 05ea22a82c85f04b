"""The log-mel frames of a recording over seconds, wrapped into lines: the picture of `speechattn features --plot`."""

from __future__ import annotations

import math

import matplotlib
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from speechattn.framing import Framing
from speechattn.plots.alignment import WIDTH, draw_mel, mel_range
from speechattn.plots.style import HEAT, STYLE, as_array, frame_edges, heading, new_figure, say_empty

LINE_S = 8.0
"""Seconds of one line; a frame is then about a pixel and a half wide."""
MAX_LINES = 15
"""Beyond two minutes lines grow longer instead of more."""


@matplotlib.rc_context(STYLE)
def spectrogram(log_mel: ArrayLike, framing: Framing, title: str = "Log-mel", flavor: str = "kaldi") -> Figure:
    """Draw frames [T, F] over seconds, with mel bands evenly spaced and labelled in kHz.

    Values below the 2nd and above the 99.8th percentile have the colours of these. `flavor` is the mel scale.

    Examples:
        >>> import numpy as np
        >>> len(spectrogram(np.zeros((100, 40)), Framing()).axes)
        2
    """
    mel = as_array(log_mel, "T, F")
    edges = frame_edges(framing, len(mel))
    end = float(edges[-1]) if len(mel) else 0.0
    lines = min(max(1, math.ceil(end / LINE_S)), MAX_LINES)
    figure = new_figure(WIDTH, 1.85 * lines + 1.15)
    heading(figure, title, f"{end:.2f} s, {len(mel):,} frames of {framing.hop_ms:g} ms, {mel.shape[1]} mel bands")
    grid = figure.subplots(lines, 1, squeeze=False)[:, 0]
    if not mel.size:
        say_empty(grid[0], "no frames")
        return figure
    extremes, span = mel_range(mel), end / lines
    for line, axes in enumerate(grid):
        window = (line * span, (line + 1) * span)
        draw_mel(axes, mel, edges, window, extremes, framing, flavor)
        axes.set_xlim(window)
        axes.xaxis.set_major_locator(matplotlib.ticker.AutoLocator())
        axes.tick_params(axis="x", labelsize=8, length=2)
    grid[-1].set_xlabel("seconds")
    scale = ScalarMappable(Normalize(*extremes), HEAT)
    bar = figure.colorbar(scale, ax=list(grid), pad=0.01, aspect=20 + 10 * lines, label="log energy", extend="both")
    bar.outline.set_visible(False)
    return figure
