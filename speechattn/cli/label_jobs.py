"""The recordings that `speechattn label` was given, and the names of their labels. Does not import torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from speechattn.data.audio.source import SOUND_SUFFIXES
from speechattn.errors import UserError
from speechattn.system.folders import files_below, has_suffix


class Job(NamedTuple):
    """A sound file, and the name of its labels below the output folder."""

    sound: Path
    name: str


def find_jobs(sources: Sequence[Path], suffix: str) -> list[Job]:
    """Return the sound files, each once, with the names of their labels, before torch is imported.

    Raises:
        UserError: a source does not exist, a folder has no sound files, or two files would have one name.
    """
    jobs: dict[str, Job] = {}
    for source in sources:
        if not os.path.exists(source):  # unlike Path.exists, False in a folder without permission
            raise UserError(f"{source} does not exist. Give sound files, or folders that hold some.")
        found = [source]
        if source.is_dir():
            found = [path for path in files_below(source) if has_suffix(path, *SOUND_SUFFIXES)]
            if not found:
                raise UserError(f"{source} holds no sound files: expected {', '.join(SOUND_SUFFIXES)} at any depth.")
        for path in found:
            below = path.relative_to(source) if source.is_dir() else Path(path.name)
            job = Job(path, str(below.with_name(below.stem + suffix)))
            other = jobs.setdefault(job.name, job)
            if not other.sound.samefile(path):
                raise UserError(
                    f"{other.sound} and {path} would both become {job.name}: rename one, or label them into separate "
                    "--out folders."
                )
    return list(jobs.values())
