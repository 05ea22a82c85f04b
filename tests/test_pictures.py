"""Facts about the pictures: what they claim is true, odd input draws, and nothing global changes.

That a picture is drawn without a warning is itself tested: warnings are errors here.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from speechattn import pictures
from speechattn.context import Context
from speechattn.framing import Framing
from speechattn.pictures import palette

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
    start: float
    stop: float
    label: str


def segments(*labels: str, step: float = 0.1) -> list[Segment]:
    return [Segment(i * step, (i + 1) * step, label) for i, label in enumerate(labels)]


def drawn(figure: Figure) -> np.ndarray:
    """The pixels [height, width, 4]; drawing is when matplotlib warns."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def words(figure: Figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def uniform(context: Context, num_frames: int, heads: int = 2) -> np.ndarray:
    """Weights [H, T, T] that share out each frame's attention among what it may see."""
    weights = np.zeros((heads, num_frames, num_frames))
    for i in range(num_frames):
        start, stop = context.visible(i, num_frames)
        weights[:, i, start:stop] = 1 / (stop - start)
    return weights


@pytest.mark.parametrize("context", CONTEXTS, ids=str)
@pytest.mark.parametrize("num_frames", [1, 2, 17])
def test_mass_outside_is_exactly_zero_inside_the_band(context: Context, num_frames: int) -> None:
    assert pictures.mass_outside(uniform(context, num_frames), context) == 0.0


def test_mass_outside_is_what_leaks() -> None:
    context = Context.truncated(2, 1)
    weights = uniform(context, 20)
    leaking = weights.copy()
    leaking[1, 10, 14] += 0.5
    assert pictures.mass_outside(leaking, context) == pytest.approx(0.5 / (weights.sum() + 0.5))
    leaking[1, 10, 14] = 1e-12
    assert pictures.mass_outside(leaking, context) > 0
    assert pictures.mass_outside(uniform(Context.truncated(3, 1), 20), context) > 0.1
    assert pictures.mass_outside(uniform(Context.full(), 20), Context.causal()) > 0.1


def test_mass_outside_hides_neither_signs_nor_nan() -> None:
    context = Context.truncated(0, 0)
    weights = np.eye(4)
    weights[0, 3], weights[3, 0] = 1.0, -1.0
    assert pictures.mass_outside(weights, context) == pytest.approx(2 / 6)
    weights[0, 3] = math.nan
    assert math.isnan(pictures.mass_outside(weights, context))


def test_mass_outside_of_nothing_and_of_padding_is_zero() -> None:
    assert pictures.mass_outside(np.zeros((2, 0, 0)), Context.full()) == 0.0
    assert pictures.mass_outside(np.zeros((2, 5, 5)), Context.causal()) == 0.0
    half = torch.tensor(uniform(Context.causal(2), 6), dtype=torch.bfloat16, requires_grad=True)
    assert pictures.mass_outside(half, Context.causal(2)) == 0.0
    with pytest.raises(ValueError, match="as many keys as queries"):
        pictures.mass_outside(np.zeros((2, 5, 6)), Context.causal())


@pytest.mark.parametrize("context", CONTEXTS, ids=str)
def test_attention_pictures_say_the_mass_and_draw(context: Context) -> None:
    weights = uniform(context, 30)
    for figure in (pictures.attention_band(weights, context), pictures.attention_profile(weights, context)):
        assert "mass outside the band: 0 " in words(figure)
        drawn(figure)


def test_a_violated_band_is_written_and_drawn_outside_the_outline() -> None:
    context = Context.truncated(4, 0)
    weights = uniform(context, 40, heads=1)
    honest = pictures.attention_band(weights, context)
    weights[0, 5, 35] = 0.3
    leaking = pictures.attention_band(weights, context)
    assert "mass outside the band: 0.0074" in words(leaking)
    shown = leaking.axes[0].images[0].get_array()
    assert shown[5, 35] == 0.3
    assert not np.array_equal(drawn(honest), drawn(leaking))


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (9, 20, 20), (1, 0, 0), (2, 305, 305)])
def test_attention_of_any_size_draws(shape: tuple[int, ...]) -> None:
    context = Context.truncated(3, 3)
    weights = uniform(context, shape[-1], heads=shape[0])[0] if len(shape) == 2 and shape[0] else np.zeros(shape)
    drawn(pictures.attention_band(weights, context, "layer $1"))
    drawn(pictures.attention_profile(weights, context))


def test_a_long_utterance_shows_its_beginning_and_judges_all_of_it() -> None:
    weights = np.eye(320)
    weights[310, 2] = 1.0
    figure = pictures.attention_band(weights, Context.truncated(5, 5), "Layer 3")
    assert "Layer 3, first 300 of 320 frames" in words(figure)
    assert "mass outside the band: 0.0031" in words(figure)


def test_profile_peaks_where_the_head_looks() -> None:
    weights = np.stack([np.eye(50, k=-3), np.eye(50, k=2)])
    figure = pictures.attention_profile(weights, Context.truncated(6, 4))
    peaks = [line.get_xdata()[np.argmax(line.get_ydata())] for line in figure.axes[0].lines[:2]]
    assert peaks == [-3, 2]
    assert figure.axes[0].lines[0].get_ydata().max() == 1.0


def test_disagreements_are_joined_and_time_of_one_side_is_not_judged() -> None:
    reference = segments("SIL", "AA", "B", "SIL")
    predicted = [
        Segment(0.0, 0.15, "SIL"),
        Segment(0.15, 0.2, "AA"),
        Segment(0.2, 0.35, "CH"),
        Segment(0.35, 0.9, "SIL"),
    ]
    wrong = pictures.disagreements(reference, predicted)
    assert np.allclose(wrong, [(0.1, 0.15), (0.2, 0.35)])
    assert pictures.disagreements(reference, reference) == []
    assert pictures.disagreements(reference, []) == []


def test_strips_say_how_much_is_right_and_name_phones() -> None:
    figure = pictures.phone_strips(
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


def test_frames_lie_where_framing_says() -> None:
    framing = Framing()
    edges = palette.frame_edges(framing, 5)
    assert len(edges) == 6 and np.allclose(np.diff(edges), 0.01)
    centres = (edges[1:] + edges[:-1]) / 2
    assert np.allclose(centres[1:], [framing.seconds_at(t) for t in range(1, 5)])
    assert palette.frame_edges(Framing(align="snip"), 1).mean() == pytest.approx(0.0125)


def test_a_long_utterance_wraps_into_lines_that_share_the_seconds() -> None:
    mel = np.zeros((1000, 8))
    figure = pictures.phone_strips(mel, Framing(), segments(*("AA", "SIL") * 50), segments("SIL", step=10.0))
    limits = [axes.get_xlim() for axes in figure.axes]
    assert limits[0::2] == limits[1::2]
    assert len(limits) == 6
    assert [stop for _, stop in limits[0:-2:2]] == pytest.approx([start for start, _ in limits[2::2]])
    drawn(figure)


@pytest.mark.parametrize("flavor", ["kaldi", "librosa"])
@pytest.mark.parametrize("num_frames", [0, 1, 3])
def test_tiny_utterances_draw(num_frames: int, flavor: str) -> None:
    mel = torch.full((num_frames, 80), -11.5)
    drawn(pictures.phone_strips(mel, Framing(), [], [], "empty", flavor))
    posteriors = torch.full((num_frames, len(CLASSES)), 1 / len(CLASSES))
    drawn(pictures.posteriors(posteriors, CLASSES, Framing()))


def test_a_mel_with_nan_and_infinity_still_draws() -> None:
    mel = np.zeros((60, 20))
    mel[3, 4], mel[5, 6] = math.nan, -math.inf
    drawn(pictures.phone_strips(mel, Framing(), segments("AA"), segments("AA")))


def test_posteriors_put_families_together_and_outline_the_reference() -> None:
    array = np.eye(len(CLASSES))[np.repeat(np.arange(len(CLASSES)), 10)]
    figure = pictures.posteriors(array, CLASSES, Framing(), segments(*CLASSES), seconds=None)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["SIL", "SPN", "AA", "AY", "R", "N", "DH", "CH", "B"]
    assert len(figure.axes[0].patches) == len(CLASSES)
    heat = figure.axes[0].collections[0].get_array().reshape(len(CLASSES), -1)
    assert heat[names.index("B"), 35] == 1.0
    drawn(figure)
    with pytest.raises(ValueError, match="9 classes and there are 8"):
        pictures.posteriors(array, CLASSES[1:], Framing())


def test_confusion_rows_are_shares_of_the_reference() -> None:
    matrix = torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.int64)
    matrix[1, 1], matrix[1, 3], matrix[0, 0], matrix[0, 4] = 3, 1, 10, 10
    figure = pictures.confusion(matrix, CLASSES)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names == ["SIL", "AA", "CH", "B"], "classes that never occur are left out"
    shares = np.ma.filled(figure.axes[0].images[0].get_array(), np.nan)
    assert shares[1].tolist() == [0, 0.75, 0, 0.25]
    assert np.isnan(shares[2:]).all(), "rows without frames have no shares"
    assert "54.2% of 24 frames" in words(figure)
    drawn(figure)


@pytest.mark.parametrize("classes", [("SIL",), ("zero", "one", "two"), CLASSES])
def test_confusion_and_bars_of_any_classes_draw(classes: tuple[str, ...]) -> None:
    count = len(classes)
    for matrix in (np.zeros((count, count)), np.eye(count), np.ones((count, count))):
        drawn(pictures.confusion(matrix, classes))
    drawn(pictures.per_class_bars({name: (0.5, 12345) for name in classes}))
    drawn(pictures.per_class_bars({name: (math.nan, 0) for name in classes}))


def test_curves_take_the_last_of_a_repeated_step_and_skip_what_is_not_finite() -> None:
    records = [
        {"kind": "valid", "encoder": "mlp", "step": 10, "loss": 9.0, "accuracy": 0.1},
        {"kind": "valid", "encoder": "mlp", "step": 20, "loss": math.nan, "accuracy": 0.5},
        {"kind": "valid", "encoder": "mlp", "step": 10, "loss": 2.0, "accuracy": 0.4},
        {"kind": "train", "encoder": "mlp", "step": 5, "loss": 3.0, "accuracy": 0.2, "frames_per_s": 1.0},
        {"kind": "note"},
    ]
    figure = pictures.curves(records)
    loss, accuracy = ([line for line in axes.lines if line.get_marker() == "o"] for axes in figure.axes)
    assert loss[0].get_xydata().tolist() == [[10, 2.0]]
    assert accuracy[0].get_xydata().tolist() == [[10, 0.4], [20, 0.5]]
    assert "mlp  0.500" in words(figure)
    drawn(figure)
    drawn(pictures.curves([]))


def test_encoder_bars_show_every_row() -> None:
    results = [
        {"encoder": "truncated", "accuracy": 0.7, "accuracy_no_sil": 0.65},
        {"encoder": "linear", "accuracy": 0.4},
        {"encoder": "failed", "accuracy": math.nan, "accuracy_no_sil": None},
    ]
    figure = pictures.encoder_bars(results)
    assert all(name in words(figure) for name in ("truncated", "linear", "failed", "0.700", "0.650", "0.400"))
    drawn(figure)
    drawn(pictures.encoder_bars([]))


def test_families_cover_arpabet_once() -> None:
    phones = [phone for _, names in palette.FAMILIES.values() for phone in names.split()]
    assert len(phones) == len(set(phones))
    arpabet = "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
    assert all(palette.family(phone) != "other" for phone in arpabet.split())
    assert palette.family("ah0") == "vowel" and palette.family("") == palette.family("7") == "other"


def test_nothing_global_changes() -> None:
    before = dict(matplotlib.rcParams)
    pictures.encoder_bars([{"encoder": "a", "accuracy": 0.5}])
    pictures.attention_band(np.eye(3), Context.full())
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


def test_a_real_utterance_draws(librispeech_tiny: Path) -> None:
    ctm = sorted((librispeech_tiny / "alignments").glob("*.phones.ctm"))[0]
    rows = [row.split() for row in ctm.read_text().splitlines()]
    mine = [row for row in rows if row[0] == rows[0][0]]
    reference = [Segment(float(row[2]), float(row[2]) + float(row[3]), row[4]) for row in mine]
    mel = np.random.default_rng(0).normal(size=(int(reference[-1].stop * 100), 80))
    shifted = [Segment(max(0.0, s.start - 0.01), s.stop - 0.01, s.label) for s in reference]
    picture = drawn(pictures.phone_strips(mel, Framing(), reference, shifted, rows[0][0]))
    assert len(np.unique(picture[..., 0])) > 100
