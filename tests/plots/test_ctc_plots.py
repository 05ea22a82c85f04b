"""Pictures of sequences: all labels are drawn, errors in red, spikes at their frames; and none without labels."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from speechattn.framing import Framing
from speechattn.plots.ctc_spikes import best_runs, ctc_spikes
from speechattn.plots.edit_rows import GAP, edit_rows
from speechattn.plots.style import ALARM

CLASSES = ("<blank>", "AA", "B", "S")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_label_is_drawn_and_errors_are_red() -> None:
    pairs = [("AA", "AA"), ("B", "S"), ("S", ""), ("", "B")]
    figure = edit_rows(pairs, "title")
    drawn = texts(figure)
    assert [drawn.count(label) for label in ("AA", "B", "S", GAP)] == [2, 2, 2, 2]
    boxes = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    red = [
        box
        for box in boxes
        if box.get_facecolor()[:3] == pytest.approx(tuple(bytes.fromhex(ALARM[1:])[i] / 255 for i in range(3)))
    ]
    assert len(boxes) == 8 and len(red) == 3


@pytest.mark.parametrize(("count", "lines"), [(0, 0), (1, 1), (5, 1), (6, 2), (11, 3)])
def test_long_sequences_are_wrapped(count: int, lines: int) -> None:
    assert texts(edit_rows([("AA", "AA")] * count, columns=5)).count("model") == lines


def test_spikes_are_named_at_their_highest_frame() -> None:
    posteriors = np.full((12, 4), 0.01)
    posteriors[:, 0] = 0.9
    posteriors[3, 1], posteriors[4, 1], posteriors[9, 3] = 0.6, 0.8, 0.95
    posteriors[3:5, 0] = posteriors[9, 0] = 0.02
    assert best_runs(posteriors) == [(1, 4), (3, 9)]
    framing = Framing()
    figure = ctc_spikes(np.zeros((24, 8)), posteriors, CLASSES, framing, stack=2)
    found = {text.get_text(): text.get_position()[0] for axes in figure.axes for text in axes.texts}
    edges = framing.drawn_edges(24)
    assert edges[8] < found["AA"] < edges[10] and edges[18] < found["S"] < edges[20]


@pytest.mark.parametrize(("num_frames", "stack"), [(0, 1), (1, 4), (4, 4), (7, 4), (1, 1)])
def test_short_recordings_have_a_picture(num_frames: int, stack: int) -> None:
    posteriors = np.full((num_frames // stack, 4), 0.25)
    assert ctc_spikes(np.zeros((num_frames, 8)), posteriors, CLASSES, Framing(), stack).axes
