"""The records of a sweep, one JSON object a run and one a measurement of costs, and the means over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechattn.errors import UserError
from speechattn.system.atomic_files import to_json, write_bytes
from speechattn.system.recorded_json import read_recorded
from speechattn.system.serialization import to_dict

KIND, FORMAT = "speechattn sweep", 1


@dataclass(frozen=True)
class SweepRun:
    """One run: a point of the sweep with one seed.

    Args:
        point, label, family: as in Point.
        seed: of weights, batches and dropout.
        encoder: kind of the run's own encoder.
        context_ms, lookback_ms, lookahead_ms: of the whole encoder; None is without limit.
        accuracy: share of the frames of the validation side whose class is right.
        tests: the same of each test subset.
        seconds: of training steps alone; `wall_s` is the whole run, with data, scores and report.
        settings: what the point changes in the base settings.
    """

    point: str
    label: str
    family: str
    seed: int
    encoder: str
    context_ms: float | None
    lookback_ms: float | None
    lookahead_ms: float | None
    accuracy: float
    accuracy_no_sil: float
    frames: int
    tests: dict[str, float]
    parameters: int
    epochs: int
    steps: int
    seconds: float
    train_frames_per_s: float
    frames_per_s: float
    wall_s: float
    settings: dict[str, Any]
    command: str
    commit: str
    cpu: str
    versions: dict[str, str]
    date: str

    def __post_init__(self) -> None:
        numbers = self.accuracy, self.seconds, self.wall_s, *self.tests.values()
        contexts = [ms for ms in (self.context_ms, self.lookback_ms, self.lookahead_ms) if ms is not None]
        if not all(isinstance(number, (int, float)) for number in (*numbers, *contexts)):
            raise TypeError(f"the run of {self.point!r} with seed {self.seed} has something else where numbers belong")


@dataclass(frozen=True)
class Cost:
    """Time and memory of one pass of a point's encoder over a long input, measured in processes of their own.

    `status` is that of a profile ("ok", "out of memory", ...); numbers are None where nothing was measured.
    """

    point: str
    audio_s: float
    status: str
    seconds: float | None
    peak_extra_bytes: int | None
    peak_tensor_bytes: int | None
    note: str
    commit: str
    cpu: str


@dataclass(frozen=True)
class Summary:
    """One point over its seeds: mean, lowest and highest accuracy, and its costs."""

    first: SweepRun
    seeds: int
    mean: float
    low: float
    high: float
    tests: dict[str, tuple[float, float, float]]
    """(mean, lowest, highest) of each test subset."""
    train_s: float
    """Mean seconds of training steps."""
    cost: Cost | None


@dataclass
class Records:
    """Everything that a sweep wrote: its base settings, runs and costs."""

    settings: dict[str, Any]
    runs: list[SweepRun] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)

    def find(self, point: str, seed: int) -> SweepRun | None:
        """Return the run of a point with a seed, if it is recorded."""
        return next((run for run in self.runs if (run.point, run.seed) == (point, seed)), None)

    def cost(self, point: str) -> Cost | None:
        """Return the measured costs of a point, if they are recorded."""
        return next((cost for cost in self.costs if cost.point == point), None)

    def summaries(self) -> list[Summary]:
        """Return each point over its seeds, in the order of the first runs."""
        found = []
        for name in dict.fromkeys(run.point for run in self.runs):
            runs = [run for run in self.runs if run.point == name]
            tests = {key: _spread([run.tests[key] for run in runs]) for key in runs[0].tests}
            train_s = statistics.fmean(run.seconds for run in runs)
            mean, low, high = _spread([run.accuracy for run in runs])
            found.append(Summary(runs[0], len(runs), mean, low, high, tests, train_s, self.cost(name)))
        return found

    def write(self, path: Path) -> None:
        """Write all records atomically, one JSON object a line, so that a change of one run changes one line."""
        runs, costs = (
            ",\n".join(f"    {to_json(to_dict(record))}" for record in records) for records in (self.runs, self.costs)
        )
        text = (
            f'{{\n  "kind": {to_json(KIND)},\n  "format": {FORMAT},\n  "settings": {to_json(self.settings)},\n'
            f'  "runs": [\n{runs}\n  ],\n  "costs": [\n{costs}\n  ]\n}}\n'
        )
        write_bytes(path, text.encode("utf-8", "backslashreplace"))


def read_records(path: Path) -> Records:
    """Return the records that `Records.write` wrote.

    Raises:
        UserError: the file cannot be read, is not JSON, or not the records of a sweep of this format.
    """
    hint = "Give the file that recipes/frame_classifier/sweep.py wrote."
    data = read_recorded(path, KIND, FORMAT, "the record of a sweep", hint)
    try:
        runs = [SweepRun(**run) for run in data["runs"]]
        return Records(dict(data["settings"]), runs, [Cost(**cost) for cost in data["costs"]])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} holds damaged records ({error}). {hint}") from error


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.fmean(values), min(values), max(values)
