"""Facts about the report: one file that needs nothing else, nothing given to it becomes markup, never half written."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.errors import UserError
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel
from speechattn.plots.html_page import Report
from speechattn.system.atomic_files import write_bytes
from speechattn.training.report_data import layer_attention
from speechattn.training.report_page import CAPTIONS, LayerAttention, write_run_report
from speechattn.training.results_table import print_table

CLASSES = ("SIL", "AA", "B")
CONTEXT = Context.truncated(30, 30)
EVIL = """<script>alert("1")</script> & 'quoted' {title}"""


class Segment:
    def __init__(self, start: float, stop: float, label: str) -> None:
        self.start_s, self.stop_s, self.label = start, stop, label


class Reader(HTMLParser):
    """The text, the tags and everything that points elsewhere."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        self.words += data


def small_figure() -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.subplots()
    return figure


def example(name: str, num_frames: int = 40, layers: int = 2, leak: float = 0.0) -> dict[str, Any]:
    rng = np.random.default_rng(num_frames)
    layer = LayerAttention(CONTEXT, torch.full((2, num_frames, 61), 1 / 61), leak)
    return {
        "id": name,
        "transcript": f"WORDS OF {name}",
        "log_mel": torch.tensor(rng.normal(size=(num_frames, 20))),
        "reference": [Segment(0.0, 0.2, "SIL"), Segment(0.2, 0.4, "AA")],
        "predicted": [Segment(0.0, 0.25, "SIL"), Segment(0.25, 0.4, "B")],
        "posteriors": rng.dirichlet(np.ones(3), num_frames),
        "attention": [layer] * layers,
    }


RESULTS = [
    {
        "encoder": "truncated",
        "accuracy": 0.7012,
        "accuracy_no_sil": 0.65,
        "frames_per_s": 51234.5,
        "parameters": 1234567,
    },
    {"encoder": "mlp", "accuracy": 0.652, "accuracy_no_sil": 0.6, "seconds": 600.0},
    {"encoder": "always silence", "accuracy": 0.193, "accuracy_no_sil": 0.0, "own column": float("nan")},
]
RECORDS = [
    {"kind": "valid", "encoder": "truncated", "step": step, "loss": 2.0, "accuracy": 0.5, "accuracy_no_sil": 0.4}
    for step in (1, 2)
]


def run_report(directory: Path, **changed: object) -> Path:
    given: dict[str, Any] = {
        "title": "A run",
        "results": RESULTS,
        "examples": [example("first"), example("second", 55)],
        "records": RECORDS,
        "confusion_matrix": torch.tensor([[8, 1, 1], [0, 4, 2], [1, 0, 3]]),
        "classes": CLASSES,
        "framing": Framing(),
        "description": CONTEXT.describe(num_layers=2),
        "notes": ["Labels come from an aligner.", "python train.py"],
    }
    return write_run_report(directory, **{**given, **changed})


def test_the_page_is_one_file_with_its_pictures_inside(tmp_path: Path) -> None:
    path = Report("Title").figure("one", small_figure(), "what it shows").write(tmp_path / "new" / "run")
    assert path == tmp_path / "new" / "run" / "report.html"
    source = path.read_text(encoding="utf-8")
    links = Reader(source).links
    assert len(links) == 1 and links[0].startswith("data:image/png;base64,")
    png = (path.parent / "pictures" / "one.png").read_bytes()
    assert png.startswith(b"\x89PNG") and base64.b64decode(links[0].split(",")[1]) == png
    assert "http" not in source and "url(" not in source and "@import" not in source


def test_nothing_given_becomes_markup(tmp_path: Path) -> None:
    report = Report(EVIL).heading(EVIL).text(EVIL).code(EVIL).numbers([(EVIL, EVIL, EVIL)])
    report.table([EVIL, "b"], [[EVIL, 1]]).figure("a", small_figure(), EVIL).heading("Second")
    read = Reader(report.write(tmp_path).read_text(encoding="utf-8"))
    assert "script" not in read.tags
    assert read.words.count(EVIL) == 12  # title and h1, link and h2, text, code, three in numbers, two cells, caption


def test_a_table_rounds_numbers_and_dashes_what_is_missing(tmp_path: Path) -> None:
    rows = [["a", 0.70123, 51234.6, 1234567, None], ["b", float("nan"), 9.9999, -3, True]]
    source = Report("T").table(["name", "x", "y", "z", "w"], rows).write(tmp_path).read_text(encoding="utf-8")
    cells = re.findall(r"<td[^>]*>(.*?)</td>", source)
    assert cells == ["a", "0.701", "51,235", "1,234,567", "-", "b", "-", "10.000", "-3", "True"]
    with pytest.raises(ValueError, match="1 cells under a header of 2"):
        Report("T").table(["a", "b"], [["only"]])


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "a b", "a\n", "a" + chr(0)])
def test_a_picture_name_cannot_leave_the_directory(name: str) -> None:
    with pytest.raises(ValueError, match="becomes a file name"):
        Report("T").figure(name, small_figure(), "")


def test_a_picture_name_is_used_once() -> None:
    with pytest.raises(ValueError, match="already is a picture named 'one'"):
        Report("T").figure("one", small_figure(), "").figure("one", small_figure(), "")


def test_a_second_report_replaces_the_first_and_leaves_nothing_aside(tmp_path: Path) -> None:
    Report("First").figure("one", small_figure(), "").write(tmp_path)
    Report("Second").figure("one", small_figure(), "").write(tmp_path)
    assert "Second" in (tmp_path / "report.html").read_text()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["one.png", "pictures", "report.html"]


def test_the_old_page_survives_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Report("Old").write(tmp_path).read_bytes()
    real = write_bytes

    def full_disk(path: Path, data: bytes) -> None:
        if path.name == "report.html":
            raise OSError(28, "No space left on device")
        real(path, data)

    monkeypatch.setattr("speechattn.plots.html_page.write_bytes", full_disk)
    with pytest.raises(OSError, match="No space"):
        Report("New").figure("one", small_figure(), "").write(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == old


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match=r"run is a file: the report needs a directory"):
        Report("T").write(tmp_path / "run")


def test_text_that_is_not_unicode_does_not_stop_the_page(tmp_path: Path) -> None:
    assert "caf?" in Report("T").text("caf\udce9").write(tmp_path).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one whole run."""
    return run_report(tmp_path_factory.mktemp("run"))


def test_a_run_begins_with_its_numbers_and_the_best_picture(run: Path) -> None:
    source = run.read_text(encoding="utf-8")
    words = Reader(source).words
    for shown in ("70.1%", "65.0%", "4.9", "points above mlp", "512x", "1.23 M", "WORDS OF first", "python train.py"):
        assert shown in words, shown
    marks = ('class="numbers"', "<figure>", "WORDS OF first", ">Results</h2>", "<table>", ">More examples</h2>")
    order = [source.index(mark) for mark in marks]
    assert order == sorted(order)
    assert words.count("left 30, right 30") >= 4
    assert "own column" not in words, "a column in which no row has a value is not shown"


def test_a_run_stores_its_pictures(run: Path) -> None:
    names = {picture.stem for picture in (run.parent / "pictures").iterdir()}
    wanted = "phones phones-2 encoders curves posteriors confusion classes attention-1 attention-2"
    assert names == set(wanted.split())


def test_every_picture_of_a_run_says_what_to_look_at(run: Path) -> None:
    source = run.read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", source)
    assert len(captions) == source.count("<figure>") == 9
    assert set(CAPTIONS.values()) <= {caption.removeprefix("WORDS OF first. ") for caption in captions}


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    assert run_report(tmp_path).read_bytes() == run.read_bytes()


def test_mass_outside_the_window_reaches_the_headline(run: Path, tmp_path: Path) -> None:
    assert "0attention outside the window" in Reader(run.read_text()).words
    leaking = [example("first", layers=1), example("second", 55, layers=1, leak=0.009)]
    outside = Reader(run_report(tmp_path, examples=leaking, records=[]).read_text()).words
    assert "0.009attention outside the window" in outside


def test_each_layer_has_a_context_of_its_own(tmp_path: Path) -> None:
    layers = [
        LayerAttention(Context.causal(3), np.ones((1, 40, 4)), 0.0),
        LayerAttention(Context.full(), np.ones((1, 40, 79)), 0.0),
    ]
    words = Reader(
        run_report(tmp_path, examples=[{**example("first"), "attention": layers}], records=[]).read_text()
    ).words
    assert "left 3, right 0" in words and "full" in words


def test_a_baseline_without_attention_has_a_report(tmp_path: Path) -> None:
    absent = ("posteriors", "transcript")
    plain = {key: value for key, value in example("first", layers=0).items() if key not in absent}
    path = run_report(tmp_path, examples=[plain], records=[], description="", notes="one note")
    words = Reader(path.read_text()).words
    assert "Attention" not in words and "Learning" not in words and "one note" in words


def test_a_run_too_short_for_a_curve_has_none(tmp_path: Path) -> None:
    dots = [{**RECORDS[0], "encoder": name} for name in ("truncated", "mlp")]
    assert "Learning" not in Reader(run_report(tmp_path, examples=[], records=dots).read_text()).words


def test_a_run_without_anything_has_a_report(tmp_path: Path) -> None:
    path = run_report(tmp_path, results=[], examples=[], records=[], confusion_matrix=np.zeros((3, 3)), notes=[])
    assert "Mistakes" in Reader(path.read_text()).words


@pytest.mark.parametrize("num_frames", [1, 40])
@pytest.mark.parametrize(
    "context",
    [Context.truncated(3, 2), Context.truncated(100, 90), Context.chunked(4, 3, 2), Context.causal(), Context.full()],
    ids=str,
)
def test_what_a_layer_attends_to_lies_in_its_window_and_is_what_is_drawn(context: Context, num_frames: int) -> None:
    config = EncoderConfig(10, d_model=8, num_heads=2, num_layers=2, context=context)
    model = SpeechModel(ModelConfig(CLASSES, config, num_mels=10)).eval()
    frames = torch.randn(num_frames, 10)
    layers = layer_attention(model, frames)
    assert [layer.context for layer in layers] == [context, context]
    for layer in layers:
        assert layer.outside == 0.0
        weights = torch.as_tensor(layer.weights)
        assert weights.shape == (2, num_frames, context.within(num_frames).window)
        assert torch.allclose(weights.sum(-1), torch.ones(2, num_frames), atol=1e-5)


@pytest.mark.parametrize("options", [{"block": "conformer"}, {"position_encoding": "alibi"}, {"activation": "relu"}])
def test_any_encoder_with_attention_is_read(options: dict[str, Any]) -> None:
    config = EncoderConfig(10, d_model=8, num_heads=2, num_layers=2, context=Context.truncated(3, 2), **options)
    layers = layer_attention(SpeechModel(ModelConfig(CLASSES, config, num_mels=10)).eval(), torch.randn(42, 10))
    shapes = [(layer.outside, np.shape(layer.weights)) for layer in layers]
    assert shapes == [(0.0, (2, 42, 6))] * 2


@pytest.mark.parametrize("block", ["cnn", "bigru", "mlp", "linear"])
def test_an_encoder_without_attention_has_none(block: str) -> None:
    config = EncoderConfig(10, d_model=8, num_heads=2, num_layers=2, block=block)
    assert layer_attention(SpeechModel(ModelConfig(CLASSES, config, num_mels=10)).eval(), torch.randn(20, 10)) == []


def test_the_printed_table_has_a_row_for_each_encoder_and_room_for_words(capsys: pytest.CaptureFixture[str]) -> None:
    floor = {"label": "word0", "accuracy": 0.25, "accuracy_no_sil": 0.375, "tests": {"test-other": 0.125}}
    scores = {"accuracy": 0.5, "accuracy_no_sil": 0.4, "baseline": floor, "tests": {"test-other": {"accuracy": 0.3}}}
    costs = {"parameters": 1234, "train_frames_per_s": 1e4, "frames_per_s": 1e5, "peak_memory_mb": 99.0, "seconds": 7.0}
    words = {
        "SIL": (0.9, 500),
        **{f"word{index}": (0.5, 100 - index) for index in range(80)},
        "never": (float("nan"), 0),
    }
    kinds = ("truncated", "conformer", "full", "cnn", "bigru", "mlp", "linear")
    print_table([{"encoder": kind, **scores, **costs, "per_class": words} for kind in kinds])
    table, classes = capsys.readouterr().out.strip().split("\n\n")
    assert [line.split()[0] for line in table.splitlines()] == ["encoder", *kinds, "always"]
    assert table.splitlines()[-1].split() == ["always", "word0", "0.2500", "0.3750", "0.1250"]
    rows = classes.splitlines()[1:]
    assert len({len(row) for row in rows}) == 1 and rows[0].split()[0] == "SIL" and "never" not in classes
    assert sum(row.count(".") for row in rows) == 50
