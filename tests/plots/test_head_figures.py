"""Figures of heads: their numbers are those given, and unusual input draws."""

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from speechattn.framing import Framing
from speechattn.plots.confusion import confusion
from speechattn.plots.head_distances import LayerDistances, head_distances
from speechattn.plots.head_profiles import WIDE, LayerProfiles, head_profiles
from speechattn.plots.spectrogram import LINE_S, spectrogram
from speechattn.plots.style import FAMILIES
from speechattn.plots.window_comparison import Window, window_comparison


def words(figure: Figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def drawn(figure: Figure) -> None:
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]


def meshes(figure: Figure) -> list[np.ndarray]:
    found = [mesh for axes in figure.axes for mesh in axes.collections if isinstance(mesh, QuadMesh)]
    return [np.asarray(mesh.get_array()) for mesh in found]


def test_profiles_are_drawn_as_they_are_a_row_a_head() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.random((3, 8)), rng.random((2, 8))]
    offsets = [10.0 * n for n in range(-5, 3)]
    layers = [
        LayerProfiles(f"layer {n}", offsets, array, [0.5, None, 0.25][: len(array)], ["", "short", ""][: len(array)])
        for n, array in enumerate(arrays, start=1)
    ]
    figure = head_profiles(layers, "A title")
    found = meshes(figure)
    assert [np.allclose(one, other) for one, other in zip(found, arrays, strict=False)] == [True, True]
    text = words(figure)
    assert "50%" in text and "25%" in text and "no choice" in text and "short" in text and "A title" in text
    heads = [axes for axes in figure.axes if axes.get_title(loc="left").startswith("layer")]
    assert heads[0].get_xlim() == (-55.0, 25.0) and heads[0].yaxis_inverted()
    drawn(figure)


def test_of_very_many_distances_those_with_weight_are_drawn() -> None:
    profile = np.zeros((1, 4 * WIDE))
    profile[0, 2 * WIDE : 2 * WIDE + 20] = 0.05
    figure = head_profiles([LayerProfiles("layer 1", list(range(4 * WIDE)), profile, [1.0], [""])])
    assert meshes(figure)[0].sum() == pytest.approx(1.0) and meshes(figure)[0].shape[1] < 30


def test_distances_are_the_means_of_the_heads_in_the_colours_of_the_families() -> None:
    layers = [
        LayerDistances("layer 1", {"vowel": [10.0, 30.0], "stop": [5.0]}, {"vowel": [2.0, 4.0], "stop": [1.0]}),
        LayerDistances("layer 2", {"vowel": [50.0]}, {"vowel": [6.0]}),
    ]
    figure = head_distances(layers)
    left = figure.axes[0]
    dots = {(line.get_color(), float(np.asarray(line.get_xdata())[0])) for line in left.lines}
    assert dots == {(FAMILIES["vowel"], 20.0), (FAMILIES["stop"], 5.0), (FAMILIES["vowel"], 50.0)}
    drawn(figure)
    drawn(head_distances([LayerDistances("layer 1", {"yes": [1.0], "no": [2.0]}, {"yes": [1.0], "no": [2.0]})]))
    assert "no classes" in words(head_distances([LayerDistances("layer 1", {}, {})]))


def test_windows_are_written_with_their_numbers() -> None:
    windows = [
        Window("trained", 1.0, 0.75, 0.0, 202.5, 1270.0),
        Window("1/2 of it", 0.5, 0.6, 0.25, 122.5, 670.0),
        Window("(full)", 0.4, None, None, None, None),
    ]
    figure = window_comparison(windows)
    text = words(figure)
    assert {"75.0", "50.0", "60.0", "0.25"} <= set(text.split(" | ")) and "waits 122.5 ms\nsees 670 ms" in text
    assert "(full)\nwaits no limit\nsees no limit" in text
    drawn(figure)
    alone = window_comparison([Window("trained", 1.0, None, 0.0, 10.0, 20.0)])
    assert "reference" not in words(alone)
    drawn(alone)
    assert "no posteriors" in words(window_comparison([]))


def test_figures_of_nothing_say_so() -> None:
    assert "no heads" in words(head_profiles([]))
    assert "no frames" in words(spectrogram(np.zeros((0, 40)), Framing()))


@pytest.mark.parametrize("seconds", [0.01, 3.0, 2.5 * LINE_S])
def test_a_spectrogram_is_wrapped_into_lines_and_every_frame_is_drawn(seconds: float) -> None:
    frames = round(100 * seconds)
    figure = spectrogram(np.random.default_rng(0).normal(size=(frames, 20)), Framing(), "A sentence")
    lines = [axes for axes in figure.axes if axes.get_ylabel() == "kHz"]
    assert len(lines) == -(-frames // round(100 * LINE_S)) and "A sentence" in words(figure)
    assert sum(mesh.shape[1] for mesh in meshes(figure)[: len(lines)]) >= frames
    assert f"{frames:,} frames of 10 ms, 20 mel bands" in words(figure)
    drawn(figure)


def test_a_high_share_of_a_confusion_matrix_is_bright() -> None:
    figure = confusion([[9, 1], [0, 10]], ["AA", "T"])
    image = figure.axes[0].images[0]
    low, high = np.asarray(image.cmap(image.norm(np.array([0.0, 1.0]))))[:, :3].mean(1)
    assert low < 0.1 and high > 0.8
