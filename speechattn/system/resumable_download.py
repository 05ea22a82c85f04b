"""Download of one large file over HTTP: continued where it stopped, and tried again after a fault."""

from __future__ import annotations

import errno
import hashlib
import re
import sys
import time
import urllib.request
from http.client import HTTPException
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from speechattn.errors import UserError, reason
from speechattn.system.atomic_files import free_space
from speechattn.system.progress import progress_bar
from speechattn.system.units import format_bytes

TIMEOUT_S = 30.0
"""Longest silence of a server, in seconds."""
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 60.0)
"""Seconds before each further try while no bytes arrive."""
FIRST_TRIES = 3
"""Tries of a server that has sent nothing yet: the address may be wrong."""
TEMPORARY_STATUS = {408, 429}
"""Status codes under 500 after which another try may succeed."""
BLOCK_BYTES = 2**18


def fetch(url: str, path: Path, size: int, progress: bool = True) -> None:
    """Download `url`, a file of `size` bytes, into `path`; bytes that `path` has are kept and not sent again.

    A lost connection is opened again, after pauses that grow while nothing arrives. A server that cannot continue sends
    the file from its beginning. At any interruption, kill -9 included, `path` holds what has arrived.

    Raises:
        UserError: the server does not answer or has another file, or the disk is full.
    """
    before = most = num_bytes(path)
    failures = 0
    name = path.name.removesuffix(".part")
    with progress_bar(total=size, initial=before, unit="B", unit_scale=True, desc=name, disable=not progress) as bar:
        while num_bytes(path) < size:
            fault = _try(url, path, size, bar)
            if (done := num_bytes(path)) > most:
                failures, most = 0, done
            if done < size:
                failures += 1
                if failures > len(PAUSES_S) or (failures >= FIRST_TRIES and most == before):
                    raise UserError(f"{url} did not arrive completely ({fault}). {_kept(path)}")
                pause = PAUSES_S[failures - 1]
                if progress:
                    bar.write(f"{url}: {fault}; next try in {pause:g} s", file=sys.stderr)
                time.sleep(pause)


def sha256_of(path: Path, progress: bool = True) -> str:
    """Return the SHA-256 of a file, with a bar for large ones."""
    digest = hashlib.sha256()
    with (
        path.open("rb") as file,
        progress_bar(
            total=num_bytes(path), unit="B", unit_scale=True, desc=f"verifying {path.name}", disable=not progress
        ) as bar,
    ):
        while block := file.read(2**20):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def num_bytes(path: Path) -> int:
    """Return the size of a file, 0 if it does not exist."""
    return path.stat().st_size if path.exists() else 0


def _try(url: str, path: Path, size: int, bar: Any) -> str:
    """Receive until the connection ends; return what ended it, if another try may help."""
    try:
        _receive(url, path, size, bar)
    except HTTPError as error:
        if error.code < 500 and error.code not in TEMPORARY_STATUS:
            raise UserError(f"{url}: the server answers {error.code} {error.reason}. {_kept(path)}") from error
        return reason(error)
    except URLError as error:
        return error.reason if isinstance(error.reason, str) else reason(error.reason)
    except (OSError, HTTPException) as error:
        return reason(error)
    except UserError:
        raise
    except ValueError as error:  # of an address, in the answer too, or of a number without end
        raise UserError(f"{url} cannot be fetched: {reason(error)}. {_kept(path)}") from error
    return "the server closed the connection"


def _receive(url: str, path: Path, size: int, bar: Any) -> None:
    """Append the missing bytes to `path` until the connection ends; raise what urlopen raises."""
    done = num_bytes(path)
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        done = _check_answer(url, response, done, size)
        bar.n = done
        bar.refresh()
        with _open(path, append=done > 0) as file:
            # read1 returns what has arrived; read would wait for a whole block, and lose it at a fault
            while done < size and (block := response.read1(min(BLOCK_BYTES, size - done))):
                try:
                    written = file.write(block)
                except OSError as error:
                    raise _write_error(error, path, size - done) from error
                done += written
                bar.update(written)
                if written < len(block):  # the rest did not fit: the next try reports the full disk
                    return


def _open(path: Path, append: bool) -> FileIO:
    """Open a file without a buffer, so that `path` always holds all that has arrived."""
    try:
        return path.open("ab" if append else "wb", buffering=0)
    except OSError as error:
        raise _write_error(error, path, 0) from error


def _check_answer(url: str, response: Any, asked: int, size: int) -> int:
    """Return the first byte that the answer holds: `asked`, or 0 from a server that ignores Range.

    Raises:
        UserError: the answer is a file of another size.
        HTTPException: the answer begins elsewhere.
    """
    length = response.headers.get("Content-Length") or ""
    start, total = 0, int(length) if length.isdecimal() else size
    if response.status == 206:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range") or "")
        if span is None or int(span[1]) != asked:
            raise HTTPException(f"asked for bytes from {asked}, got {response.headers.get('Content-Range')}")
        start, total = asked, size if span[2] == "*" else int(span[2])
    if total != size:
        raise UserError(f"{url} is another file: the server has {total} bytes, expected {size}.")
    return start


def _write_error(error: OSError, path: Path, missing: int) -> UserError:
    """Return an error for a disk that refuses a block; bytes that were written stay."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"The disk is full: {format_bytes(missing)} of {path} are missing, {free_space(path.parent)} free. Free "
            "some space and run again: it continues."
        )
    return UserError(f"{path} cannot be written: {reason(error)}.")


def _kept(path: Path) -> str:
    done = num_bytes(path)
    return (
        f"{format_bytes(done)} are kept in {path}: run again to continue."
        if done
        else "Check the address and the network."
    )
