"""Where the pooling of an utterance classifier looks: the weight of each frame under the log-mel of several recordings.

A weight is drawn as a multiple of the mean pooling's, which gives each of T frames 1 / T: at 2 a frame counts twice as
much as there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from speechattn.framing import Framing
from speechattn.plots.alignment import WIDTH, draw_mel, mel_range
from speechattn.plots.style import ALARM, GREY, INK, LINES, STYLE, as_array, frame_edges, heading, new_figure, say_empty

COLUMNS = 3


@dataclass(frozen=True)
class PooledRecording:
    """One recording: its title, log-mel [n, F], and weights [T] with sum 1, where each is for n / T frames."""

    title: str
    log_mel: ArrayLike
    weights: ArrayLike
    is_wrong: bool = False
    """Whether the model gives it another class; its title is then in the colour of errors."""


@matplotlib.rc_context(STYLE)
def pooling_weights(
    recordings: Sequence[PooledRecording],
    framing: Framing,
    title: str = "Where the pooling looks",
    flavor: str = "kaldi",
) -> Figure:
    """Draw the log-mel of each recording, and under it the weight of each frame beside that of the mean.

    All panels have one scale of seconds and one of weights. `flavor` is the mel scale, for the Hz on the axis.
    """
    columns = min(COLUMNS, max(1, len(recordings)))
    lines = math.ceil(len(recordings) / columns)
    figure = new_figure(WIDTH, 2.75 * max(1, lines) + 0.75)
    heading(figure, title, "curve: weight of a frame, as a multiple of mean pooling's     dashed: mean pooling")
    figure.get_layout_engine().set(h_pad=0.02, hspace=0.01)  # type: ignore[union-attr, call-arg]
    if not recordings:
        say_empty(figure.subplots(), "no recordings")
        return figure
    mels = [as_array(recording.log_mel, "T, F") for recording in recordings]
    shares = [_relative(as_array(recording.weights, "T")) for recording in recordings]
    end = max(float(frame_edges(framing, len(mel))[-1]) for mel in mels)
    top = max(2.0, *(float(share.max(initial=0.0)) for share in shares)) * 1.08
    grid = figure.subplots(2 * lines, columns, squeeze=False, height_ratios=[1.5, 1] * lines)
    for place in range(lines * columns):
        line, column = divmod(place, columns)
        above, below = grid[2 * line, column], grid[2 * line + 1, column]
        if place >= len(recordings):
            above.axis("off")
            below.axis("off")
            continue
        _draw_recording(above, below, recordings[place], mels[place], shares[place], framing, flavor, end)
        below.set(ylim=(0, top))
        if column:
            above.set(ylabel="", yticklabels=[])
            below.set_yticklabels([])
        else:
            below.set_ylabel("weight")
        if line == lines - 1 or place + columns >= len(recordings):
            below.set_xlabel("seconds")
    return figure


def _relative(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights as multiples of 1 / T."""
    return weights * len(weights)


def _draw_recording(
    above: Axes,
    below: Axes,
    recording: PooledRecording,
    mel: NDArray[np.float64],
    share: NDArray[np.float64],
    framing: Framing,
    flavor: str,
    end: float,
) -> None:
    edges = frame_edges(framing, len(mel))
    draw_mel(above, mel, edges, (float(edges[0]), float(edges[-1])), mel_range(mel), framing, flavor)
    above.set_title(recording.title, fontsize=10, color=ALARM if recording.is_wrong else INK, pad=4)
    if len(share):
        stack = max(1, len(mel) // len(share))
        ends = np.minimum(np.arange(len(share) + 1) * stack, len(mel))
        below.stairs(share, edges[ends], fill=True, color=LINES[0], alpha=0.3, linewidth=0)
        below.stairs(share, edges[ends], baseline=None, color=LINES[0], linewidth=1.3)
    below.plot([edges[0], edges[-1]], [1, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    for axes in (above, below):
        axes.set_xlim(min(0.0, float(edges[0])), end)
    below.tick_params(labelsize=8, length=2)
    below.spines[["left", "bottom"]].set_visible(False)
