"""The LibriSpeech layout: `<subset>/<speaker>/<chapter>/<utterance>.flac` beside `<speaker>-<chapter>.trans.txt`.

A walker over names: it lists files and reads transcripts, and leaves every sound file closed. Any corpus laid
out this way is read by it, the synthetic one too. Fetching the corpus is a separate act, `download`, that
nothing here does by itself; half a download never looks like a whole one.
"""

from __future__ import annotations

import difflib
import hashlib
import shutil
import tarfile
import urllib.request
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import overload
from urllib.error import HTTPError

from tqdm import tqdm

from speechattn._torchaudio import require_torchaudio
from speechattn.data.segments import Utterance, read_lines
from speechattn.errors import DataError, UserError

AUDIO_SUFFIXES = (".flac", ".wav")
LAYOUT = "<subset>/<speaker>/<chapter>/<utterance>.flac"


@dataclass(frozen=True)
class Speaker:
    """One line of SPEAKERS.TXT. What the table does not say is None, or an empty name."""

    id: str
    sex: str | None = None
    subset: str = ""
    minutes: float | None = None
    name: str = ""


class LibriSpeech(Sequence[Utterance]):
    """The utterances of one subset, sorted by id. `root` is LibriSpeech itself or the folder that holds it.

    Raises:
        DataError: the folder is missing or empty (the message lists the subsets that are there), or
            recordings and transcripts do not pair one to one (first ten ids and how many).
    """

    def __init__(self, root: str | Path, subset: str) -> None:
        self.root = _corpus_folder(Path(root), subset)
        self.subset = subset
        self.folder = self.root / subset
        self._audio: dict[str, Path] = {}
        self._transcripts: dict[str, str] = {}
        twice = self._walk()
        if not self._audio:
            raise DataError(f"{self.folder} holds no recordings: expected {LAYOUT}, {_subsets(self.root)}.")
        silent, untold = self._transcripts.keys() - self._audio.keys(), self._audio.keys() - self._transcripts.keys()
        problems = [
            _list_ids("transcripts without a recording", silent),
            _list_ids("recordings without a transcript", untold),
            _list_ids("ids that occur twice", twice),
        ]
        if any(problems):
            raise DataError(
                f"{self.folder}: {'; '.join(filter(None, problems))}. Extract the subset again, or mend its .trans.txt."
            )
        self._ids = sorted(self._audio)

    def _walk(self) -> set[str]:
        """Fill the two tables; returns the ids that were met twice."""
        twice = set()
        for chapter in (chapter for speaker in _folders(self.folder) for chapter in _folders(speaker)):
            for path in _visible(chapter):
                if path.suffix in AUDIO_SUFFIXES:
                    if path.stem in self._audio:
                        twice.add(path.stem)
                    self._audio[path.stem] = path
                elif path.name.endswith(".trans.txt"):
                    for utterance, words in _read_transcripts(path):
                        if utterance in self._transcripts:
                            twice.add(utterance)
                        self._transcripts[utterance] = words
        return twice

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> list[Utterance]: ...
    def __getitem__(self, index: int | slice) -> Utterance | list[Utterance]:
        if isinstance(index, slice):
            return [self._utterance(id) for id in self._ids[index]]
        return self._utterance(self._ids[index])

    def _utterance(self, id: str) -> Utterance:
        path = self._audio[id]
        chapter = path.parent
        return Utterance(id, chapter.parent.name, path, self._transcripts[id], self.subset, chapter.name)

    @cached_property
    def speakers(self) -> dict[str, Speaker]:
        """The speakers who have recordings here, by id; SPEAKERS.TXT adds what it knows about them."""
        present = {path.parent.parent.name for path in self._audio.values()}
        return {id: self._table.get(id, Speaker(id, subset=self.subset)) for id in sorted(present)}

    @cached_property
    def missing(self) -> list[str]:
        """Ids of speakers that SPEAKERS.TXT puts into this subset and who have no recording here.

        In the whole corpus that is the mark of an extraction that stopped half way.
        """
        return sorted(id for id, row in self._table.items() if row.subset == self.subset and id not in self.speakers)

    @cached_property
    def _table(self) -> dict[str, Speaker]:
        path = self.root / "SPEAKERS.TXT"
        return read_speakers(path) if path.exists() else {}

    def __repr__(self) -> str:
        return (
            f"LibriSpeech({str(self.root)!r}, {self.subset!r}): {len(self)} utterances, {len(self.speakers)} speakers"
        )


def read_speakers(path: str | Path) -> dict[str, Speaker]:
    """SPEAKERS.TXT (`id | sex | subset | minutes | name`, `;` before comments) as speakers by id.

    Raises:
        DataError: a line has other fields; file and line are named.
    """
    speakers = {}
    for number, line in enumerate(read_lines(Path(path)), start=1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        fields = [field.strip() for field in line.split("|", 4)]  # a name may hold a bar: "|CBW|Simon"
        try:
            id, sex, subset, minutes, name = fields
            speakers[id] = Speaker(id, sex or None, subset, float(minutes), name)
        except ValueError as error:
            raise DataError(
                f"{path}:{number}: expected 'id | sex | subset | minutes | name', got {line.strip()!r}."
            ) from error
    return speakers


def _read_transcripts(path: Path) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        id, _, words = line.strip().partition(" ")
        if not words.strip():
            raise DataError(f"{path}:{number}: expected an utterance id and its words, got {line.strip()!r}.")
        pairs.append((id, words.strip()))
    return pairs


def _corpus_folder(root: Path, subset: str) -> Path:
    """The folder that holds `subset`: root/LibriSpeech or root."""
    bases = [base for base in (root / "LibriSpeech", root) if base.is_dir()]
    if not bases:
        raise DataError(f"{root} is not a folder: expected the one that holds {LAYOUT}.")
    for base in bases:
        if subset and (base / subset).is_dir():
            return base
    hint = f" Did you mean its parent folder, {root.resolve().parent}?" if root.resolve().name == subset else ""
    raise DataError(f"{bases[0]} has no subset {subset!r}: {_subsets(bases[0])}.{hint}")


def _subsets(base: Path) -> str:
    found = ", ".join(folder.name for folder in _folders(base))
    return f"found {found}" if found else "found no subset folder"


def _folders(parent: Path) -> list[Path]:
    return [path for path in _visible(parent) if path.is_dir()]


def _visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without hidden files: some systems leave `._x.flac` beside `x.flac`."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror or error}.") from error


def _list_ids(what: str, ids: Iterable[str]) -> str:
    ids = sorted(ids)
    return f"{len(ids)} {what}: {', '.join(ids[:10])}{', ...' if len(ids) > 10 else ''}" if ids else ""


def download(root: str | Path, subset: str, progress: bool = True) -> Path:
    """Fetch `subset` from openslr.org into root/LibriSpeech/<subset> and return that folder.

    Address and SHA-256 come from torchaudio's table. An interrupted download is continued, its sum is
    verified, and the folder appears only when all of it has been extracted. Needs twice the archive's size.

    Raises:
        UserError: unknown subset, no torchaudio, no network, or the folder is there but incomplete.
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
        if missing := LibriSpeech(root, subset).missing:
            raise UserError(f"{folder} is incomplete, {len(missing)} speakers are missing: remove it and run again.")
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
        UserError: the connection failed or broke off; what came so far is kept for the next try.
        DataError: the sum is wrong; the part is removed.
    """
    part = target.with_name(target.name + ".part")
    try:
        _receive(url, part, progress)
    except (OSError, HTTPException) as error:  # URLError is an OSError; so is a full disk
        raise UserError(f"{url} did not arrive whole ({error}). Run again to continue after {part}.") from error
    try:
        verify(part, sha256)
    except DataError:
        part.unlink()
        raise
    part.replace(target)


def _receive(url: str, part: Path, progress: bool) -> None:
    """Append to `part` what it still lacks."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except HTTPError as error:
        if done and error.code == 416:  # nothing is left to send
            return
        raise
    with response:
        if response.status != 206:  # this server sends everything again
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
    """Unpack `archive` beside root/LibriSpeech and move the subset into it in one step; returns its folder.

    Raises:
        DataError: the archive is damaged, lacks the subset, or holds a member that would leave the folder.
    """
    staging = root / f".{subset}.extracting"  # whatever an earlier run left half done starts over
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
