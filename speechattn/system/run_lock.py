"""A lock on the folder of a run, held by the kernel so that it cannot be stale. Standard library only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import warnings
from pathlib import Path

from speechattn.errors import UserError


class RunLock:
    """Lock for one run per folder: ``with RunLock("runs/a"): ...``.

    The kernel holds the lock (flock on `directory/.lock`) and releases it when the process ends, kill -9 included.
    Forked children, as loader workers, release it at once: an orphaned worker does not block the next run. `option` is
    the command-line option for the folder, for messages.

    Raises:
        UserError: another process holds it (its pid is named), or the directory cannot be written.
    """

    def __init__(self, directory: str | Path, option: str = "--out") -> None:
        self._path = Path(directory) / ".lock"
        self._option = option
        self._handle: int | None = None

    def __enter__(self) -> RunLock:
        directory = self._path.parent
        try:
            directory.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise UserError(
                f"Cannot write to the output directory {directory} ({error.strerror}). Choose another {self._option}."
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(handle, 32).decode(errors="replace").strip()
            os.close(handle)
            raise UserError(
                f"The output directory {directory} is in use by pid {pid or 'unknown'}. "
                f"Wait for it (tail --pid={pid or 'PID'} -f /dev/null), or choose another {self._option}."
            ) from None
        except OSError as error:
            warnings.warn(f"{directory} cannot be locked ({error.strerror}): start one run in it only.", stacklevel=2)
        with contextlib.suppress(OSError):  # the pid is only for the message of the next one; the disk may be full
            os.ftruncate(handle, 0)
            os.write(handle, f"{os.getpid()}\n".encode())
        self._handle = handle
        os.register_at_fork(after_in_child=self._release)
        return self

    def __exit__(self, *exception: object) -> None:
        self._release()

    def _release(self) -> None:
        """Close the handle. In a forked child this leaves the parent's lock as it is."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
