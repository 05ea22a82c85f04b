"""The folder of the cache: who may write into it, and whether there is space.

    <cache>/features/files-<key>.safetensors       file_table.py
    <cache>/features/labels-<key>.safetensors      data/labels/alignment_table.py
    <cache>/features/<settings>/<shard>.safetensors, settings.json, .lock

Everything can be made again: any file, or the whole folder, may be deleted while no run uses it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from speechattn.errors import UserError
from speechattn.system.atomic_files import sweep
from speechattn.system.stop_signal import StopSignal
from speechattn.system.units import format_bytes

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
WAIT_S = 0.2


@contextlib.contextmanager
def building(folder: Path, stop: StopSignal | None) -> Iterator[None]:
    """Wait until no other process builds in `folder`, and hold its lock; what killed builders left is removed.

    The kernel releases the lock when its holder ends, however it ends.

    Raises:
        UserError: the folder cannot be written.
        Interrupted: a signal was received while waiting.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise cannot_write(folder, error) from error
    with open(handle, "r+b", buffering=0) as file:
        _acquire(file.fileno(), folder, stop)
        with contextlib.suppress(OSError):  # the pid is only for the message of the next one
            file.truncate(0)
            file.write(f"{os.getpid()}\n".encode())
        sweep(folder)
        yield


def _acquire(handle: int, folder: Path, stop: StopSignal | None) -> None:
    waiting = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not waiting:
                pid = os.pread(handle, 32, 0).decode(errors="replace").strip()
                print(
                    f"another run (pid {pid or 'unknown'}) makes the features in {folder}: waiting for it", flush=True
                )
                waiting = True
            time.sleep(WAIT_S)
            if stop is not None:
                stop.poll()
        except OSError as error:
            warnings.warn(f"{folder} cannot be locked ({error.strerror}): start one run at a time.", stacklevel=4)
            return


def check_space(folder: Path, needed: int, what: str, smaller: bool = False) -> None:
    """Raise UserError if `needed` bytes for `what` do not fit on the disk of `folder`: see `no_space`."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return
    if free < needed:
        raise no_space(folder, needed, what, smaller)


def no_space(folder: Path, needed: int, what: str, smaller: bool = False) -> UserError:
    """Return the error of a full disk: what needs how much, what is free, what to do.

    `smaller` adds that half precision takes less.
    """
    try:
        free = f"{format_bytes(shutil.disk_usage(folder).free)} are free"
    except OSError:
        free = "less is free"
    half = ", or halve it with --feature-dtype float16" if smaller else ""
    return UserError(
        f"{what} need {format_bytes(needed)} in {folder}, and {free}: free some space, or choose another place with "
        f"--cache DIR{half}. What is whole is kept."
    )


def cannot_write(folder: Path, error: OSError) -> UserError:
    """Return the error of a cache that cannot be written for another reason than space."""
    return UserError(f"the cache {folder} cannot be written ({error.strerror or error}): choose another --cache DIR.")
