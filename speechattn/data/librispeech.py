"""The LibriSpeech layout: `<subset>/<speaker>/<chapter>/<utterance>.flac` beside `<speaker>-<chapter>.trans.txt`.

A walker over names: it lists files and reads transcripts, and leaves every sound file closed. Any corpus laid
out this way is read by it, the synthetic one too. Not here: fetching the corpus, which is download.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

from speechattn.data.segments import Utterance, read_lines
from speechattn.errors import DataError

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
                elif path.name.endswith(".trans.txt") and not path.is_fifo():  # reading a pipe would hang
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
