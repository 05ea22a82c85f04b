"""Download of LibriSpeech from its server. Interrupted downloads are continued; a subset appears when it is complete.

Nothing in the package downloads by itself: a user calls `download`. librispeech.py reads the corpus.
"""

from __future__ import annotations

import difflib
import hashlib
import shutil
import tarfile
import urllib.request
import zlib
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from tqdm import tqdm

from speechattn.data.librispeech import LibriSpeech
from speechattn.errors import DataError, UserError
from speechattn.system.optional_imports import require_torchaudio


def download(root: str | Path, subset: str, progress: bool = True) -> Path:
    """Fetch `subset` from openslr.org into root/LibriSpeech/<subset> and return that folder.

    Address and SHA-256 come from torchaudio's table. An interrupted download is continued, its SHA-256 is verified, and
    the folder appears only when all of it has been extracted. Needs twice the archive's size.

    Raises:
        UserError: unknown subset, no torchaudio, no network, or the folder exists but is incomplete.
        DataError: the archive is damaged or would write outside its folder.
    """
    module = require_torchaudio("Downloading LibriSpeech").datasets.librispeech
    table = {url.rsplit("/", 1)[-1].removesuffix(".tar.gz"): (url, digest) for url, digest in module._CHECKSUMS.items()}
    if subset not in table:
        near = difflib.get_close_matches(subset, table, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"LibriSpeech has no subset {subset!r}: one of {', '.join(sorted(table))}.{hint}")
    root = Path(root)
    folder = root / "LibriSpeech" / subset
    if folder.is_dir():
        corpus = LibriSpeech(root, subset)
        if corpus.missing or corpus.faults:
            speakers, utterances = len(corpus.missing), len(corpus.faults)
            fault = f"{speakers} speakers are missing" if speakers else f"{utterances} utterances are incomplete"
            raise UserError(f"{folder} is incomplete, {fault}: remove it and run again.")
        return folder
    root.mkdir(parents=True, exist_ok=True)
    url, digest = table[subset]
    archive = root / url.rsplit("/", 1)[-1]
    if archive.exists():
        verify(archive, digest)
    else:
        fetch(url, archive, digest, progress)
    return extract(archive, root, subset)


def fetch(url: str, target: Path, sha256: str, progress: bool = True) -> None:
    """Download `url` into `target`, continuing a `.part` file; `target` exists only with the right SHA-256.

    Raises:
        UserError: the connection failed; what has arrived is kept for the next try.
        DataError: the SHA-256 is wrong; the part is removed.
    """
    part = target.with_name(target.name + ".part")
    try:
        _receive(url, part, progress)
    except (OSError, HTTPException) as error:  # URLError is an OSError; so is a full disk
        raise UserError(f"{url} did not arrive completely ({error}). Run again to continue after {part}.") from error
    try:
        verify(part, sha256)
    except DataError:
        part.unlink()
        raise
    part.replace(target)


def _receive(url: str, part: Path, progress: bool) -> None:
    """Append the missing bytes to `part`."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except HTTPError as error:
        if done and error.code == 416:  # no bytes are missing
            return
        raise
    with response:
        if response.status != 206:  # the server ignores Range and sends all of it
            done = 0
        total = done + int(response.headers.get("Content-Length", 0))
        bar = tqdm(total=total or None, initial=done, unit="B", unit_scale=True, disable=not progress)
        with bar, part.open("ab" if done else "wb") as file:
            while block := response.read(1 << 20):
                file.write(block)
                bar.update(len(block))
    if part.stat().st_size < total:
        raise OSError(f"{part.stat().st_size} of {total} bytes")


def verify(path: Path, sha256: str) -> None:
    """Raise DataError unless the file has this SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != sha256:
        raise DataError(f"{path} is damaged: SHA-256 {digest}, expected {sha256}. Remove it and run again.")


def extract(archive: Path, root: Path, subset: str) -> Path:
    """Unpack `archive` next to root/LibriSpeech, move the subset into it in one step, and return its folder.

    Raises:
        DataError: the archive is damaged, lacks the subset, or holds a member that would leave the folder.
    """
    staging = root / f".{subset}.extracting"  # an interrupted extraction starts again
    shutil.rmtree(staging, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(staging, filter="data")
        fresh = staging / "LibriSpeech"
        if not (fresh / subset).is_dir():
            raise DataError(f"{archive} holds no LibriSpeech/{subset}.")
        base = root / "LibriSpeech"
        base.mkdir(exist_ok=True)
        for path in fresh.glob("*.TXT"):
            path.replace(base / path.name)
        return (fresh / subset).replace(base / subset)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(
            f"{archive} cannot be extracted ({error}). If it is damaged, remove it and run again."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
