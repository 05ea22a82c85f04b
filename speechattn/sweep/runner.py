"""Run a sweep: ordinary training runs in folders of their own, then the costs of each encoder over a long input.

    <out>/seed-<n>/<point>/    the run, as speechattn.training.run leaves it, and run.log, what it printed
    <out>/costs/<point>/       the profile of its encoder
    <out>/sweep.json           the records, rewritten atomically after each run and measurement

A sweep that was stopped or killed continues: recorded runs are skipped, an interrupted one resumes.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechattn.errors import UserError
from speechattn.profiling.results import OK
from speechattn.profiling.runner import run_profile
from speechattn.profiling.settings import MODEL, Settings
from speechattn.sweep.points import Point, runs, sight
from speechattn.sweep.records import Cost, Records, SweepRun, read_records
from speechattn.system.machine_info import commit, processor, versions
from speechattn.system.serialization import to_dict
from speechattn.system.units import format_duration
from speechattn.training.config import TrainConfig
from speechattn.training.run import run

RECORDS = "sweep.json"
MACHINE = ("out", "threads", "cache", "workers", "checkpoint_seconds", "device", "data", "alignments", "max_bad")
"""Base settings that two starts of a sweep need not have in common: where things lie, and the machine's."""


def run_sweep(
    points: Sequence[Point],
    base: TrainConfig,
    seeds: Sequence[int],
    out: Path,
    command: str,
    audio_s: float | None = None,
    say: Callable[[str], object] = print,
) -> Records:
    """Train what `out` does not hold yet, measure costs over `audio_s` seconds of input, and return all records.

    `command` is what a record says it came from; None as `audio_s` measures no costs. `say` gets a line for each run.

    Raises:
        UserError: `out` holds a sweep of other base settings, or a run cannot be made.
        Interrupted: a signal came; the same call continues.
    """
    wanted = list(runs(points, base, seeds, str(out)))
    path = out / RECORDS
    records = _earlier(path, base)
    seen = [(point.name, config.seed) for point, config in wanted]
    took = {(run.point, run.seed): run.wall_s for run in records.runs}
    for i, (point, config) in enumerate(wanted):
        if records.find(point.name, config.seed) is None:
            record = _train(point, config, command)
            records.runs.append(record)
            records.write(path)
            took[point.name, config.seed] = record.wall_s
            ahead = remaining_s(seen[i + 1 :], took)
            say(
                f"{i + 1}/{len(wanted)}  {point.label}, seed {config.seed}: {record.accuracy:.4f} in "
                f"{format_duration(record.wall_s)}; about {format_duration(ahead)} of training left"
            )
    for point in points if audio_s is not None else ():
        if records.cost(point.name) is None:
            assert audio_s is not None
            records.costs.append(measure_cost(point, base, out / "costs" / point.name, audio_s))
            records.write(path)
            say(f"costs of {point.label}: {records.costs[-1].status}")
    return records


def remaining_s(ahead: Sequence[tuple[str, int]], took: Mapping[tuple[str, int], float]) -> float:
    """Return the seconds that runs `ahead`, as (point, seed), will take, by those that `took` has.

    A point takes as long as with other seeds; one without any takes the mean of all.

    Examples:
        >>> remaining_s([("b", 0), ("a", 1)], {("a", 0): 10.0, ("c", 0): 30.0})
        30.0
    """
    if not took:
        return 0.0
    mean = sum(took.values()) / len(took)
    known: dict[str, float] = {name: seconds for (name, _), seconds in took.items()}
    return sum(known.get(name, mean) for name, seed in ahead if (name, seed) not in took)


def measure_cost(point: Point, base: TrainConfig, folder: Path, audio_s: float) -> Cost:
    """Return time and memory of one pass of the point's encoder, untrained, over so many seconds of frames."""
    config = point.config(base)
    folder.mkdir(parents=True, exist_ok=True)
    settings = Settings(replace(config.encoder_config(config.encoder), dropout=0.0, layer_dropout=0.0), threads=1)
    profile = run_profile(settings, [MODEL], [audio_s], folder)
    found = profile.find(MODEL, audio_s)
    assert found is not None
    measured = found.status == OK
    return Cost(
        point=point.name,
        audio_s=audio_s,
        status=found.status,
        seconds=found.seconds if measured else None,
        peak_extra_bytes=found.peak_extra_bytes if measured else None,
        peak_tensor_bytes=found.peak_tensor_bytes if measured else None,
        note=found.note,
        commit=profile.machine["commit"],
        cpu=processor(),
    )


def _earlier(path: Path, base: TrainConfig) -> Records:
    """Return the records in the folder, or none yet; a sweep of other base settings is refused."""
    settings = {key: value for key, value in to_dict(base).items() if key not in MACHINE}
    if not path.exists():
        return Records(settings)
    records = read_records(path)
    # A setting that is newer than the records had its default value.
    found = {**to_dict(TrainConfig()), **records.settings}
    changed = [key for key in {**settings, **records.settings} if settings.get(key) != found.get(key)]
    if changed:
        changes = ", ".join(f"{key} was {found.get(key)!r} and is {settings.get(key)!r}" for key in changed)
        raise UserError(f"{path} is of a sweep with other settings: {changes}. Choose another --out.")
    return records


def _train(point: Point, config: TrainConfig, command: str) -> SweepRun:
    """Run one point, or finish it, and return its record."""
    folder = Path(config.out)
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    with (folder / "run.log").open("a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        run(config, report=False)
    wall_s = time.perf_counter() - begin
    result: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))[0]
    seen = sight(config)
    return SweepRun(
        point=point.name,
        label=point.label,
        family=point.family,
        seed=config.seed,
        encoder=config.encoder,
        context_ms=seen.context_ms,
        lookback_ms=seen.lookback_ms,
        lookahead_ms=seen.lookahead_ms,
        accuracy=result["accuracy"],
        accuracy_no_sil=result["accuracy_no_sil"],
        frames=result["frames"],
        tests={name: scores["accuracy"] for name, scores in result["tests"].items()},
        parameters=result["parameters"],
        epochs=result["epochs"],
        steps=result["steps"],
        seconds=result["seconds"],
        train_frames_per_s=round(result["train_frames_per_s"], 1),
        frames_per_s=round(result["frames_per_s"], 1),
        wall_s=round(wall_s, 1),
        settings=to_dict(dict(point.settings)),
        command=command,
        commit=commit(),
        cpu=processor(),
        versions=versions(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
