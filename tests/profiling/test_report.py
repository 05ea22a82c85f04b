"""The page, the table and the CSV say the same; the picture shows what ran and where it ended; two profiles compare."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from speechattn.cli.profile_actions import redraw
from speechattn.errors import UserError
from speechattn.plots.memory_growth import APART, Failure, Limits, Line, memory_growth, spread
from speechattn.profiling.compare import compare, differences, side_by_side, unshared
from speechattn.profiling.report import plot_growth, profile_table, write_page

Make = Callable[..., Any]


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = page.split(f">{heading}</h2>")[1].split("<h2")[0]
    return [
        [unescape(cell) for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)] for row in section.split("<tr>")[1:]
    ]


def test_page_table_and_csv_say_the_same(tmp_path: Path, make_profile: Make) -> None:
    found = make_profile()
    found.write(tmp_path)
    page = write_page(found, tmp_path).read_text()
    points, grown = rows_of(page, "Points"), rows_of(page, "Growth")
    with (tmp_path / "profile.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(points) == 1 + len(lines) == 10
    printed = [re.split(r"  +", line) for line in profile_table(found).splitlines()]
    for cells, line, text in zip(points[1:], lines, printed[1:], strict=False):
        assert cells[0] == line["encoder"] == text[0] and cells[-1] == line["note"]
        assert (cells[2] == "-") == (line["seconds"] == "") == (text[2] == "-")
        if line["seconds"]:
            assert float(cells[2].replace(",", "")) == pytest.approx(float(line["seconds"]), rel=0.05)
            assert float(cells[4].replace(",", "")) == pytest.approx(float(line["peak_extra_bytes"]) / 1e6, rel=0.05)
            assert float(text[4].replace(",", "")) == pytest.approx(float(line["peak_extra_bytes"]) / 1e6, rel=0.05)
    assert grown[1:] == [
        ["truncated", "1 h", "", "16.7 min", "T ** 1.00", "T ** 1.00", "T ** 1.00"],
        ["full", "1 min", "out of memory at 10 min", "31.6 s", "T ** 2.00", "T ** 2.00", "T ** 2.00"],
        ["emformer", "none", "cannot at 10 s", "unknown", "-", "-", "-"],
    ]
    assert "full" in profile_table(found) and "T ** 2.00" in profile_table(found).splitlines()[-2]


def test_the_page_begins_with_what_each_survived_and_needs_nothing_else(tmp_path: Path, make_profile: Make) -> None:
    page = write_page(make_profile(), tmp_path).read_text()
    boxes = re.findall(r'<div class="number"><b>(.*?)</b><span>(.*?)</span><small>(.*?)</small>', page)
    assert boxes == [
        ("1 h", "truncated", "3.6 GB, 3.6 s; the longest that was tried"),
        ("1 min", "full", "3.6 GB, 3.6 s; 10 min: ran out at 4 GB, wanted another 57.6 GB"),
        ("none", "emformer", "10 s: needs torchaudio"),
    ]
    assert page.index('class="numbers"') < page.index("<img") < page.index("<table")
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "It was made up." in page and "a processor, 2 cores, 8 GB" in page


def test_a_profile_in_which_nothing_ran_has_a_page(tmp_path: Path, make_profile: Make) -> None:
    found = make_profile()
    found.points = found.of("emformer")
    assert "<img" not in write_page(found, tmp_path).read_text()
    found.points = [point for point in make_profile().of("full") if point.status != "ok"]
    assert "ran out at 4 GB" in write_page(found, tmp_path).read_text()
    assert "ran out at 4 GB" in profile_table(found)


def test_the_picture_has_a_line_for_each_and_a_cross_where_it_ended(make_profile: Make) -> None:
    figure = plot_growth(make_profile())
    memory, time = figure.axes
    crosses = [np.asarray(line.get_xydata()).tolist() for line in memory.lines if line.get_marker() == "X"]
    assert crosses == [[[600.0, 4e9]]], "at the ceiling, at the length that did not fit"
    assert not [line for line in time.lines if line.get_marker() == "X"], "it did not run out of time"
    truncated = next(line for line in memory.lines if len(np.asarray(line.get_xdata())) == 4)
    assert truncated.get_ydata() == pytest.approx([1e7, 6e7, 6e8, 3.6e9])
    texts = {text.get_text() for text in memory.texts}
    assert {"truncated", "full", "ceiling, 4 GB", "this machine, 8 GB"} <= texts
    assert "full\nout of memory" in {text.get_text() for text in time.texts}
    assert memory.get_xscale() == memory.get_yscale() == time.get_yscale() == "log"


def test_running_out_of_time_is_a_cross_in_the_other_panel() -> None:
    lines = [Line("full", [10.0, 60.0], [1e7, 6e7], [0.1, 3.6], Failure(600.0, "time", 100.0))]
    memory, time = memory_growth(lines, Limits(4e9, 8e9, 100.0), "A title").axes
    assert [np.asarray(line.get_xydata()).tolist() for line in time.lines if line.get_marker() == "X"] == [
        [[600.0, 100.0]]
    ]
    assert "full\nout of time" in {text.get_text() for text in memory.texts}


def test_a_length_that_was_skipped_as_too_slow_is_a_cross_at_the_time_limit(make_profile: Make) -> None:
    found = make_profile()
    found.points = [
        replace(p, status="skipped", limit=None) if p.status == "out of memory" else p for p in found.points
    ]
    _, time = plot_growth(found).axes
    crosses = [np.asarray(line.get_xydata()).tolist() for line in time.lines if line.get_marker() == "X"]
    assert crosses == [[[600.0, found.settings.timeout_s]]]
    assert f"time limit of a pass, {found.settings.timeout_s:g} s" in {text.get_text() for text in time.texts}


def test_names_are_not_over_another(make_profile: Make) -> None:
    names = ["truncated", "chunked", "full", "streaming", "emformer", "conformer"]
    lines = [Line(name, [10.0, 60.0], [1e7, 6e7 + place], [1.0, 2.0 + place // 3]) for place, name in enumerate(names)]
    figure = memory_growth(lines, Limits(), "All the same")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    for axes in figure.axes:
        named = [text for text in axes.texts if text.get_text() in names]
        for text in named:
            text.update_positions(canvas.get_renderer())  # type: ignore[attr-defined, no-untyped-call]
        boxes = [Text.get_window_extent(text) for text in named]
        assert len(boxes) == 6
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[i + 1 :])


def test_names_move_no_further_than_they_must() -> None:
    assert spread([0.1, 0.5, 0.9], APART) == [0.1, 0.5, 0.9]
    found = spread([0.2, 0.2, 0.2, 0.9], 0.1)
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.9])
    assert spread([], 0.1) == [] and spread([0.5], 0.1) == [0.5]


def test_two_profiles_side_by_side(tmp_path: Path, make_profile: Make, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = make_profile(), make_profile()
    second.points = [replace(point, seconds=2 * point.seconds) if point.seconds else point for point in second.points]
    second.points = [
        replace(point, peak_extra_bytes=3 * point.peak_extra_bytes) if point.peak_extra_bytes else point
        for point in second.points[1:]
    ]
    rows = side_by_side(first, second)
    assert len(rows) == len(first.points) - 1
    ran = [row for row in rows if row[4] != "-"]
    assert len(ran) == 5 and {(row[4], row[7], row[10]) for row in ran} == {("2.00", "3.00", "1.00")}
    assert [row[2] for row in rows if row[4] == "-"] == ["out of memory", "skipped", "cannot"]
    assert unshared(first, second) == ["only in A: truncated 10 s"] and unshared(second, second) == []
    assert differences(first, second) == []
    second.machine["cpu"] = "a faster one"
    second.machine["versions"] = {"torch": "3.0"}
    second.settings = replace(second.settings, batch_size=4)
    assert differences(first, second) == [
        "differs: cpu: A a processor, B a faster one",
        "differs: versions.torch: A 2.0, B 3.0",
        "differs: setting batch_size: A 1, B 4",
    ]
    for name, each in (("a", first), ("b", second)):
        (tmp_path / name).mkdir()
        each.write(tmp_path / name)
    files = tmp_path / "a" / "profile.json", tmp_path / "b" / "profile.json"
    assert compare(*files, out=tmp_path / "page") == 0
    printed = capsys.readouterr().out
    assert "a faster one" in printed and "2.00" in printed and "differs: setting batch_size" in printed
    page = (tmp_path / "page" / "report.html").read_text()
    assert [row[:5] for row in rows_of(page, "Points")[1:]] == [row[:5] for row in rows]


def test_a_picture_is_drawn_again_from_its_json(
    tmp_path: Path, make_profile: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    found = make_profile()
    found.write(tmp_path)
    write_page(found, tmp_path / "first")
    assert redraw(tmp_path / "profile.json", tmp_path / "new" / "again.png") == 0
    assert (tmp_path / "new" / "again.png").read_bytes() == (tmp_path / "first/pictures/lengths.png").read_bytes()
    assert redraw(tmp_path / "profile.json", None) == 0
    assert (tmp_path / "report.html").read_bytes() == (tmp_path / "first" / "report.html").read_bytes()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        redraw(tmp_path / "profile.json", tmp_path / "file")
    with pytest.raises(UserError, match="choose another --out"):
        redraw(tmp_path / "profile.json", tmp_path / "file" / "below.png")
