"""The picture of an alignment: every boundary is a line, and no two names overlap."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from speechattn.data.labels.segments import Segment
from speechattn.framing import Framing
from speechattn.plots.boundaries import LINE_S, MAX_LINES, phone_boundaries


def spread(labels: list[str], step: float, start: float = 0.0) -> list[Segment]:
    return [Segment(start + i * step, start + (i + 1) * step, label) for i, label in enumerate(labels)]


def drawn(seconds: float, reference: bool = False) -> Figure:
    mel = np.random.default_rng(0).standard_normal((round(100 * seconds), 40))
    count = round(seconds / 0.05)
    phones = spread((["SIL", "AH", "T", "CH", "OW"] * count)[:count], 0.05)
    words = spread((["a", "notwithstanding", "is"] * count)[: count // 3], 0.15)
    others = spread(["AH"] * count, 0.05, start=0.01) if reference else []
    return phone_boundaries(mel, Framing(), phones, words, others, title="some words")


def line_starts(figure: Figure) -> list[float]:
    """The seconds of all vertical lines over spectrograms of the first line."""
    lines = [c for axes in figure.axes for c in axes.collections if isinstance(c, LineCollection)]
    return sorted(float(segment[0][0]) for segment in lines[0].get_segments())


def test_every_boundary_is_a_line_over_the_spectrogram() -> None:
    starts = line_starts(drawn(2.0))
    assert starts == pytest.approx([0.05 * i for i in range(40)])


def test_names_do_not_overlap() -> None:
    figure = drawn(5.0, reference=True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    renderer = canvas.get_renderer()  # type: ignore[no-untyped-call]
    found = 0
    for axes in figure.axes:
        boxes = sorted((text.get_window_extent(renderer) for text in axes.texts), key=lambda box: (box.y0, box.x0))
        for before, after in pairwise(boxes):
            assert abs(before.y0 - after.y0) > 3 or before.x1 <= after.x0 + 0.5
        found += len(boxes)
    assert found > 100


def test_a_reference_has_a_lane_and_lines_of_its_own() -> None:
    figure = drawn(2.0, reference=True)
    names = [tick.get_text() for tick in figure.axes[2].get_yticklabels()]
    assert names == ["aligned", "reference"]
    assert [tick.get_text() for tick in drawn(2.0).axes[2].get_yticklabels()] == ["aligned"]
    assert sum(isinstance(c, LineCollection) for c in figure.axes[1].collections) == 2


@pytest.mark.parametrize("seconds", [0.05, 0.5, 3.0, 30.0])
def test_recordings_of_any_length_draw(seconds: float) -> None:
    figure = drawn(seconds)
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    assert len(figure.axes) <= 3 * MAX_LINES
    texts = [text.get_text() for text in figure.texts]
    limit = LINE_S * MAX_LINES
    assert (f"the first {limit:.0f} of 30 s" in texts) == (seconds > limit)
