"""Facts about the report: one file that needs nothing else, nothing given to it becomes markup, never half written."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from small_runs import config_of, new_model
from small_runs import example as small_example

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.data.labels.segments import Utterance
from speechattn.data.synthetic.arpabet import CLASSES as ARPABET
from speechattn.errors import UserError
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel
from speechattn.plots.html_page import Report
from speechattn.system.atomic_files import write_bytes
from speechattn.training.dataset import Example
from speechattn.training.report_page import headline, report_run
from speechattn.training.report_sections.attention import add_attention, layer_attention
from speechattn.training.report_sections.examples import cut_transcript, example_title
from speechattn.training.report_sections.inputs import ReportInputs
from speechattn.training.results_table import print_table
from speechattn.training.tasks.frames import FrameTask

CLASSES = ("SIL", "AA", "B")
CONTEXT = Context.truncated(30, 30)
EVIL = """<script>alert("1")</script> & 'quoted' {title}"""


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


MADE = {
    "command": "python train.py",
    "commit": "abc",
    "date": "2026-12-01 02:00 UTC",
    "cpu": "a processor",
    "cores": 2,
    "threads": 1,
    "versions": {"torch": "2"},
}
RESULTS: list[dict[str, Any]] = [
    {
        "encoder": "truncated",
        "accuracy": 0.7012,
        "accuracy_no_sil": 0.65,
        "frames": 1200,
        "frames_per_s": 51234.5,
        "parameters": 1234567,
        "peak_memory_mb": 1055.0,
        "tests": {"test-other": {"accuracy": 0.6}},
        "baseline": {"label": "SIL", "accuracy": 0.193, "accuracy_no_sil": 0.0, "tests": {"test-other": 0.1}},
        "confusion": [[int(i == j) for j in range(41)] for i in range(41)],
        "per_class": {name: (1.0, 1) for name in ARPABET},
        "made": MADE,
    },
    {"encoder": "linear", "accuracy": 0.4, "tests": {}, "seconds": 8.3},
    {"encoder": "mlp", "accuracy": 0.652, "accuracy_no_sil": 0.6, "seconds": 600.0, "tests": {}},
]
RECORDS = [
    {"kind": "valid", "encoder": "truncated", "step": step, "loss": 2.0, "accuracy": 0.5, "accuracy_no_sil": 0.4}
    for step in (1, 2)
]


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


class SpokenDigits:
    """A finished run of the frame classifier, which is not trained: small model, examples of three speakers."""

    def __init__(self, **settings: Any) -> None:
        self.config = config_of(labels="phones", baselines=("mlp", "linear"), stretch=0.0, **settings)
        self.model = new_model(self.config, self.config.encoder).eval()
        self.valid = [spoken(i, 40 + 15 * i) for i in range(3)]
        self.task = FrameTask(ARPABET)

    def inputs(self, **changed: Any) -> ReportInputs:
        given = {"results": RESULTS, "records": RECORDS, "valid": self.valid, **changed}
        return ReportInputs(self.config, self.model, self.task, given["valid"], given["results"], given["records"])


def spoken(i: int, num_frames: int) -> Example:
    made = small_example(i, num_frames)
    utterance = Utterance(made.utterance.id, str(i), Path("none.flac"), f"WORDS OF {i}")
    return Example(LabelledUtterance(utterance, num_frames * 160, []), made.frames, made.labels)


def write_run(folder: Path, made: SpokenDigits | None = None, **changed: Any) -> str:
    folder.mkdir(exist_ok=True)
    part = {"utterances": 30, "speakers": 3, "frames": 180_000, "ids": "", "labels": "", "sound": ""}
    (folder / "data.json").write_text(json.dumps({"train": part, "valid": {**part, "speakers": 1}}))
    return report_run(folder, (made or SpokenDigits()).inputs(**changed)).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one whole run."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    return folder / "report.html"


def test_a_run_begins_with_its_numbers_and_the_best_picture(run: Path) -> None:
    source = run.read_text(encoding="utf-8")
    words = Reader(source).words
    for shown in ("70.1%", "65.0%", "4.9", "points above mlp", "mlp has 65.2%", "1.23 M", "512x real time"):
        assert shown in words, shown
    assert "30.0 min" in words and "3 speakers" in words and "60 ms" not in words.split("latency")[0]
    assert "40 mslatency" in words, "two layers, each 2 frames ahead"
    marks = ('class="numbers"', "<figure>", ">Results</h2>", "<table>", ">Learning</h2>", ">More examples</h2>")
    order = [source.index(mark) for mark in marks]
    assert order == sorted(order)


def test_rows_are_sorted_by_accuracy_and_columns_have_one_precision(run: Path) -> None:
    rows = re.findall(r"<tr><td.*?</tr>", run.read_text(encoding="utf-8"))
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", line) for line in rows][:4]
    assert [line[:2] for line in cells] == [
        ["truncated", "0.7012"],
        ["mlp", "0.6520"],
        ["linear", "0.4000"],
        ["always SIL", "0.1930"],
    ]
    assert [line[3] for line in cells] == ["0.6000", "-", "-", "0.1000"], "the test subset"


def test_every_cell_says_its_column_because_rows_become_blocks_on_a_narrow_screen(run: Path) -> None:
    source = run.read_text(encoding="utf-8")
    assert source.count("<td") == source.count("data-name=")
    assert "content: attr(data-name)" in source and "max-width: 100%" in source
    assert "max-width: none" not in source, "pictures shrink"


def test_the_notes_have_data_command_commit_date_and_machine(run: Path) -> None:
    words = Reader(run.read_text(encoding="utf-8")).words
    for shown in ("30.0 min, 30 utterances of 3 speakers", "over 1,200 validation frames", "python train.py"):
        assert shown in words, shown
    assert "Commit abc, 2026-12-01" in words and "a processor, one thread of 2 cores" in words
    assert "peak memory" not in words, "that of the process says nothing about an encoder"


def test_a_run_stores_its_pictures(run: Path) -> None:
    names = {picture.stem for picture in (run.parent / "pictures").iterdir()}
    wanted = "phones phones-2 phones-3 encoders curves posteriors confusion classes attention-1 attention-2"
    assert names == set(wanted.split())


def test_no_caption_is_repeated(run: Path) -> None:
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", run.read_text(encoding="utf-8"))
    assert len(captions) == len(set(captions)) == 8


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_run(tmp_path / name, valid=[], records=[]) for name in "ab")
    assert first == second


def test_mass_outside_of_the_windows_is_a_sentence_and_an_error_if_there_is_any(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "No weight of the 2 layers lies outside of its window." in Reader(run.read_text(encoding="utf-8")).words
    monkeypatch.setattr("speechattn.training.report_sections.attention.mass_outside", lambda *_: 0.009)
    made, report = SpokenDigits(), Report("T")
    add_attention(report, made.model, spoken(1, 5), [], "what is seen")
    assert "ERROR: a share of 0.009 of the weights" in report.write(tmp_path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("encoder", "latency"), [("full", "no limit"), ("bigru", "no limit"), ("mlp", "50 ms"), ("linear", "0 ms")]
)
def test_the_headline_has_the_latency_of_any_encoder(encoder: Any, latency: str) -> None:
    inputs = SpokenDigits(encoder=encoder).inputs(results=[{**RESULTS[0], "encoder": encoder}])
    assert (latency, "latency") in [card[:2] for card in headline(inputs, {})]


def test_a_run_too_short_for_a_curve_has_none(tmp_path: Path) -> None:
    dots = [{**RECORDS[0], "encoder": name} for name in ("truncated", "mlp")]
    assert "Learning" not in Reader(write_run(tmp_path, records=dots, valid=[])).words


def test_an_older_result_without_anything_new_has_a_report(tmp_path: Path) -> None:
    old = {key: RESULTS[0][key] for key in ("encoder", "accuracy", "accuracy_no_sil", "tests", "baseline")}
    inputs = SpokenDigits().inputs(results=[old], valid=[])
    words = Reader(report_run(tmp_path, inputs).read_text(encoding="utf-8")).words
    assert "70.1%" in words and "Command" not in words and "training speech" not in words


def test_a_title_says_speaker_and_sentence_and_is_cut_between_words() -> None:
    assert example_title(spoken(7, 10)) == '"Words of 7" (speaker 7)'
    assert cut_transcript(spoken(7, 10)) == ""
    long = spoken(7, 10)
    utterance = Utterance("7-1-0", "7", Path("none.flac"), "SEVEN " * 30)
    long = Example(LabelledUtterance(utterance, 1600, []), long.frames, long.labels)
    title = example_title(long)
    assert title.endswith('seven ..." (speaker 7)') and len(title) <= 64
    assert cut_transcript(long).count("SEVEN") == 30


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
    print_table("frames", [{"encoder": kind, **scores, **costs, "per_class": words} for kind in kinds])
    table, classes = capsys.readouterr().out.strip().split("\n\n")
    assert [line.split()[0] for line in table.splitlines()] == ["encoder", *kinds, "always"]
    assert table.splitlines()[-1].split() == ["always", "word0", "0.2500", "0.3750", "0.1250"]
    rows = classes.splitlines()[1:]
    assert len({len(row) for row in rows}) == 1 and rows[0].split()[0] == "SIL" and "never" not in classes
    assert sum(row.count(".") for row in rows) == 50
