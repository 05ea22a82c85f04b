"""One result to compare: what the folder of a run, or of a baseline inside a run, holds about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from speechattn.errors import UserError
from speechattn.system.serialization import parse_json
from speechattn.training.config import EncoderKind, TaskName, TrainConfig
from speechattn.training.encoder_costs import encoder_costs
from speechattn.training.result_columns import main_score, number, with_tests
from speechattn.training.run_log import read_metrics


@dataclass(frozen=True)
class RunResult:
    """A trained encoder with its scores: a run's own encoder, or one of its baselines."""

    folder: Path
    name: str
    """What tables and figures call it."""
    task: str
    settings: Mapping[str, Any]
    """All settings of the run; one that is newer than the run has its default."""
    row: Mapping[str, Any]
    """The row of results.json, with costs, and the main score of each test subset under "tests/<name>"."""
    data: Mapping[str, Mapping[str, Any]]
    """The fingerprints of the data, {} if the run has none."""
    records: Sequence[Mapping[str, Any]]
    """The records of this encoder in metrics.jsonl, with `name` as their encoder."""


def read_results(folders: Sequence[Path]) -> list[RunResult]:
    """Return the results in folders of runs, or of baselines inside runs.

    Raises:
        UserError: a folder is given twice, holds no finished run, or has a damaged file; or tasks differ.
    """
    places = [folder.resolve() for folder in folders]
    for place, folder in enumerate(folders):
        if places[place] in places[:place]:
            raise UserError(f"{folder} is given twice: compare different runs.")
    results = [_read(folder, name) for folder, name in zip(folders, _names(places), strict=True)]
    first = results[0]
    for other in results[1:]:
        for what, one, two in (
            ("task", first.task, other.task),
            ("labels", first.settings["labels"], other.settings["labels"]),
        ):
            if one != two:
                raise UserError(
                    f"{first.folder} has {what} {one} and {other.folder} has {what} {two}: their scores are not of "
                    f"one kind. Compare runs with the same --{what}."
                )
    return results


def _names(places: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that tell them apart; a baseline has its run's name, too."""
    parts = [[part for part in place.parts if part != "baselines"] for place in places]
    least = [2 if place.parent.name == "baselines" else 1 for place in places]
    names = ["/".join(own[-length:]) for own, length in zip(parts, least, strict=True)]
    for length in range(2, 1 + max(map(len, parts))):
        if len(set(names)) == len(names):
            break
        names = [
            "/".join(own[-length:]) if names.count(name) > 1 else name for own, name in zip(parts, names, strict=True)
        ]
    return names if len(set(names)) == len(names) else [str(place) for place in places]


def _read(folder: Path, name: str) -> RunResult:
    run = folder.resolve().parent.parent if folder.resolve().parent.name == "baselines" else folder
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder: give the --out of a run, or baselines/ENCODER inside it.")
    if not (run / "config.json").exists():
        raise UserError(f"{folder} holds no run: it has no config.json. Give the --out of speechattn train.")
    settings = {**TrainConfig().to_dict(), **_object(run / "config.json")}
    if isinstance(settings["encoder"], dict) or (folder / "model.safetensors").exists():
        raise UserError(f"{folder} holds a saved model, without scores: give the folder of the run around it.")
    task, kind = settings["task"], folder.resolve().name if run != folder else settings["encoder"]
    if task not in get_args(TaskName):
        raise UserError(f"{run / 'config.json'} has the task {task!r}, which this version does not know.")
    row = _row(folder, run, kind)
    check_row(folder, row, task)
    data = _object(run / "data.json") if (run / "data.json").exists() else {}
    return RunResult(
        folder,
        name,
        task,
        settings,
        {**with_tests(task, row), **_costs(settings, kind)},
        {part: found for part, found in data.items() if isinstance(found, dict)},
        _records(run, kind, name),
    )


def _row(folder: Path, run: Path, kind: str) -> dict[str, Any]:
    """Return the result of one encoder: from the run's results.json, else from the encoder's own result.json.

    A run that is not finished has no results.json, but each encoder that is trained and scored has a result.json.
    """
    if (run / "results.json").exists():
        found = _json(run / "results.json")
        rows = found if isinstance(found, list) else []
        own = next((row for row in rows if isinstance(row, dict) and row.get("encoder") == kind), None)
        if own is None:
            raise UserError(f"{run / 'results.json'} is damaged: it has no row of the encoder {kind}.")
        return own
    if (folder / "result.json").exists():
        return _object(folder / "result.json")
    raise UserError(
        f"{folder} is not finished: the encoder {kind} has no scores yet. Give the command of the run again to "
        "continue it."
    )


def check_row(folder: Path, row: Mapping[str, Any], task: str) -> None:
    """Raise UserError if a result lacks its main score, or its tables have another shape than this version writes."""
    key = main_score(task).key
    if number(row.get(key)) is None:
        raise UserError(f"{folder} has no {key}: its result is damaged, or nothing was scored.")
    faults = {
        "tests": isinstance(tests := row.get("tests") or {}, dict) and all(isinstance(x, dict) for x in tests.values()),
        "by_speaker": _pairs(row.get("by_speaker") or {}),
        "per_class": _pairs(row.get("per_class") or {}),
        "confusion": _square(row.get("confusion") or []),
        "made": isinstance(row.get("made") or {}, dict),
    }
    for name, right in faults.items():
        if not right:
            raise UserError(f"{folder} has a damaged result: {name} is not what a run writes.")


def _pairs(table: object) -> bool:
    """Return whether a table is name -> [number or None, number]."""
    return isinstance(table, dict) and all(
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and number(pair[1]) is not None
        and (pair[0] is None or isinstance(pair[0], int | float))
        for pair in table.values()
    )


def _square(matrix: object) -> bool:
    return isinstance(matrix, list) and all(
        isinstance(line, list) and len(line) == len(matrix) and all(number(count) is not None for count in line)
        for line in matrix
    )


def _costs(settings: Mapping[str, Any], kind: str) -> dict[str, float | None]:
    """Return the costs of an encoder; those that settings of another version do not give are missing."""
    known = {key: value for key, value in settings.items() if key in TrainConfig.__dataclass_fields__}
    if kind not in get_args(EncoderKind):
        return {}
    try:
        return encoder_costs(TrainConfig.from_dict(known), kind)  # type: ignore[arg-type]
    except (UserError, TypeError, ValueError):
        return {}


def _records(run: Path, kind: str, name: str) -> list[dict[str, Any]]:
    """Return the records of one encoder, under the name of its run."""
    if not (run / "metrics.jsonl").exists():
        return []
    return [
        {**record, "encoder": name} for record in read_metrics(run / "metrics.jsonl") if record.get("encoder") == kind
    ]


def _object(path: Path) -> dict[str, Any]:
    found = _json(path)
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged: it holds a {type(found).__name__}, not an object.")
    return found


def _json(path: Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        UserError: it cannot be read, or is no JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}). Restore it, or leave this run out.") from error
