"""Download of LibriSpeech subsets: continued after an interruption, verified, extracted, and there only when complete.

Nothing in the package downloads by itself: `speechattn download`, `train --download` and this function do.

    <root>/<subset>.tar.gz                     an archive that the user has, or kept
    <root>/LibriSpeech/<subset>/               the result, renamed to this name as the last step
    <root>/LibriSpeech/.<subset>.download/     <subset>.tar.gz.part, which is what has arrived; .lock, extracted/

The last two are on one file system, also where LibriSpeech/ is a link.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from speechattn.data.librispeech import LibriSpeech
from speechattn.data.librispeech_archives import ARCHIVES, SERVER, find_archive
from speechattn.errors import DataError, UserError
from speechattn.system.resumable_download import fetch, num_bytes, sha256_of
from speechattn.system.run_lock import RunLock
from speechattn.system.safe_archive import extract_archive
from speechattn.system.units import format_bytes

MIRROR_VARIABLE = "SPEECHATTN_MIRROR"
"""Environment variable with the address of a mirror."""
EXTRACTED = 1.1
"""Disk space of an extracted subset, as a multiple of its archive: sound in FLAC does not compress again."""
MAX_EXTRACTED = 4
SMALL_BYTES = 10**8
"""An archive may become MAX_EXTRACTED times as large and this much more, or it is not LibriSpeech."""


def download(
    root: str | Path, subset: str, progress: bool = True, *, mirror: str | None = None, keep_archive: bool = False
) -> Path:
    """Fetch `subset` of LibriSpeech into root/LibriSpeech/<subset>, and return that folder.

    A complete folder is returned as it is. An interrupted download is continued, and the SHA-256 of the archive is
    verified before it is extracted. An archive that is already in `root` is used and kept.

    Args:
        root: the folder that holds LibriSpeech/, or LibriSpeech/ itself.
        subset: for example dev-clean.
        progress: whether bars are shown.
        mirror: address of a folder with the archives, https://, http:// or file://; by default $SPEECHATTN_MIRROR,
            then openslr.org.
        keep_archive: keep `<subset>.tar.gz` in `root` after it has been extracted.

    Raises:
        UserError: unknown subset, no network, too little space, a download of the same subset in another process, or a
            folder that holds a part of the subset.
        DataError: the archive is damaged, is that of another subset, or holds something else.
    """
    archive, root = find_archive(subset), _parent(root)
    if folder := find_subset(root, subset):
        return _complete(folder)
    url = f"{_mirror(mirror)}/{subset}.tar.gz"
    check_space(root, [subset], keep_archive)
    own, part = root / f"{subset}.tar.gz", _part(root, subset)
    work = part.parent
    with RunLock(work, "--to"):
        try:
            if folder := find_subset(root, subset):  # another process has finished it meanwhile
                return _complete(folder)
            if not own.is_file():
                fetch(url, part, archive.size, progress)
            source = own if own.is_file() else part
            try:
                _verify(source, subset, progress)
                folder = _extract(source, work / "extracted", work.parent / subset, progress)
            except DataError as error:
                part.unlink(missing_ok=True)
                hint = "Remove it" if source == own else "It was removed"
                raise DataError(f"{error} {hint}: run again, or choose another mirror.") from error
            if keep_archive and source == part:
                shutil.move(part, own)
            part.unlink(missing_ok=True)
            return folder
        finally:
            shutil.rmtree(work / "extracted", ignore_errors=True)
            if not num_bytes(part):
                shutil.rmtree(work, ignore_errors=True)
                with contextlib.suppress(OSError):  # it is not empty
                    work.parent.rmdir()


def find_subset(root: str | Path, subset: str) -> Path | None:
    """Return the folder of a subset below `root`, or None if there is none."""
    folders = (Path(root) / "LibriSpeech" / subset, Path(root) / subset)
    return next((folder for folder in folders if folder.is_dir()), None)


def count_utterances(folder: Path) -> int:
    """Return the number of utterances in the folder of a subset that have a recording and a transcript."""
    try:
        recordings = LibriSpeech(folder.parent, folder.name)
    except DataError:  # no recordings
        return 0
    return sum(1 for utterance in recordings if utterance.transcript)


def check_space(root: str | Path, subsets: Iterable[str], keep_archives: bool = False) -> None:
    """Raise UserError unless the disk has room for these subsets, one after the other, and their archives."""
    root = _parent(root)
    used = needed = 0.0
    for subset in subsets:
        size = find_archive(subset).size
        own = num_bytes(root / f"{subset}.tar.gz") > 0
        arriving = 0 if own else size - num_bytes(_part(root, subset))
        needed = max(needed, used + arriving + EXTRACTED * size)
        removed = 0 if own or keep_archives else size
        used += arriving + EXTRACTED * size - removed
    base = root.absolute() / "LibriSpeech"
    present = next(path for path in (base, *base.parents) if path.exists())
    free = shutil.disk_usage(present).free
    if needed > free:
        raise UserError(
            f"{', '.join(subsets)}: {format_bytes(needed)} are needed in {root}, archives included, and "
            f"{format_bytes(free)} are free: free some space, or choose another folder."
        )


def _parent(root: str | Path) -> Path:
    """Return the folder that holds LibriSpeech/."""
    root = Path(root)
    return root.parent if root.name == "LibriSpeech" else root


def _part(root: Path, subset: str) -> Path:
    """Return the file that an archive is downloaded to."""
    return root / "LibriSpeech" / f".{subset}.download" / f"{subset}.tar.gz.part"


def _complete(folder: Path) -> Path:
    """Return the folder of a subset, or raise UserError if it holds a part of the subset only."""
    found, expected = count_utterances(folder), ARCHIVES[folder.name].utterances
    if found != expected:
        raise UserError(
            f"{folder} exists and holds {found} complete utterances, and {folder.name} has {expected}: it is a part of "
            "the subset, or what an interrupted extraction left. Use it as it is, or move it aside and run again."
        )
    return folder


def _mirror(address: str | None) -> str:
    address = address or os.environ.get(MIRROR_VARIABLE) or SERVER
    if not address.startswith(("https://", "http://", "file://")):
        raise UserError(
            f"a mirror must begin with https://, http:// or file://, got {address!r}: {SERVER} is the default."
        )
    return address.rstrip("/")


def _verify(path: Path, subset: str, progress: bool) -> None:
    """Raise DataError unless the file is the archive of this subset."""
    expected = ARCHIVES[subset]
    if num_bytes(path) != expected.size:
        raise DataError(f"{path} has {num_bytes(path)} bytes, expected {expected.size}.")
    digest = sha256_of(path, progress)
    if digest != expected.sha256:
        others = [name for name, other in ARCHIVES.items() if other.sha256 == digest]
        fault = f"is the archive of {others[0]}" if others else "is damaged"
        raise DataError(f"{path} {fault}: SHA-256 {digest}, expected {expected.sha256}.")


def _extract(archive: Path, staging: Path, folder: Path, progress: bool) -> Path:
    """Extract a subset below `staging`, move it to `folder` in one step, its tables next to it; return `folder`."""
    shutil.rmtree(staging, ignore_errors=True)  # an interrupted extraction starts again
    subset, base = folder.name, folder.parent

    def accepts(parts: tuple[str, ...]) -> bool:
        if len(parts) > 1 and parts[0] == "LibriSpeech" and parts[1] in ARCHIVES.keys() - {subset}:
            raise DataError(
                f"{archive} holds {parts[0]}/{parts[1]}, expected {subset}: it is the archive of another subset."
            )
        table = len(parts) == 2 and parts[1].endswith(".TXT")
        return parts[0] == "LibriSpeech" and (len(parts) == 1 or parts[1] == subset or table)

    extract_archive(archive, staging, accepts, MAX_EXTRACTED * archive.stat().st_size + SMALL_BYTES, progress)
    fresh = staging / "LibriSpeech"
    found = count_utterances(fresh / subset)
    if found != ARCHIVES[subset].utterances:
        raise DataError(f"{archive} holds {found} utterances of {subset}, expected {ARCHIVES[subset].utterances}.")
    for path in fresh.glob("*.TXT"):
        if not (base / path.name).exists():
            path.replace(base / path.name)
    return (fresh / subset).replace(folder)
