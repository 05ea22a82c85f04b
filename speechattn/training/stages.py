"""Stages of a run that was given more epochs: each has a warmup and a cosine of the learning rate of its own.

A finished run has a learning rate of 0 at its end, so more epochs of the same schedule are not possible: they are a
further stage. `stages.json` in the folder of the run lists the epochs at which earlier stages ended, so that a start
which resumes the last stage computes the same learning rates.
"""

from __future__ import annotations

from pathlib import Path

from speechattn.errors import UserError
from speechattn.system.atomic_files import write_json
from speechattn.training.run_folder import read_object


def earlier_stages(folder: Path, epochs: int) -> tuple[int, ...]:
    """Return the epochs at which earlier stages of the run in `folder` end, if it is now to have `epochs`.

    Raises:
        UserError: the run has more epochs already.
    """
    if not (folder / "config.json").exists():
        return ()
    before = read_object(folder / "config.json").get("epochs")
    if type(before) is not int or before > epochs:
        raise UserError(
            f"{folder} holds a run of {before} epochs, and --epochs is {epochs}: a run can be given more epochs, not "
            "fewer. Choose another --out, or --restart to move it aside."
        )
    ends = {before}
    if (folder / "stages.json").exists():
        ends.update(read_object(folder / "stages.json").get("ends", ()))
    return tuple(end for end in sorted(ends) if end < epochs)


def record_stages(folder: Path, stages: tuple[int, ...]) -> None:
    """Write the ends of earlier stages into the folder of a run, before its config.json has the new epochs."""
    if stages:
        write_json(folder / "stages.json", {"ends": stages})
