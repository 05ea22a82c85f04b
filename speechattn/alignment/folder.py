"""The folder of an alignment: whether the one that it holds is the one that is asked for, and its acoustic model.

align.json has the settings, and for each finished subset a hash of its inputs and where its model is. What each subset
is aligned from is compared on its own, so that new recordings or a longer lexicon need no other folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechattn.alignment.results import TABLES
from speechattn.alignment.settings import MAY_CHANGE, AlignSettings
from speechattn.errors import UserError
from speechattn.models.pretrained import FOLDER, PRETRAINED
from speechattn.system.atomic_files import write_json
from speechattn.system.serialization import parse_json, to_dict

_STATE = "align.json"


class AlignmentFolder:
    """The state of an alignment in a folder, kept in align.json.

    Raises:
        UserError: the folder holds an alignment with other settings, or align.json is damaged.
    """

    def __init__(self, path: Path, settings: AlignSettings) -> None:
        self.path = path
        self._settings = {key: value for key, value in to_dict(settings).items() if key not in MAY_CHANGE}
        found = _read_state(path)
        before = found.get("settings", self._settings)
        changes = [
            f"{key} was {before.get(key)!r} and is {self._settings.get(key)!r}"
            for key in {**before, **self._settings}
            if before.get(key) != self._settings.get(key)
        ]
        if changes:
            raise UserError(
                f"{path} holds an alignment with other settings: {', '.join(changes)}. Choose another --out, or remove "
                "the folder."
            )
        self._textgrids = settings.textgrids
        self._subsets: dict[str, dict[str, Any]] = found.get("subsets", {})

    def is_done(self, subset: str, inputs: str) -> bool:
        """Return whether the subset was aligned from these inputs, and what the settings ask for is there."""
        tables = all((self.path / f"{subset}.{table}").is_file() for table in TABLES)
        entry = self._subsets.get(subset, {})
        return tables and entry.get("inputs") == inputs and (bool(entry.get("textgrids")) or not self._textgrids)

    def model(self, subset: str) -> Path:
        """Return the folder of the acoustic model that aligned a finished subset."""
        return self.path / str(self._subsets[subset]["model"])

    def finish(self, subset: str, inputs: str, model: Path) -> None:
        """Add a finished subset, and the acoustic model that aligned it."""
        base, model = self.path.resolve(), model.resolve()  # inside, the path is relative: the folder may be moved
        kept = model.relative_to(base) if model.is_relative_to(base) else model
        self._subsets[subset] = {"inputs": inputs, "model": str(kept), "textgrids": self._textgrids}
        write_json(self.path / _STATE, {"settings": self._settings, "subsets": self._subsets})


def find_model(folder: str | Path) -> Path:
    """Return the folder of an acoustic model, given the folder of an alignment, or the name of a pretrained model.

    Raises:
        UserError: there is none.
    """
    if folder in PRETRAINED:
        return FOLDER / str(folder)
    folder = Path(folder)
    if (folder / "prior.json").is_file():
        return folder
    models = {folder / str(subset.get("model")) for subset in _read_state(folder).get("subsets", {}).values()}
    found = [path for path in sorted(models) if (path / "prior.json").is_file()]
    if not found:
        raise UserError(
            f"--model {folder} holds no finished alignment, whose acoustic model could be used: give the --out of an "
            f"earlier speechattn align, or {' or '.join(PRETRAINED)}."
        )
    return found[0]


def _read_state(folder: Path) -> dict[str, Any]:
    """Return align.json; empty if there is none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / _STATE
    if not path.is_file():
        return {}
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        if not (isinstance(found, dict) and _is_state(found.get("settings"), found.get("subsets"))):
            raise ValueError("it holds something else")
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): remove it to align again, or choose another --out.") from error
    return found


def _is_state(settings: object, subsets: object) -> bool:
    """Return whether the two values of align.json are what `finish` writes."""
    return (
        isinstance(settings, dict)
        and isinstance(subsets, dict)
        and all(isinstance(entry, dict) and {"inputs", "model"} <= entry.keys() for entry in subsets.values())
    )
