"""Checkpoints on disk: loaded only if complete and verified; writing one never damages the previous one.

    runs/a/step-00001230/model.safetensors      one file for every group of tensors
                         optimizer.safetensors
                         state.json             everything that is not a tensor
                         SHA256SUMS             written last; `sha256sum -c SHA256SUMS` reads it too
    runs/a/latest                               a hint for people; loading never needs it

A checkpoint is written to a temporary folder (`step-00001230.tmp-<pid>`), synced to the disk and renamed, so after a
kill or on a full disk the previous one is still there. Loading reads each file once, verifies its checksum and parses
the same bytes. Files are safetensors and JSON, so none can run code, and a flipped bit is an error, which neither
safetensors nor `torch.load` reports. Not here: the contents of a run's state (optimizer_state.py prepares that of an
optimizer), and when to save.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from speechattn.errors import DataError, UserError
from speechattn.system.atomic_files import (
    free_space,
    megabytes,
    path_aside,
    remove_leftovers,
    sync_directory,
    write_bytes,
    write_synced,
)

FORMAT = 1
_SUMS = "SHA256SUMS"
_STATE = "state.json"
_STEP = re.compile(r"step-(\d{8,})(\.replaced)?")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: `tensors` by group and name, on the CPU; `state` as parsed from JSON."""

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]
    path: Path


def save_checkpoint(
    directory: str | Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    keep: int = 2,
) -> Path:
    """Write `directory/step-<step>`, then remove all but the newest `keep`; return the folder.

    `tensors` holds groups, for example ``{"model": model.state_dict(), "optimizer": ...}``; each becomes one file.
    `state` must be JSON. Checkpoints of later steps are kept.

    Raises:
        TypeError: state is not JSON.
        ValueError: step is negative, keep is less than 1, or the name of a group is no file name.
        UserError: the disk is full or refuses; earlier checkpoints are unchanged.
    """
    directory = Path(directory)
    if step < 0 or keep < 1:
        raise ValueError(f"save_checkpoint needs step >= 0 and keep >= 1, got step {step} and keep {keep}.")
    for group in tensors:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", group):
            raise ValueError(f"a group of tensors becomes a file name: letters, digits, _ and - only, got {group!r}.")
    text = json.dumps({"format": FORMAT, "step": step, "state": state}, indent=2, ensure_ascii=False) + "\n"
    size = len(text) + sum(tensor.nbytes for group in tensors.values() for tensor in group.values())
    target = directory / f"step-{step:08d}"
    aside = path_aside(target)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _require_space(directory, step, size)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        sums = {f"{group}.safetensors": _write_tensors(aside, group, named) for group, named in tensors.items()}
        sums[_STATE] = write_synced(aside / _STATE, text.encode())
        write_synced(aside / _SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())
        sync_directory(aside)
        _put_in_place(aside, target)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise UserError(
            f"The checkpoint of step {step} cannot be written to {directory} ({error.strerror or error}): it needs "
            f"{megabytes(size)}, {free_space(directory)} free. Earlier checkpoints are intact. Free some space or "
            "choose another --out, then run the same command again."
        ) from error
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    with contextlib.suppress(OSError):  # the checkpoint is on the disk, and loading needs neither of these
        write_bytes(directory / "latest", f"{target.name}\n".encode())
        _prune(directory, step, keep)
    return target


def load_checkpoint(directory: str | Path) -> Checkpoint | None:
    """Return the newest checkpoint whose checksums match, None if there is none.

    A damaged one is skipped with a UserWarning that gives the reason, and the next older one is tried. Leftovers of a
    killed save are removed, except those of a process that still runs.
    """
    directory = Path(directory)
    remove_leftovers(directory)
    for step, path in _checkpoints(directory):
        try:
            return _read(step, path)
        except (DataError, OSError) as error:
            warnings.warn(f"Skipped the damaged checkpoint {path}: {error}", UserWarning, stacklevel=2)
    return None


def _read(step: int, path: Path) -> Checkpoint:
    """Read and verify one checkpoint; raise DataError or OSError if it is damaged."""
    if not (path / _SUMS).is_file():
        raise DataError(f"{_SUMS} is missing.")
    sums = _parse_sums((path / _SUMS).read_bytes())
    present = {entry.name for entry in path.iterdir()} - {_SUMS}
    if missing := sorted((sums.keys() | {_STATE}) - present):
        raise DataError(f"{missing[0]} is missing.")
    if unknown := sorted(present - sums.keys()):
        raise DataError(f"{unknown[0]} is not named in {_SUMS}.")
    tensors: dict[str, dict[str, Tensor]] = {}
    written: dict[str, Any] = {}
    for name, digest in sums.items():
        data = (path / name).read_bytes()
        if hashlib.sha256(data).hexdigest() != digest:
            raise DataError(f"{name} ({len(data)} bytes) does not match its sum in {_SUMS}.")
        try:
            if name == _STATE:
                written = json.loads(data)
            else:
                tensors[name.removesuffix(".safetensors")] = safetensors.torch.load(data)
        except (ValueError, safetensors.SafetensorError) as error:
            raise DataError(f"{name} is not what its name says ({error}).") from error
    if written.get("format") != FORMAT or written.get("step") != step:
        found = f"format {written.get('format')} of step {written.get('step')}"
        raise DataError(f"{_STATE} holds {found}, expected format {FORMAT} of step {step}.")
    return Checkpoint(step, tensors, written["state"], path)


def _parse_sums(data: bytes) -> dict[str, str]:
    """Return file name -> digest. Only names of checkpoint files are accepted, so no path leaves the folder."""
    if not data.endswith(b"\n"):
        raise DataError(f"{_SUMS} is cut short.")
    sums = {}
    for line in data.decode(errors="replace").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64})  (state\.json|[A-Za-z0-9_-]+\.safetensors)", line)
        if match is None:
            raise DataError(f"{_SUMS} has a line that is no sum: {line[:80]!r}.")
        sums[match[2]] = match[1]
    return sums


def _checkpoints(directory: Path) -> list[tuple[int, Path]]:
    """Return (step, folder) of everything named like a checkpoint, newest first, a replaced one after its successor."""
    found = []
    for path in directory.glob("step-*"):
        match = _STEP.fullmatch(path.name)
        if match and path.is_dir():
            found.append((int(match[1]), match[2] is None, path))
    return [(step, path) for step, _, path in sorted(found, reverse=True)]


def _put_in_place(aside: Path, target: Path) -> None:
    """Rename `aside` to `target`. An older `target` is renamed, and removed only once the new one is in place."""
    replaced = target.with_name(f"{target.name}.replaced")
    if target.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        target.rename(replaced)
    aside.rename(target)
    sync_directory(target.parent)


def _prune(directory: Path, step: int, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints up to `step`, renamed first: a kill leaves no half folder."""
    older = [path for other, path in _checkpoints(directory) if other <= step]
    kept = [path for path in older if not path.name.endswith(".replaced")][:keep]
    for path in older:
        if path not in kept:
            shutil.rmtree(path.rename(path_aside(path)), ignore_errors=True)


def _write_tensors(folder: Path, group: str, named: Mapping[str, Tensor]) -> str:
    """Write one group of tensors; return its sha256. Copies separate shared memory, which safetensors refuses."""
    copies = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in named.items()
    }
    return write_synced(folder / f"{group}.safetensors", safetensors.torch.save(copies))


def _require_space(directory: Path, step: int, size: int) -> None:
    """Raise UserError unless twice the size of this checkpoint or of the last, whichever is larger, is free."""
    last = next((path for _, path in _checkpoints(directory)), None)
    if last is not None:
        size = max(size, sum(file.stat().st_size for file in last.iterdir()))
    if shutil.disk_usage(directory).free < 2 * size:
        raise UserError(
            f"The checkpoint of step {step} needs {megabytes(2 * size)} free in {directory} (twice its size), "
            f"but {free_space(directory)} free. Free some space or choose another --out, "
            "then run the same command again."
        )
