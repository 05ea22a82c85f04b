"""Extraction of a tar archive from strangers: files and folders only, below one folder, up to a total size.

Not `tarfile.extractall`: its `filter="data"` does not exist in early releases of Python 3.11, and in later ones links
that the filter accepts have led outside the folder. Here no member can be a link, and this module opens every file.
"""

from __future__ import annotations

import errno
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Self

from speechattn.errors import DataError, UserError, reason
from speechattn.system.atomic_files import free_space
from speechattn.system.progress import progress_bar
from speechattn.system.units import format_bytes

MAX_MEMBERS = 1_000_000
MAX_DEPTH = 16
"""Folders around a file; LibriSpeech has four."""
MAX_HEADER_BYTES = 2**20
"""Longest header that holds a path or attributes: tarfile reads it into memory at once, however large it says it is."""
LONG_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
DAMAGE = (tarfile.TarError, EOFError, zlib.error, ValueError, OverflowError, RecursionError)
"""What tarfile raises for an archive that is cut off, damaged or made to break it."""
FROM_NAMES = (None, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL)
"""Numbers of system errors that names in an archive cause; None is gzip's error for another format."""


class _Header(tarfile.TarInfo):
    """A header of a member, or of a long path: one that is too large is refused before it is read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in LONG_HEADERS and header.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {format_bytes(header.size)}")
        return header


def extract_archive(
    archive: Path, folder: Path, accepts: Callable[[tuple[str, ...]], bool], max_bytes: int, progress: bool = True
) -> None:
    """Write the files and folders of a tar archive, compressed or not, below `folder`.

    `accepts` returns whether the archive may hold a path, given as its parts, and `max_bytes` is the limit of all files
    together. The caller removes `folder` after an error. Permissions follow the umask; owners and times are not
    restored.

    Raises:
        DataError: the archive is damaged; a member is no file or folder, has a path outside, is not accepted, or is
            there twice; the files are too many or too large.
        UserError: the disk is full or cannot be written.
    """
    try:
        _extract(archive, folder, accepts, max_bytes, progress)
    except UserError:
        raise
    except OSError as error:
        if error.errno in FROM_NAMES:
            raise _damaged(archive, error) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"The disk is full: extracting {archive} takes about {format_bytes(archive.stat().st_size)}, "
                f"{free_space(folder.parent)} free now. Free some space and run again."
            ) from error
        raise UserError(f"{archive} cannot be extracted below {folder.parent}: {reason(error)}.") from error
    except DAMAGE as error:
        raise _damaged(archive, error) from error


def _extract(
    archive: Path, folder: Path, accepts: Callable[[tuple[str, ...]], bool], max_bytes: int, progress: bool
) -> None:
    total, made = 0, {folder}
    with (
        archive.open("rb") as raw,
        progress_bar(
            total=archive.stat().st_size,
            unit="B",
            unit_scale=True,
            desc=f"extracting {archive.name.removesuffix('.part')}",
            disable=not progress,
        ) as bar,
        tarfile.open(fileobj=raw, tarinfo=_Header) as tar,
    ):
        folder.mkdir(parents=True)
        for count, member in enumerate(tar, start=1):
            parts = _checked_parts(archive, member)
            if not accepts(parts):
                raise _refused(archive, member, "which does not belong there")
            total += member.size
            if total > max_bytes or count > MAX_MEMBERS:
                raise DataError(
                    f"{archive} is not extracted: it would become over {format_bytes(total)} or too many files."
                )
            path = folder.joinpath(*parts)
            parent = path if member.isdir() else path.parent
            if parent not in made:
                parent.mkdir(parents=True, exist_ok=True)
                made.add(parent)
            if not member.isdir():
                _copy(archive, tar, member, path)
            bar.update(raw.tell() - bar.n)


def _checked_parts(archive: Path, member: tarfile.TarInfo) -> tuple[str, ...]:
    """Return the parts of a member's path, which leads downwards, or raise DataError."""
    if not (member.type in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) and not member.issparse()):
        raise _refused(archive, member, "which is no plain file or folder")
    parts = tuple(part for part in member.name.split("/") if part not in ("", "."))
    if member.name.startswith("/") or ".." in parts or not parts or len(parts) > MAX_DEPTH or member.size < 0:
        raise _refused(archive, member, "a path outside of it")
    return parts


def _copy(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    source = tar.extractfile(member)
    assert source is not None  # it is a file
    try:
        target = path.open("xb")
    except FileExistsError as error:
        raise _refused(archive, member, "twice") from error
    with source, target:
        shutil.copyfileobj(source, target)


def _refused(archive: Path, member: tarfile.TarInfo, why: str) -> DataError:
    name = member.name if len(member.name) <= 100 else f"{member.name[:100]}..."
    return DataError(f"{archive} is not extracted: it holds {name!r}, {why}.")


def _damaged(archive: Path, error: BaseException) -> DataError:
    cause = (error.strerror if isinstance(error, OSError) else None) or reason(error)
    return DataError(f"{archive} cannot be extracted: it is damaged or cut off ({cause}).")
