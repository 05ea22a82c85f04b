"""Facts about `speechattn compare`, on folders of runs that are written here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from speechattn.cli.main import main
from speechattn.training.comparison.run_result import read_results
from speechattn.training.comparison.tables import table_of
from speechattn.training.config import TrainConfig

CLASSES = ("SIL", "AA", "B")
VALID = {"utterances": 12, "speakers": 12, "frames": 1200, "ids": "i", "labels": "l", "sound": "s"}
TRAIN = {**VALID, "utterances": 100, "frames": 90_000}
Run = Callable[..., Path]


def row(encoder: str = "truncated", shift: int = 0, **changed: Any) -> dict[str, Any]:
    right = {str(i): [60 + i + shift, 100] for i in range(12)}
    accuracy = sum(pair[0] for pair in right.values()) / 1200
    return {
        "encoder": encoder,
        "accuracy": accuracy,
        "accuracy_no_sil": accuracy - 0.1,
        "frames": 1200,
        "tests": {"test-other": {"accuracy": accuracy - 0.05}},
        "per_class": {"SIL": [0.9, 400], "AA": [0.5 + shift / 100, 700], "B": [None, 0]},
        "confusion": [[360, 40, 0], [300, 350 + shift, 50], [0, 0, 0]],
        "by_speaker": right,
        "parameters": 1000 + shift,
        "frames_per_s": 5e4,
        "seconds": 60.0,
        "epochs": 40,
        "made": {"command": "speechattn train", "commit": "abc", "date": "today", "cpu": "a", "cores": 2, "threads": 1},
        **changed,
    }


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that writes the folder of a run and returns it."""

    def write(
        name: str,
        rows: list[dict[str, Any]] | None = None,
        data: dict[str, Any] | None = None,
        leave_out: tuple[str, ...] = (),
        **settings: Any,
    ) -> Path:
        folder, rows = tmp_path / name, rows or [row()]
        folder.mkdir(parents=True)
        config = {**TrainConfig().to_dict(), **settings}
        records = [
            {"kind": kind, "encoder": own["encoder"], "step": step, "loss": 2.0 / step, "accuracy": 0.5}
            for own in rows
            for kind in ("train", "valid")
            for step in (1, 2)
        ]
        files = {
            "config.json": json.dumps({key: config[key] for key in config if key not in leave_out}),
            "results.json": json.dumps(rows),
            "data.json": json.dumps({"train": TRAIN, "valid": VALID} if data is None else data),
            "metrics.jsonl": "".join(json.dumps(record) + "\n" for record in records),
        }
        for file, text in files.items():
            (folder / file).write_text(text)
        for own in rows[1:]:
            (folder / "baselines" / own["encoder"]).mkdir(parents=True)
        return folder

    return write


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    status = main(["compare", *map(str, arguments)])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return captured.out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    status = main(["compare", *map(str, arguments)])
    error = capsys.readouterr().err
    assert status == 2 and error.count("\n") == 1, error
    return error


def test_the_table_has_a_row_a_run_with_the_difference_to_the_first(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    text = printed(capsys, run("wide"), run("narrow", [row(shift=2)], left=5))
    lines = [line.split() for line in text.splitlines()]
    wide, narrow = (next(line for line in lines if line[:1] == [name]) for name in ("wide", "narrow"))
    assert wide[1:4] == ["truncated", "0.6550", "-"]
    assert narrow[1:7] == ["truncated", "0.6750*", "+2.0", "(+2.0", "to", "+2.0)"]
    assert ["left", "15", "5"] in lines and not text.startswith("!")


def test_settings_that_a_run_lacks_are_defaults_and_folders_do_not_count(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    older = run("older", leave_out=("dropout", "split"), out="a", cache="x")
    assert "no setting differs" in printed(capsys, older, run("newer", out="b"))
    assert "dropout  0.1    0.3" in printed(capsys, older, run("other", dropout=0.3))


def test_other_validation_data_are_said_first_and_have_no_interval(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run("b", data={"train": {**TRAIN, "sound": "t"}, "valid": {**VALID, "labels": "m"}})
    lines = printed(capsys, run("a"), other).splitlines()
    assert lines[0] == "! VALIDATION DATA of a and b differ (labels): their scores are not comparable."
    assert lines[1] == "! Training data of a and b differ (sound files)."
    assert "no interval for b: validation data differ" in lines


def test_a_baseline_inside_a_run_is_a_run(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run("a", [row(), row("mlp", -10)], baselines=["mlp"], baseline_settings=["mlp.dropout=0.3"])
    text = printed(capsys, folder, folder / "baselines" / "mlp")
    lines = [line.split() for line in text.splitlines()]
    assert ["encoder", "truncated", "mlp"] in lines and ["dropout", "0.1", "0.3"] in lines
    assert next(line for line in lines if line[:1] == ["a/mlp"])[1:4] == ["mlp", "0.5550", "-10.0"]


def test_an_error_rate_is_better_when_it_is_lower(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    rates: dict[str, Any] = {"error_rate": 0.4, "substitutions": 1, "insertions": 2, "deletions": 3, "labels": 1200}
    first = row(**rates, confusions=[["AA", "B", 9], ["", "B", 4]])
    second = row(shift=5, **{**rates, "error_rate": 0.35}, confusions=[["AA", "B", 3]])
    for one in (first, second):
        one.update(confusion=[], per_class={}, tests={})
    folders = [run(name, [own], task="ctc") for name, own in (("a", first), ("b", second))]
    text = printed(capsys, *folders, "--out", folders[0].parent / "page")
    assert "0.3500*  -5.0 (-5.0 to -5.0)" in text
    page = (folders[0].parent / "page" / "compare.html").read_text()
    assert "(inserted)" in page and "Errors</h2>" in page


def test_runs_of_one_name_are_told_apart_by_their_folders(run: Run) -> None:
    found = read_results([run("one/run"), run("two/run"), run("third")])
    assert [result.name for result in found] == ["one/run", "two/run", "third"]


def test_json_has_the_numbers_of_the_table(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, run("a"), run("b", [row(shift=1)], encoder="truncated"), "--format", "json"))
    assert found["runs"][1]["difference"]["points"] == pytest.approx(1.0)
    assert found["runs"][0]["tests/test-other"] == pytest.approx(0.605)
    assert found["warnings"] == [] and found["settings"] == {}


def test_the_page_shows_curves_scores_and_classes_of_all_runs(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run("a"), run("b", [row(shift=3)], dropout=0.2), run("c", [row(shift=-3)])]
    printed(capsys, *runs, "--out", tmp_path / "page")
    pictures = {path.stem for path in (tmp_path / "page" / "pictures").iterdir()}
    names = "scores curves recall confusion-1 confusion-2"
    assert pictures == {f"compare-{name}" for name in names.split()}
    assert "Settings that differ" in (tmp_path / "page" / "compare.html").read_text()


def test_a_run_without_tables_or_machine_still_compares(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = {"encoder": "truncated", "accuracy": 0.5, "tests": {}}
    old = run("old", [bare], data={})
    (old / "metrics.jsonl").unlink()
    text = printed(capsys, old, run("new"), "--out", tmp_path / "page")
    assert "old has no data.json" in text and "The machine of old is not known" in text
    assert "no interval for new" in text


def test_mistakes_are_one_line_that_names_the_folder(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = run("good")
    assert "alone has nothing" in refused(capsys, good)
    assert "given twice" in refused(capsys, good, good / ".")
    assert "absent is no folder" in refused(capsys, good, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "empty holds no run" in refused(capsys, good, tmp_path / "empty")
    assert "has task frames" in refused(capsys, good, run("ctc", [row(error_rate=0.5)], task="ctc"))
    assert "has labels phones" in refused(capsys, good, run("words", labels="words"))
    unfinished = run("unfinished")
    (unfinished / "results.json").unlink()
    assert "unfinished is not finished" in refused(capsys, good, unfinished)


@pytest.mark.parametrize("file", ["config.json", "data.json", "results.json"])
@pytest.mark.parametrize("content", ["{", "3", "[" * 100_000, "\x00", "[[]]"])
def test_a_damaged_file_is_named(run: Run, capsys: pytest.CaptureFixture[str], file: str, content: str) -> None:
    damaged = run("damaged")
    (damaged / file).write_text(content)
    assert f"damaged/{file} is damaged" in refused(capsys, run("good"), damaged)


@pytest.mark.parametrize(
    "changed",
    [
        {"accuracy": None},
        {"by_speaker": {"1": 3}},
        {"per_class": [1]},
        {"confusion": [[1], [2]]},
        {"confusion": [["a"]]},
        {"tests": {"x": 1}},
        {"made": 3},
    ],
    ids=str,
)
def test_a_damaged_result_is_one_line(run: Run, capsys: pytest.CaptureFixture[str], changed: dict[str, Any]) -> None:
    assert "damaged" in refused(capsys, run("good"), run("damaged", [row(**changed)]))


def test_equal_values_have_no_star(run: Run) -> None:
    _, rows = table_of(read_results([run("a"), run("b")]))
    assert not any("*" in cell for line in rows for cell in line)
