"""Figures: their numbers are right, unusual input draws, and no global state changes.

Warnings are errors, so drawing a figure is a test in itself.
"""

import math
import runpy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import soundfile
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.data.labels.families import FAMILIES, family
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel
from speechattn.plots.alignment import phone_strips
from speechattn.plots.attention_weights import attention_heads
from speechattn.plots.confusion import confusion, per_class_bars
from speechattn.plots.confusion_difference import confusion_difference
from speechattn.plots.disagreement import disagreements
from speechattn.plots.learning_curves import curves, has_curves
from speechattn.plots.posteriors import posteriors
from speechattn.plots.recall_differences import recall_differences
from speechattn.plots.result_bars import result_bars
from speechattn.plots.style import ALARM, frame_edges

CLASSES = ("SIL", "AA", "AY", "B", "CH", "DH", "N", "R", "SPN")
CONTEXTS = [
    Context.truncated(3, 2),
    Context.truncated(0, 0),
    Context.chunked(4, left=3, right=2),
    Context.causal(5),
    Context.causal(),
    Context.full(),
]


@dataclass(frozen=True)
class Segment:
    start_s: float
    stop_s: float
    label: str


def segments(*labels: str, step: float = 0.1) -> list[Segment]:
    return [Segment(i * step, (i + 1) * step, label) for i, label in enumerate(labels)]


def drawn(figure: Figure) -> np.ndarray:
    """Draw a figure, which is when matplotlib warns; return its pixels [height, width, 4]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]


def words(figure: Figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def visible(context: Context, i: int, num_frames: int) -> tuple[int, int]:
    start, stop = context.visible(i, num_frames)
    assert stop is not None
    return start, stop


def uniform(context: Context, num_frames: int, heads: int = 2) -> np.ndarray:
    """Weights [H, T, T], equal for all keys that a frame may attend to."""
    weights = np.zeros((heads, num_frames, num_frames))
    for i in range(num_frames):
        seen = range(*visible(context, i, num_frames))
        weights[:, i, seen] = 1 / len(seen)
    return weights


def in_window(weights: np.ndarray, context: Context) -> np.ndarray:
    """Weights [H, T, window] of weights [H, T, T] that lie inside the window."""
    heads, num_frames, _ = weights.shape
    seen = context.within(num_frames)
    assert seen.window is not None and seen.left is not None
    window = np.zeros((heads, num_frames, seen.window))
    for i in range(num_frames):
        start, stop = visible(seen, i, num_frames)
        first = start - (i // seen.chunk * seen.chunk - seen.left)
        window[:, i, first : first + stop - start] = weights[:, i, start:stop]
    return window


def heads(weights: np.ndarray, context: Context, num_frames: int | None = None, **given: Any) -> Figure:
    """The figure of weights [H, T, T]."""
    mel = np.random.default_rng(0).normal(size=(weights.shape[1] if num_frames is None else num_frames, 20))
    return attention_heads(in_window(weights, context), context, mel, Framing(), **given)


def strips_of(figure: Figure) -> list[matplotlib.axes.Axes]:
    return [axes for axes in figure.axes if axes.get_title(loc="left").startswith("head ")]


def image_of(axes: matplotlib.axes.Axes) -> np.ndarray:
    array = axes.images[0].get_array()
    assert array is not None
    return np.ma.filled(array, np.nan)


def strip_rows(figure: Figure) -> list[np.ndarray]:
    """The drawn weights of each head [rows, T], NaN where no key is visible."""
    return [image_of(axes) for axes in strips_of(figure)]


@pytest.mark.parametrize("context", CONTEXTS, ids=str)
@pytest.mark.parametrize("num_frames", [1, 2, 30])
def test_every_weight_is_drawn_once_and_only_what_is_seen(context: Context, num_frames: int) -> None:
    weights = np.random.default_rng(0).random((2, num_frames, num_frames)) * uniform(context, num_frames)
    figure = heads(weights, context, outside=0.0)
    assert "mass outside the window: 0 " in words(figure) and str(context) in words(figure)
    for strip, head in zip(strip_rows(figure), weights, strict=True):
        assert np.allclose(np.nansum(strip, 0), head.sum(1))
        seen = [len(range(*visible(context, i, num_frames))) for i in range(num_frames)]
        assert np.isfinite(strip).sum(0).tolist() == seen
    if num_frames > 2:
        drawn(figure)


def test_a_strip_is_read_upwards_as_distance_ahead() -> None:
    weights = np.stack([np.eye(50, k=-3), np.eye(50, k=2)])
    figure = heads(weights, Context.truncated(6, 4))
    rows = [np.nanargmax(strip[:, 10:40], 0) for strip in strip_rows(figure)]
    assert (rows[0] == 6 - 3).all() and (rows[1] == 6 + 2).all()
    assert "1.00 at -30 ms" in words(figure) and "1.00 at 20 ms" in words(figure)
    assert [axes.get_ylim() for axes in strips_of(figure)] == [(-65, 45)] * 2
    assert strips_of(figure)[0].images[0].origin == "lower" and "key minus query" in words(figure)


def test_a_window_as_long_as_the_audio_is_read_as_the_keys_themselves() -> None:
    weights = np.zeros((1, 20, 20))
    weights[:, :, 7] = 1.0
    figure = heads(weights, Context.full())
    assert (np.nanargmax(strip_rows(figure)[0], 0) == 7).all()
    assert "key, seconds" in words(figure) and "1.00 at 0.075 s" in words(figure)


@pytest.mark.parametrize("count", [1, 6])
def test_strips_of_any_number_of_heads_are_equally_high_and_far_apart(count: int) -> None:
    figure = heads(uniform(Context.truncated(5, 5), 40, count), Context.truncated(5, 5))
    figure.draw_without_rendering()
    boxes = [axes.get_position() for axes in strips_of(figure)]
    assert len(boxes) == count
    assert np.ptp([box.height for box in boxes]) < 1e-3 and np.ptp([box.x0 for box in boxes]) < 1e-6
    assert np.ptp(np.diff([box.y0 for box in boxes])) < 1e-3 if count > 1 else True


@pytest.mark.parametrize("stack", [1, 4])
def test_strips_are_aligned_with_their_audio(stack: int) -> None:
    context = Context.truncated(3, 3)
    figure = heads(uniform(context, 83 // stack), context, num_frames=83, reference=segments("AA", "SIL", "T"))
    left, right = strips_of(figure)[0].images[0].get_extent()[:2]
    assert right - left == pytest.approx(83 // stack * stack * 0.01)
    assert all(axes.get_xlim()[1] == pytest.approx(right) for axes in figure.axes[:4:2])
    assert "AA" in words(figure)
    drawn(figure)


def test_mass_outside_the_window_is_written_in_the_colour_of_errors() -> None:
    figure = heads(uniform(Context.causal(3), 20), Context.causal(3), outside=0.0074)
    note = next(text for text in figure.texts if "mass outside the window: 0.0074" in text.get_text())
    assert note.get_color() == ALARM


@pytest.mark.parametrize("shape", [(0, 5, 7), (2, 0, 7), (1, 1, 1)])
def test_attention_of_any_size_draws(shape: tuple[int, ...]) -> None:
    mel = np.zeros((shape[1], 20))
    drawn(attention_heads(np.zeros(shape), Context.truncated(3, 3), mel, Framing(), title="layer $1"))


def test_disagreements_are_joined_and_time_that_one_side_leaves_unlabelled_is_ignored() -> None:
    reference = segments("SIL", "AA", "B", "SIL")
    predicted = [
        Segment(0.0, 0.15, "SIL"),
        Segment(0.15, 0.2, "AA"),
        Segment(0.2, 0.35, "CH"),
        Segment(0.35, 0.9, "SIL"),
    ]
    wrong = disagreements(reference, predicted)
    assert np.allclose(wrong, [(0.1, 0.15), (0.2, 0.35)])
    assert disagreements(reference, reference) == []
    assert disagreements(reference, []) == []


def test_strips_show_the_accuracy_and_the_names_of_phones() -> None:
    figure = phone_strips(
        np.random.default_rng(0).normal(size=(100, 40)),
        Framing(),
        segments("SIL", "AA", "B", "N", step=0.25),
        segments("SIL", "AA", "CH", "N", step=0.25),
        "utt",
    )
    text = words(figure)
    assert "75.0% of 1.0 s labelled right" in text
    assert "CH" in text and "utt" in text and "nasal" in text and "seconds" in text
    drawn(figure)


def test_frames_are_drawn_where_framing_places_them() -> None:
    framing = Framing()
    edges = frame_edges(framing, 5)
    assert len(edges) == 6 and np.allclose(np.diff(edges), 0.01)
    centres = (edges[1:] + edges[:-1]) / 2
    assert np.allclose(centres[1:], [framing.seconds_at(t) for t in range(1, 5)])
    assert frame_edges(Framing(align="snip"), 1).mean() == pytest.approx(0.0125)


def test_a_long_utterance_wraps_into_lines_that_share_the_seconds() -> None:
    mel = np.zeros((1000, 8))
    figure = phone_strips(mel, Framing(), segments(*("AA", "SIL") * 50), segments("SIL", step=10.0))
    limits = [axes.get_xlim() for axes in figure.axes]
    assert limits[0::2] == limits[1::2]
    assert len(limits) == 6
    assert [stop for _, stop in limits[0:-2:2]] == pytest.approx([start for start, _ in limits[2::2]])
    drawn(figure)


@pytest.mark.parametrize("flavor", ["kaldi", "librosa"])
@pytest.mark.parametrize("num_frames", [0, 1, 3])
def test_tiny_utterances_draw(num_frames: int, flavor: str) -> None:
    mel = torch.full((num_frames, 80), -11.5)
    drawn(phone_strips(mel, Framing(), [], [], "empty", flavor))
    probabilities = torch.full((num_frames, len(CLASSES)), 1 / len(CLASSES))
    drawn(posteriors(probabilities, CLASSES, Framing()))


def test_a_mel_with_nan_and_infinity_still_draws() -> None:
    mel = np.zeros((60, 20))
    mel[3, 4], mel[5, 6] = math.nan, -math.inf
    drawn(phone_strips(mel, Framing(), segments("AA"), segments("AA")))


def test_posteriors_put_families_together_and_outline_the_reference() -> None:
    array = np.eye(len(CLASSES))[np.repeat(np.arange(len(CLASSES)), 10)]
    figure = posteriors(array, CLASSES, Framing(), segments(*CLASSES), seconds=None)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["SIL", "SPN", "AA", "AY", "R", "N", "DH", "CH", "B"]
    assert len(figure.axes[0].patches) == len(CLASSES)
    values = figure.axes[0].collections[0].get_array()
    assert values is not None
    heat = values.reshape(len(CLASSES), -1)
    assert heat[names.index("B"), 35] == 1.0
    drawn(figure)
    with pytest.raises(ValueError, match="9 classes and there are 8"):
        posteriors(array, CLASSES[1:], Framing())


def test_confusion_rows_are_shares_of_the_reference() -> None:
    matrix = torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.int64)
    matrix[1, 1], matrix[1, 3], matrix[0, 0], matrix[0, 4] = 3, 1, 10, 10
    figure = confusion(matrix, CLASSES)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["SIL", "AA", "CH", "B"], "classes that never occur are left out"
    shares = image_of(figure.axes[0])
    assert shares[1].tolist() == [0, 0.75, 0, 0.25]
    assert np.isnan(shares[2:]).all(), "rows without frames have no shares"
    assert "54.2% of 24 frames" in words(figure)
    drawn(figure)


@pytest.mark.parametrize("classes", [("SIL",), ("zero", "one", "two"), CLASSES])
def test_confusion_and_bars_of_any_classes_draw(classes: tuple[str, ...]) -> None:
    count = len(classes)
    for matrix in (np.zeros((count, count)), np.eye(count), np.ones((count, count))):
        drawn(confusion(matrix, classes))
    drawn(per_class_bars({name: (0.5, 12345) for name in classes}))
    drawn(per_class_bars({name: (math.nan, 0) for name in classes}))


def test_curves_take_the_last_of_a_repeated_step_and_skip_what_is_not_finite() -> None:
    records: list[dict[str, Any]] = [
        {"kind": "valid", "encoder": "mlp", "step": 10, "loss": 9.0, "accuracy": 0.1},
        {"kind": "valid", "encoder": "mlp", "step": 20, "loss": math.nan, "accuracy": 0.5},
        {"kind": "valid", "encoder": "mlp", "step": 10, "loss": 2.0, "accuracy": 0.4},
        {"kind": "train", "encoder": "mlp", "step": 5, "loss": 3.0, "accuracy": 0.2, "frames_per_s": 1.0},
        {"kind": "train", "encoder": "mlp", "step": 6, "loss": None, "accuracy": None},  # how JSON writes NaN
        {"kind": "note"},
    ]
    figure = curves(records)
    loss, accuracy = ([line for line in axes.lines if line.get_marker() == "o"] for axes in figure.axes)
    assert np.asarray(loss[0].get_xydata()).tolist() == [[10, 2.0]]
    assert np.asarray(accuracy[0].get_xydata()).tolist() == [[10, 0.4], [20, 0.5]]
    assert "mlp  0.500" in words(figure)
    drawn(figure)
    drawn(curves([]))


def test_a_run_validated_once_shows_its_training() -> None:
    records: list[dict[str, Any]] = [
        {"kind": "train", "encoder": "mlp", "step": step, "loss": 3.0 / step, "accuracy": 0.2} for step in (1, 2, 3)
    ]
    once = [*records, {"kind": "valid", "encoder": "mlp", "step": 3, "loss": 2.0, "accuracy": 0.4}]
    assert has_curves(once) and has_curves(records[:2])
    assert not has_curves([records[0], once[-1]]) and not has_curves([])
    line = curves(once).axes[0].lines[0]
    assert np.asarray(line.get_xdata()).tolist() == [1, 2, 3]


def test_training_is_thin_and_validation_thick_however_often_a_run_was_validated() -> None:
    """With one validation the thick line was the training, which the legend calls thin and smoothed."""
    train = [{"kind": "train", "encoder": "mlp", "step": step, "loss": 3.0, "accuracy": 0.2} for step in range(1, 9)]
    for times in (0, 1, 3):
        valid = [{"kind": "valid", "encoder": "mlp", "step": 9 - i, "loss": 2.0, "accuracy": 0.4} for i in range(times)]
        figure = curves(train + valid)
        for axes in figure.axes:
            thin, *thick = axes.lines
            assert len(thick) == min(times, 1) and len(np.asarray(thin.get_xdata())) == 8
            assert thin.get_linewidth() <= 1 and thin.get_marker() == "None"
            assert all(line.get_linewidth() > 2 and line.get_marker() == "o" for line in thick)


WORDS = ("SIL", "<OTHER>", *(f"word{index}" for index in range(100)))


def test_the_most_frequent_of_many_classes_are_shown_and_all_are_counted() -> None:
    counts = np.diag(np.arange(102) + 1)
    counts[101, 0] = 102
    figure = confusion(counts, WORDS)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == list(WORDS[-48:])
    assert "98.1% of 5,355 frames" in words(figure) and "48 of 102 classes" in words(figure)
    shares = image_of(figure.axes[0])
    assert shares[-1, -1] == 0.5 and shares[0, 0] == 1.0, "predictions of a class that is not shown count"
    bars = per_class_bars({name: (0.5, index + 1) for index, name in enumerate(WORDS)})
    assert "word99" in words(bars) and "word10 " not in words(bars) and "48 of 102" in words(bars)
    heat = posteriors(np.random.default_rng(0).dirichlet(np.ones(102), 50), WORDS, Framing())
    assert "48 of 102 classes" in words(heat)
    for each in (figure, bars, heat):
        drawn(each)


def test_two_classes_are_written_out() -> None:
    figure = confusion([[90, 10], [20, 80]], ("SIL", "SPEECH"))
    assert all(share in words(figure) for share in ("0.900", "0.100", "0.200", "0.800"))
    drawn(figure)
    drawn(per_class_bars({"SIL": (0.9, 100), "SPEECH": (0.8, 100)}))
    drawn(posteriors(np.full((50, 2), 0.5), ("SIL", "SPEECH"), Framing(), segments("SIL", "SPEECH")))
    drawn(phone_strips(np.zeros((50, 20)), Framing(), segments("SIL", "SPEECH"), segments("SPEECH")))


def test_result_bars_show_every_row_and_its_interval() -> None:
    names = ["truncated", "linear", "failed"]
    scores = {"accuracy": [0.7, 0.4, None], "without silence": [0.65, None, None]}
    figure = result_bars(names, scores, "Accuracy", [(0.6, 0.8), None, None])
    assert all(text in words(figure) for text in (*names, "0.700", "0.650", "0.400"))
    (line,) = figure.axes[0].lines
    assert np.asarray(line.get_xdata()).tolist() == [0.6, 0.8]
    drawn(figure)
    drawn(result_bars([], {}, "Nothing"))


def test_recall_differences_leave_out_classes_that_one_run_does_not_know() -> None:
    first: dict[str, list[float | None]] = {"SIL": [0.9, 400], "AA": [0.5, 70], "B": [None, 0]}
    figure = recall_differences(first, {"other": {"SIL": [0.8, 400], "AA": [0.75, 70], "B": [0.5, 2]}})
    bars: list[Any] = list(figure.axes[0].patches)
    heights = [bar.get_height() for bar in bars]
    assert heights == pytest.approx([-10, 25])
    drawn(figure)
    drawn(recall_differences({}, {}))


def test_a_difference_of_confusions_is_one_of_shares_and_is_signed() -> None:
    first, second = [[8, 2, 0], [0, 4, 0], [0, 0, 0]], [[40, 60, 0], [0, 4, 0], [0, 0, 0]]
    figure = confusion_difference(first, second, ("SIL", "AA", "B"), ("one", "two"))
    assert image_of(figure.axes[0]) == pytest.approx(np.array([[-40, 40], [0, 0]]))
    assert "red: more often in two" in words(figure)
    drawn(figure)
    drawn(confusion_difference(np.zeros((2, 2)), np.zeros((2, 2)), ("a", "b"), ("one", "two")))
    with pytest.raises(ValueError, match="square"):
        confusion_difference(first, [[1]], ("SIL", "AA", "B"), ("one", "two"))


def test_curves_of_an_error_rate_go_down() -> None:
    records = [
        {"kind": "valid", "encoder": "a", "step": step, "loss": 1.0, "accuracy": accuracy}
        for step, accuracy in ((1, 0.2), (2, 0.6))
    ]
    figure = curves(records, score="Error rate", errors=True)
    assert np.asarray(figure.axes[1].lines[0].get_ydata()).tolist() == pytest.approx([0.8, 0.4])
    assert "Error rate" in words(figure)


def test_families_cover_arpabet_once() -> None:
    phones = [phone for names in FAMILIES.values() for phone in names]
    assert len(phones) == len(set(phones))
    arpabet = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
    assert all(family(phone) != "other" for phone in arpabet.split())
    assert family("AH0") == "vowel"
    assert all(family(label) == "other" for label in ("", "7", "uh", "SPEECH"))


def test_nothing_global_changes() -> None:
    before = dict(matplotlib.rcParams)
    result_bars(["a"], {"accuracy": [0.5]}, "Accuracy")
    heads(np.eye(3)[None], Context.full())
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


def test_the_script_of_the_convolution_page_draws_and_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(tmp_path / f"{name}.wav") for name in "ab"]
    for file in files:
        soundfile.write(file, np.random.default_rng(0).normal(scale=0.1, size=16000), 16000)
    config = EncoderConfig(20, d_model=16, num_heads=2, num_layers=1, context=Context.truncated(3, 2))
    SpeechModel(ModelConfig(CLASSES, config, num_mels=20)).save(tmp_path / "model")
    script = str(Path(__file__).parents[2] / "scripts" / "draw_convolution.py")
    for options in (["--out", str(tmp_path / "drawn")], ["--model", str(tmp_path / "model")]):
        monkeypatch.setattr("sys.argv", [script, *options, "--audio", *files])
        runpy.run_path(script, run_name="__main__")
    assert {path.name for path in (tmp_path / "drawn").iterdir()} == {
        "convolution_heads.png",
        "convolution_sharpness.png",
    }
    kernels, layers = capsys.readouterr().out.split("layer  context")
    differences = [line.split()[-2:] for line in kernels.splitlines()[1:]]
    assert len(differences) == 6 and all(
        float(double) < 1e-10 and float(single) < 1e-5 for double, single in differences
    )
    assert layers.splitlines()[1].startswith("    1  left 3, right 2") and layers.endswith("%\n")


def test_a_real_utterance_draws(librispeech_tiny: Path) -> None:
    ctm = sorted((librispeech_tiny / "alignments").glob("*.phones.ctm"))[0]
    rows = [row.split() for row in ctm.read_text().splitlines()]
    mine = [row for row in rows if row[0] == rows[0][0]]
    reference = [Segment(float(row[2]), float(row[2]) + float(row[3]), row[4]) for row in mine]
    mel = np.random.default_rng(0).normal(size=(int(reference[-1].stop_s * 100), 80))
    shifted = [Segment(max(0.0, s.start_s - 0.01), s.stop_s - 0.01, s.label) for s in reference]
    picture = drawn(phone_strips(mel, Framing(), reference, shifted, rows[0][0]))
    assert len(np.unique(picture[..., 0])) > 100
