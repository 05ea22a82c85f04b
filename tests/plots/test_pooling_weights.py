"""Weights of the pooling under the log-mel: a panel a recording, as multiples of the mean's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.patches import StepPatch
from matplotlib.text import Text

from speechattn.framing import Framing
from speechattn.plots.pooling_weights import PooledRecording, pooling_weights
from speechattn.plots.style import ALARM


def recording(num_frames: int, weights: list[float], wrong: bool = False) -> PooledRecording:
    mel = np.random.default_rng(num_frames).standard_normal((num_frames, 20))
    return PooledRecording(f"{num_frames} frames", mel, np.array(weights), wrong)


def test_each_recording_has_its_weights_as_multiples_of_the_mean() -> None:
    recordings = [recording(4, [0.25] * 4), recording(2, [0.9, 0.1], wrong=True)]
    figure = pooling_weights(recordings, Framing(), "Digits")
    above, below = figure.axes[:2], figure.axes[2:]
    assert [axes.get_title(loc="left") for axes in above] == ["4 frames", "2 frames"]
    titles = [text for axes in above for text in axes.get_children() if isinstance(text, Text) and text.get_text()]
    assert [text.get_text() for text in titles if text.get_color() == ALARM] == ["2 frames"]
    steps: list[Any] = [next(patch for patch in axes.patches if isinstance(patch, StepPatch)) for axes in below]
    values = [np.asarray(patch.get_data().values) for patch in steps]
    assert values[0].tolist() == pytest.approx([1, 1, 1, 1]) and values[1].tolist() == pytest.approx([1.8, 0.2])
    assert below[0].get_xlim() == below[1].get_xlim() and below[0].get_ylim() == below[1].get_ylim()
    figure.draw_without_rendering()


@pytest.mark.parametrize("count", [0, 1, 4])
def test_any_number_of_recordings_can_be_drawn_stacked_frames_and_none_included(count: int) -> None:
    recordings = [recording(5, [0.5, 0.5]), recording(0, []), recording(3, [1.0]), recording(9, [1 / 9] * 9)][:count]
    pooling_weights(recordings, Framing(sample_rate=8000)).draw_without_rendering()
