"""The figure of a sweep: points are where their numbers are, and names cover nothing."""

from itertools import combinations

import numpy as np
from matplotlib.container import ErrorbarContainer
from matplotlib.text import Annotation

from speechattn.plots.window_sweep import Mark, window_sweep

MARKS = [
    Mark("wide", "two-sided", 970.0, 0.67, 0.66, 0.68, 0.4),
    Mark("narrow", "two-sided", 70.0, 0.59, 0.58, 0.60, 0.4),
    Mark("past", "past only", 970.0, 0.63, 0.63, 0.63, 0.4),
    Mark("MLP, 11 frames", "baseline", 110.0, 0.62, 0.61, 0.63, 0.4, named=True),
    Mark("MLP, 31 frames", "baseline", 310.0, 0.625, 0.62, 0.63, None, named=True),
    Mark("CNN", "baseline", 390.0, 0.63, 0.62, 0.64, 0.4, named=True),
    Mark("full attention", "full", None, 0.68, 0.67, 0.69, 60.0, named=True),
    Mark("BiGRU", "baseline", None, 0.66, 0.65, 0.67, 9.0, named=True),
]


def test_points_are_at_their_context_and_mean_and_bars_reach_the_seeds() -> None:
    axes = window_sweep(MARKS, "title").axes[0]
    drawn = {}
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        places, bars = np.asarray(container.lines[0].get_xydata()), container.lines[2][0].get_segments()
        for (x, y), bar in zip(places, bars, strict=True):
            drawn[round(float(y), 6)] = (float(x), *(round(float(end[1]), 6) for end in bar))
    assert drawn[0.67] == (970.0, 0.66, 0.68)
    assert drawn[0.59] == (70.0, 0.58, 0.60)
    assert drawn[0.625] == (310.0, 0.62, 0.63)
    assert 800 < drawn[0.63][0] < 970 or drawn[0.63][0] == 390.0  # beside the point with the same context
    assert drawn[0.68][0] == drawn[0.66][0] > 2 * 970  # without limit


def test_names_cover_neither_points_nor_each_other() -> None:
    figure = window_sweep(MARKS, "title", "note", "10 min")
    axes = figure.axes[0]
    figure.draw_without_rendering()
    names = [text for text in axes.texts if isinstance(text, Annotation)]
    assert {text.get_text() for text in names} == {mark.label for mark in MARKS if mark.named}
    boxes = [text.get_window_extent() for text in names]
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    places = [point for container in axes.containers for point in np.asarray(container[0].get_xydata())]
    pixels = axes.transData.transform(places)
    assert not any(box.contains(x, y) for box in boxes for x, y in pixels)


def test_time_is_drawn_where_it_was_measured() -> None:
    figure = window_sweep(MARKS, "title", cost_of="10 min")
    above, below = figure.axes
    assert below.get_ylabel() == "time for\n10 min"
    assert len(below.lines) == sum(mark.cost_s is not None for mark in MARKS)
    assert above.get_xlim() == below.get_xlim()
    assert len(window_sweep([mark._replace(cost_s=None) for mark in MARKS], "title").axes) == 1


def test_a_sweep_without_runs_says_so() -> None:
    assert "no runs yet" in [text.get_text() for text in window_sweep([], "title").axes[0].texts]
