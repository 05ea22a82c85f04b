"""The folder of a run: whether the run that it holds is the one that the user asks for.

Where data lie is no setting of a run: a hash of what they are decides. Not here: results and checkpoints.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechattn.errors import UserError
from speechattn.system.run_lock import RunLock
from speechattn.system.serialization import parse_json
from speechattn.training.config import TrainConfig

MAY_CHANGE = (
    "out",
    "data",
    "alignments",
    "lexicon",
    "max_bad",
    "checkpoint_seconds",
    "epochs",
    "accumulate",
    "cache",
    "workers",
)
"""Settings that may differ between two starts of a run; stages.py checks the epochs."""


def make_folder(folder: Path) -> None:
    """Create the folder of a run.

    Raises:
        UserError: the system refuses.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {folder} cannot be made ({error.strerror}); choose another folder.") from error


def check_settings(folder: Path, config: TrainConfig) -> None:
    """Raise UserError if `folder` holds a run with other settings."""
    if not (folder / "config.json").exists():
        return
    wanted = config.to_dict()
    # A setting that is newer than the run had its default value.
    found = {**TrainConfig().to_dict(), **read_object(folder / "config.json")}
    differing = [
        key for key in {**found, **wanted} if comparable(key, found.get(key)) != comparable(key, wanted.get(key))
    ]
    if differing:
        changes = [f"{key} was {found.get(key)!r} and is {wanted.get(key)!r}" for key in differing]
        raise _another_run(folder, "settings", changes)


def check_own_parts(folder: Path, names: Mapping[str, str]) -> None:
    """Raise UserError if `folder` holds a run with other parts of the caller than those of these `names`."""
    if not (folder / "config.json").exists():
        return
    found = read_object(folder / "own.json") if (folder / "own.json").exists() else {}
    changes = [
        f"{part} was {found.get(part, 'the usual one')} and is {names.get(part, 'the usual one')}"
        for part in {**found, **names}
        if found.get(part) != names.get(part)
    ]
    if changes:
        raise _another_run(folder, "parts", changes)


def comparable(key: str, value: Any) -> Any:
    """Return the part of a setting that two starts of a run must have in common."""
    if key in MAY_CHANGE:
        return None
    if key in ("noise", "init"):  # the ids of noisy copies hold names and sizes of its files; a hash is that of init
        return value is None
    return sorted(set(value)) if key in ("test_subsets", "baselines") and isinstance(value, list) else value


def check_data(folder: Path, contents: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise UserError if `folder` holds a run on other data; `contents` has a Fingerprint for each part of them."""
    if not (folder / "data.json").exists():
        return
    found = read_object(folder / "data.json")
    changes = []
    for side, now in contents.items():
        before = found.get(side)
        if not isinstance(before, dict) or before.keys() != now.keys():
            changes.append(f"{side} was written by another version of speechattn")
            continue
        counts = [key for key in ("utterances", "speakers", "frames") if before[key] != now[key]]
        changes += [f"{side} had {before[key]} {key} and has {now[key]}" for key in counts]
        if not counts:
            changes += [f"the {key} of {side} differ" for key in ("ids", "labels") if before[key] != now[key]]
            changes += [f"sound files of {side} differ"] if before["sound"] != now["sound"] else []
    if changes:
        raise _another_run(folder, "data", changes)


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object that an earlier start of the run wrote to `path`.

    Raises:
        UserError: the file is damaged.
    """
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
    except ValueError as error:
        raise UserError(
            f"{path} is damaged ({error}). Restore it, choose another --out, or --restart to move the run aside."
        ) from error
    return found


def move_aside(folder: Path) -> None:
    """Rename the folder of a run to the first free `<name>.previous-<n>`; nothing is deleted."""
    if not folder.exists():
        return
    if folder.name in ("", ".."):
        raise UserError(f"--restart cannot move {folder} aside: give --out a folder of its own.")
    if not (folder / "config.json").exists():
        return  # no run, at most what a failed start left
    with RunLock(folder):
        number = 1
        while (target := folder.with_name(f"{folder.name}.previous-{number}")).exists():
            number += 1
        folder.rename(target)
    print(f"the run that was in {folder} is now in {target}")


def _another_run(folder: Path, what: str, changes: list[str]) -> UserError:
    return UserError(
        f"{folder} holds a run with other {what}: {', '.join(changes[:5])}. Choose another --out, or --restart to "
        "move it aside."
    )
