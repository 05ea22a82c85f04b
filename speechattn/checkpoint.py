"""Checkpoints that are complete and verified, or ignored; the previous one is never damaged.

    runs/a/step-00001230/model.safetensors      one file for every group of tensors
                         optimizer.safetensors
                         state.json             what is not a tensor
                         SHA256SUMS             written last; `sha256sum -c SHA256SUMS` reads it too
    runs/a/latest                               a hint for people; loading never needs it

A checkpoint is written aside (`step-00001230.tmp-<pid>`), synced to the disk and renamed, so a kill or a full
disk at any moment leaves the one before. Loading reads each file once, compares its sum and parses those same
bytes: safetensors and JSON only, so no file can run code, and a flipped bit is noticed, which neither
safetensors nor `torch.load` does. Not here: what a training run puts into its state, and when it saves.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import random
import re
import shutil
import warnings
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from speechattn.errors import DataError, UserError

FORMAT = 1
_SUMS = "SHA256SUMS"
_STATE = "state.json"
_STEP = re.compile(r"step-(\d{8,})(\.replaced)?")
_LEFTOVER = re.compile(r".+\.tmp-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: `tensors` by group and name, on the CPU; `state` as JSON gives it back."""

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
    """The folder `directory/step-<step>`, once it is whole and on the disk; then all but the newest `keep` go.

    `tensors` holds groups, for example ``{"model": model.state_dict(), "optimizer": ...}``, and each becomes
    one file. `state` must be JSON. Checkpoints of later steps are not touched: they are not older than this one.

    Raises:
        TypeError: state is not JSON.
        ValueError: step is negative, keep is less than 1, or a group's name cannot be a file's.
        UserError: the disk is too full or refuses; earlier checkpoints are as they were.
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
    aside = _aside(target)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _require_space(directory, step, size)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        sums = {f"{group}.safetensors": _write_tensors(aside, group, named) for group, named in tensors.items()}
        sums[_STATE] = _write_synced(aside / _STATE, text.encode())
        _write_synced(aside / _SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())
        _sync_directory(aside)
        _put_in_place(aside, target)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise UserError(
            f"The checkpoint of step {step} cannot be written to {directory} ({error.strerror or error}): it needs "
            f"{_megabytes(size)}, {_free(directory)} free. Earlier checkpoints are intact. Free some space or choose "
            "another --output, then run the same command again."
        ) from error
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    with contextlib.suppress(OSError):  # the checkpoint is safe by now, and neither of these is needed to load it
        write_bytes(directory / "latest", f"{target.name}\n".encode())
        _prune(directory, step, keep)
    return target


def load_checkpoint(directory: str | Path) -> Checkpoint | None:
    """The newest checkpoint whose sums match, or None where there is none.

    A damaged one is skipped with a UserWarning that says why, and the next older one is tried; leftovers of
    a killed save are removed. A folder or file that is written right now by another process is left alone.
    """
    directory = Path(directory)
    _remove_leftovers(directory)
    for step, path in _checkpoints(directory):
        try:
            return _read(step, path)
        except (DataError, OSError) as error:
            warnings.warn(f"Skipped the damaged checkpoint {path}: {error}", UserWarning, stacklevel=2)
    return None


def _read(step: int, path: Path) -> Checkpoint:
    """Read and verify one checkpoint; DataError or OSError say what is wrong with it."""
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
    """Digest of each file name; only files a checkpoint can hold, never a path out of its folder."""
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
    """(step, folder) of everything named like a checkpoint, newest first, a replaced one after its successor."""
    found = []
    for path in directory.glob("step-*"):
        match = _STEP.fullmatch(path.name)
        if match and path.is_dir():
            found.append((int(match[1]), match[2] is None, path))
    return [(step, path) for step, _, path in sorted(found, reverse=True)]


def _put_in_place(aside: Path, target: Path) -> None:
    """Rename `aside` to `target`. An older `target` is renamed, not removed, until the new one stands."""
    replaced = target.with_name(f"{target.name}.replaced")
    if target.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        target.rename(replaced)
    aside.rename(target)
    _sync_directory(target.parent)


def _prune(directory: Path, step: int, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints up to `step`. Renamed first: a kill leaves no half folder."""
    older = [path for other, path in _checkpoints(directory) if other <= step]
    kept = [path for path in older if not path.name.endswith(".replaced")][:keep]
    for path in older:
        if path not in kept:
            shutil.rmtree(path.rename(_aside(path)), ignore_errors=True)


def _remove_leftovers(directory: Path) -> None:
    """Remove what a killed process wrote aside in `directory`; what a living one writes now stays."""
    for path in directory.glob("*.tmp-*"):
        match = _LEFTOVER.fullmatch(path.name)
        if match is None or (int(match[1]) != os.getpid() and _alive(int(match[1]))):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # a read-only directory can still be loaded from
                path.unlink()


def _write_tensors(folder: Path, group: str, named: Mapping[str, Tensor]) -> str:
    """Write one group of tensors; returns its sha256. Copies part what shares memory, which safetensors refuses."""
    plain = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in named.items()}
    return _write_synced(folder / f"{group}.safetensors", safetensors.torch.save(plain))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Put `data` into the file `path`, written aside and renamed: a reader sees the old file or the new, whole."""
    path = Path(path)
    aside = _aside(path)
    try:
        _write_synced(aside, data)
        aside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink()
        raise
    _sync_directory(path.parent)


def write_json(path: str | Path, obj: Any) -> None:
    """`write_bytes` of `obj` as indented JSON in UTF-8; TypeError, and nothing written, if it is not JSON."""
    write_bytes(path, (json.dumps(obj, indent=2, ensure_ascii=False) + "\n").encode())


def _write_synced(path: Path, data: bytes) -> str:
    """Write a new file through to the disk; returns the sha256 of `data`."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(data).hexdigest()


def _sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable: a rename is on the disk only after this."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp-{os.getpid()}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # somebody else's
    except (ProcessLookupError, OverflowError):
        return False
    return True


def _require_space(directory: Path, step: int, size: int) -> None:
    """UserError unless twice the larger of this checkpoint and the last is free: a half-full write is wasted work."""
    last = next((path for _, path in _checkpoints(directory)), None)
    if last is not None:
        size = max(size, sum(file.stat().st_size for file in last.iterdir()))
    if shutil.disk_usage(directory).free < 2 * size:
        raise UserError(
            f"The checkpoint of step {step} needs {_megabytes(2 * size)} free in {directory} (twice its size), "
            f"but {_free(directory)} free. Free some space or choose another --output, then run the same command again."
        )


def _free(directory: Path) -> str:
    try:
        return f"{_megabytes(shutil.disk_usage(directory).free)} are"
    except OSError:
        return "an unknown amount is"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


class RunLock:
    """One run in one directory: ``with RunLock("runs/a"): ...``.

    The kernel holds the lock (flock on `directory/.lock`) and drops it when the process ends, kill -9
    included, so there is no stale lock to remove. Forked children, loader workers for instance, let go of
    it at once: an orphaned worker cannot keep the same command from starting again.

    Raises:
        UserError: another process holds it (its pid is named), or the directory cannot be written.
    """

    def __init__(self, directory: str | Path) -> None:
        self._path = Path(directory) / ".lock"
        self._handle: int | None = None

    def __enter__(self) -> RunLock:
        directory = self._path.parent
        try:
            directory.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(
                f"Cannot write to the output directory {directory} ({error.strerror}). Choose another --output."
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise UserError(
                f"The output directory {directory} is in use by pid {pid or 'unknown'}. "
                f"Wait for it (tail --pid={pid or 'PID'} -f /dev/null), or choose another --output."
            ) from None
        except OSError as error:
            warnings.warn(f"{directory} cannot be locked ({error.strerror}): start one run in it only.", stacklevel=2)
        with contextlib.suppress(OSError):  # the pid is only for the message of the next one; the disk may be full
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode())
        self._handle = handle
        os.register_at_fork(after_in_child=self._let_go)
        return self

    def __exit__(self, *exception: object) -> None:
        self._let_go()

    def _let_go(self) -> None:
        """Close the handle. In a forked child this leaves the parent's lock as it is."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, meta): an optimizer's whole state as a group of tensors, and the rest of it as JSON.

    Tensors are named ``state.<parameter>.<key>`` and, where a setting is a tensor, ``group.<group>.<key>``.
    """
    packed = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    meta: dict[str, Any] = {"state": {}, "groups": []}
    for index, entries in packed["state"].items():
        meta["state"][str(index)] = _part(entries, f"state.{index}", tensors)
    for index, settings in enumerate(packed["param_groups"]):
        meta["groups"].append(_part(settings, f"group.{index}", tensors))
    return tensors, meta


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Give `optimizer` the state that `pack_optimizer` took, bit for bit; the given tensors are copied.

    Raises:
        UserError: it was another optimizer: the groups, the parameters or their shapes differ.
    """
    state = {int(index): dict(entries) for index, entries in meta["state"].items()}
    groups = [dict(settings) for settings in meta["groups"]]
    for name, tensor in tensors.items():
        kind, index, key = name.split(".", 2)
        (state if kind == "state" else groups)[int(index)][key] = tensor.clone()
    for settings, current in zip(groups, optimizer.param_groups, strict=False):
        # JSON knows no tuples; load_state_dict compares the groups below
        settings.update({key: tuple(settings[key]) for key in settings if isinstance(current.get(key), tuple)})
    _check_shapes(optimizer, state, groups)
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except ValueError as error:
        raise UserError(f"The saved optimizer belongs to another model or configuration: {error}.") from error


def _part(entries: Mapping[str, Any], prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Move the tensors among `entries` into `tensors`; returns the others."""
    tensors.update({f"{prefix}.{key}": value for key, value in entries.items() if isinstance(value, Tensor)})
    return {key: value for key, value in entries.items() if not isinstance(value, Tensor)}


def _check_shapes(optimizer: torch.optim.Optimizer, state: dict[int, Any], groups: list[dict[str, Any]]) -> None:
    """UserError when an average does not have its parameter's shape, which load_state_dict would let pass."""
    for settings, current in zip(groups, optimizer.param_groups, strict=False):
        for index, parameter in zip(settings["params"], current["params"], strict=False):
            for key, value in state.get(index, {}).items():
                if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                    raise UserError(
                        f"The saved optimizer belongs to another model: {key} of parameter {index} has shape "
                        f"{list(value.shape)}, the parameter {list(parameter.shape)}."
                    )


def pack_rng() -> dict[str, Any]:
    """The state of every global random generator (torch CPU and CUDA, numpy, Python) as JSON."""
    version, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=False)
    key = legacy["state"]["key"]
    return {
        "torch": bytes(torch.get_rng_state().tolist()).hex(),
        "cuda": [bytes(state.tolist()).hex() for state in _cuda_states()],
        "numpy": {**legacy, "state": {"key": key.astype("<u4").tobytes().hex(), "pos": int(legacy["state"]["pos"])}},
        "python": {"version": version, "words": np.array(words, "<u4").tobytes().hex(), "gauss": gauss},
    }


def unpack_rng(packed: Mapping[str, Any]) -> None:
    """Set every global random generator to what `pack_rng` took. CUDA generators that are not here are left out."""
    torch.set_rng_state(_byte_tensor(packed["torch"]))
    for device, state in enumerate(packed["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(_byte_tensor(state), device)
    legacy = dict(packed["numpy"])
    legacy["state"] = {**legacy["state"], "key": _words(legacy["state"]["key"])}
    np.random.set_state(legacy)
    python = packed["python"]
    random.setstate((python["version"], tuple(_words(python["words"]).tolist()), python["gauss"]))


def _cuda_states() -> Iterator[Tensor]:
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        yield from torch.cuda.get_rng_state_all()


def _byte_tensor(text: str) -> Tensor:
    return torch.tensor(array("B", bytes.fromhex(text)), dtype=torch.uint8)


def _words(text: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(bytes.fromhex(text), "<u4").astype(np.uint32)
