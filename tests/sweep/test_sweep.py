"""A sweep of two kinds on synthetic speech: it continues after a signal, keeps its speakers, and draws from records."""

import json
import re
import runpy
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from speechattn.data.synthetic.config import SyntheticConfig
from speechattn.data.synthetic.corpus import synthesize_corpus
from speechattn.encoder.baselines import build_encoder
from speechattn.errors import ConfigError, UserError
from speechattn.framing import HOP_MS
from speechattn.sweep.points import Point, runs, sight
from speechattn.sweep.records import Records, read_records
from speechattn.sweep.runner import RECORDS, measure_cost, run_sweep
from speechattn.sweep.table import figure, markdown_table
from speechattn.system.stop_signal import Interrupted
from speechattn.training.config import TrainConfig
from speechattn.training.trainer import Trainer

SCRIPT = Path(__file__).parents[2] / "recipes" / "frame_classifier" / "sweep.py"
POINTS = (
    Point("window", "attention, 3 and 2", "two-sided", {"left": 3, "right": 2}),
    Point("linear", "linear, 1 frame", "baseline", {"encoder": "linear"}),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    pytest.importorskip("espeakng_loader", reason="synthetic speech needs the extra [synth]")
    size = SyntheticConfig(train_utterances=12, test_utterances=2, train_speakers=6, test_speakers=2)
    folder = synthesize_corpus(tmp_path_factory.mktemp("cache"), size, progress=False)
    return TrainConfig(
        data=str(folder / "LibriSpeech"),
        alignments=str(folder / "alignments"),
        test_subsets=("test",),
        valid_fraction=0.3,
        cache=str(tmp_path_factory.mktemp("features")),
        workers=0,
        num_mels=20,
        d_model=16,
        num_heads=2,
        num_layers=2,
        d_ff=32,
        epochs=1,
        batch_frames=1000,
        augment=False,
    )


def scores(records: Records) -> list[tuple[str, int, float, dict[str, float]]]:
    return [(run.point, run.seed, run.accuracy, run.tests) for run in records.runs]


def test_an_interrupted_sweep_continues_to_the_same_records(
    base: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    whole = run_sweep(POINTS, base, [0, 1], tmp_path / "whole", "sweep.py", say=said.append)
    assert [line.split("  ")[0] for line in said] == ["1/4", "2/4", "3/4", "4/4"]
    assert "about 0 s of training left" in said[-1]
    assert [run[:2] for run in scores(whole)] == [("window", 0), ("linear", 0), ("window", 1), ("linear", 1)]
    step, steps = Trainer.step, 0

    def stopped(trainer: Trainer, frames: Tensor, lengths: Tensor, labels: Tensor) -> tuple[float, float]:
        nonlocal steps
        steps += 1
        if steps == whole.runs[0].steps + 2:  # inside the second run
            signal.raise_signal(signal.SIGTERM)
        return step(trainer, frames, lengths, labels)

    monkeypatch.setattr(Trainer, "step", stopped)
    with pytest.raises(Interrupted):
        run_sweep(POINTS, base, [0, 1], tmp_path / "stopped", "sweep.py", say=said.append)
    assert [run.point for run in read_records(tmp_path / "stopped" / RECORDS).runs] == ["window"]
    again = run_sweep(POINTS, base, [0, 1], tmp_path / "stopped", "sweep.py", say=said.append)
    assert scores(again) == scores(whole)
    assert not list(tmp_path.rglob("report.html"))  # no pictures for each of many runs
    assert steps == sum(run.steps for run in whole.runs)  # nothing was trained twice
    assert scores(read_records(tmp_path / "stopped" / RECORDS)) == scores(whole)


def test_seeds_change_weights_and_not_the_validation_speakers(base: TrainConfig, tmp_path: Path) -> None:
    run_sweep(POINTS[1:], base, [0, 7], tmp_path, "sweep.py", say=str)
    sides = [json.loads((tmp_path / f"seed-{seed}" / "linear" / "data.json").read_text()) for seed in (0, 7)]
    assert sides[0] == sides[1]
    weights = [(tmp_path / f"seed-{seed}/linear/model/model.safetensors").read_bytes() for seed in (0, 7)]
    assert weights[0] != weights[1]
    with pytest.raises(UserError, match="other settings: epochs was 1 and is 2"):
        run_sweep(POINTS[1:], replace(base, epochs=2), [0], tmp_path, "sweep.py", say=str)


def test_the_context_of_a_point_is_what_its_encoder_describes() -> None:
    for point in POINTS:
        config = point.config(TrainConfig(splice=2, num_layers=2))
        encoder, seen = build_encoder(config.encoder_config(config.encoder)), sight(config)
        assert (seen.lookback, seen.lookahead) == (encoder.lookback, encoder.lookahead)
        assert f"({seen.lookback_ms:.10g} ms)" in encoder.describe().splitlines()[-1]
        start, stop = encoder.receptive_field(100)
        assert stop is not None
        assert (seen.context, seen.context_ms) == (stop - start, (stop - start) * HOP_MS)
    assert sight(TrainConfig(encoder="bigru")).context_ms is None


def test_runs_go_seed_by_seed_and_impossible_points_are_refused() -> None:
    planned = [
        (point.name, config.seed, config.split_seed) for point, config in runs(POINTS, TrainConfig(), [3, 4], "o")
    ]
    assert planned == [("window", 3, 0), ("linear", 3, 0), ("window", 4, 0), ("linear", 4, 0)]
    with pytest.raises(ConfigError, match="different names, got 'linear' twice"):
        list(runs([*POINTS, POINTS[1]], TrainConfig(), [0], "o"))


def test_costs_are_measured_in_processes_of_their_own(base: TrainConfig, tmp_path: Path) -> None:
    cost = measure_cost(POINTS[0], base, tmp_path / "cost", audio_s=2.0)
    assert cost.status == "ok", cost.note
    assert cost.peak_tensor_bytes is not None
    assert cost.peak_tensor_bytes >= 200 * 16 * 4  # the output alone
    assert cost.seconds is not None


@pytest.fixture
def recorded(base: TrainConfig, tmp_path: Path) -> Path:
    run_sweep(POINTS, base, [0], tmp_path, "sweep.py --preset quick", say=str)
    return tmp_path / RECORDS


def test_table_and_figure_come_from_the_records_alone(recorded: Path, tmp_path: Path) -> None:
    records = read_records(recorded)
    table = markdown_table(records)
    run = records.runs[0]
    assert f"| attention, 3 and 2 | {run.context_ms:g} ms |" in table
    assert f"{run.accuracy:.4f}" in table and f"{run.tests['test']:.4f}" in table
    (axes,) = figure(records).axes
    drawn = {tuple(map(float, container[0].get_xydata()[0])) for container in axes.containers}
    assert drawn == {(each.context_ms, each.accuracy) for each in records.runs}
    assert all(each.command == "sweep.py --preset quick" and each.commit and each.date for each in records.runs)


def test_the_page_has_the_table_of_the_recorded_sweep() -> None:
    root = Path(__file__).parents[2]
    recorded = read_records(root / "docs" / "data" / "window_sweep.json")
    assert markdown_table(recorded) in (root / "docs" / "window.md").read_text(), "sweep.py --redraw prints the table"
    assert not any(re.search(r"(^|[ =])/", run.command) for run in recorded.runs), "no path of one machine"


def test_damaged_records_are_one_line(recorded: Path, tmp_path: Path) -> None:
    data = json.loads(recorded.read_text())
    damaged = tmp_path / "damaged.json"
    data["runs"][0]["accuracy"] = "high"
    for text in ("", "[]", '{"kind": "speechattn profile"}', json.dumps({**data, "format": 9}), json.dumps(data)):
        damaged.write_text(text)
        with pytest.raises(UserError, match=r"sweep\.py wrote|reads format 1"):
            read_records(damaged)


def run_script(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> str | int | None:
    monkeypatch.setattr("sys.argv", ["sweep.py", *arguments])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    return exit_.value.code


def test_the_script_sweeps_and_redraws(
    base: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", base.data, "--alignments", str(base.alignments), "--test-subsets", "test", "--num-mels", "20"]
    given += ["--cache", str(base.cache), "--workers", "0", "--out", str(tmp_path / "sweep")]
    assert run_script(["--preset", "quick", "--points", "linear", *given], monkeypatch) == 0
    table = capsys.readouterr().out.partition("| encoder")[2].partition("\n\n")[0]
    assert "linear, 1 frame" in table
    (run,) = read_records(tmp_path / "sweep" / RECORDS).runs
    assert "--data DIR/LibriSpeech" in run.command and str(tmp_path) not in run.command
    redrawn = tmp_path / "again.png"
    records = str(tmp_path / "sweep" / RECORDS)
    assert run_script(["--redraw", records, "--plot", str(redrawn)], monkeypatch) == 0
    assert table in capsys.readouterr().out
    assert redrawn.stat().st_size > 10_000


def test_mistakes_of_the_script_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, message in [
        (["--preset", "big"], "--preset must be one of quick, window, got 'big'"),
        (["--preset", "quick", "--points", "lstm"], "'lstm' is none of attention-left-4-right-4, linear"),
        (["--redraw", "absent.json"], "absent.json cannot be read"),
    ]:
        code = run_script(arguments, monkeypatch)
        assert isinstance(code, str)
        assert message in code and "\n" not in code
