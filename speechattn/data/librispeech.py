"""The LibriSpeech layout: `<subset>/<speaker>/<chapter>/<utterance>.flac` and `<speaker>-<chapter>.trans.txt`.

It lists files and reads transcripts, and opens no sound file. Any corpus in this layout can be read, such as the
synthetic one. plain_folder.py reads other folders, and download.py fetches LibriSpeech itself.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

from speechattn.data.labels.segments import Utterance
from speechattn.data.text_files import read_lines
from speechattn.errors import DataError
from speechattn.system.folders import files_below, has_suffix, utterance_id

NO_RECORDING, TWO_RECORDINGS = RECORDING_FAULTS = ("no recording", "two recordings")
NO_TRANSCRIPT, NO_WORDS, TWO_TRANSCRIPTS = "no transcript", "no words in the transcript", "two transcripts"
AUDIO_SUFFIXES = (".flac", ".wav")
LAYOUT = "<subset>/<speaker>/<chapter>/<utterance>.flac"


@dataclass(frozen=True)
class Speaker:
    """One line of SPEAKERS.TXT. Fields that the table lacks are None or empty."""

    id: str
    sex: str | None = None
    subset: str = ""
    minutes: float | None = None
    name: str = ""


class LibriSpeech(Sequence[Utterance]):
    """The utterances of one subset, sorted by id. `root` is LibriSpeech itself or the folder that holds it.

    A corpus may be incomplete. `faults` has the fault of an utterance by id: no or two recordings, or, if the subset
    has transcripts, no words or two transcripts. The sequence holds every utterance with one recording; its
    `transcript` is None unless there is exactly one.

    Raises:
        DataError: the folder is missing or holds no recordings; the message lists the subsets that are there.
    """

    def __init__(self, root: str | Path, subset: str) -> None:
        subset = subset and posixpath.normpath(subset)  # shell completion adds a slash
        self.root = corpus_folder(Path(root), subset)
        self.subset = subset
        self.folder = self.root / subset
        self.faults: dict[str, str] = {}
        self._audio: dict[str, Path] = {}
        self._transcripts: dict[str, str] = {}
        unreadable = self._walk()
        if not self._audio:
            raise DataError(f"{self.folder} holds no recordings: expected {LAYOUT}, {_subsets(self.root)}.")
        for id in self._transcripts.keys() - self._audio.keys():
            self.faults[id] = NO_RECORDING
        if self._transcripts or unreadable:
            for id, path in self._audio.items():
                if not self._transcripts.get(id):
                    fault = NO_WORDS if id in self._transcripts else NO_TRANSCRIPT
                    self.faults.setdefault(id, unreadable.get(path.parent, fault))
        self._ids = sorted(id for id in self._audio if self.faults.get(id) != TWO_RECORDINGS)
        self.faults = dict(sorted(self.faults.items()))

    def _walk(self) -> dict[Path, str]:
        """Fill the tables; return the chapters whose transcripts cannot be read, and why."""
        unreadable = {}
        for path in files_below(self.folder):
            if len(path.relative_to(self.folder).parts) != 3:  # speaker, chapter, file
                continue
            if has_suffix(path, *AUDIO_SUFFIXES):
                id = utterance_id(path, path.suffix)
                if id in self._audio:
                    self.faults[id] = TWO_RECORDINGS
                self._audio[id] = path
            elif has_suffix(path, ".trans.txt"):
                try:
                    transcripts = _read_transcripts(path)
                except DataError as error:
                    unreadable[path.parent] = str(error).removesuffix(".")
                    continue
                for id, words in transcripts:
                    if self._transcripts.setdefault(id, words) != words:
                        self.faults[id] = TWO_TRANSCRIPTS
        return unreadable

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
        words = None if self.faults.get(id) == TWO_TRANSCRIPTS else self._transcripts.get(id) or None
        return Utterance(id, chapter.parent.name, path, words, self.subset, chapter.name)

    @cached_property
    def speakers(self) -> dict[str, Speaker]:
        """The speakers who have recordings here, by id, with the fields of SPEAKERS.TXT."""
        present = {path.parent.parent.name for path in self._audio.values()}
        return {id: self._table.get(id, Speaker(id, subset=self.subset)) for id in sorted(present)}

    @cached_property
    def missing(self) -> list[str]:
        """Ids of speakers that SPEAKERS.TXT lists in this subset and who have no recording here.

        In a complete corpus they show that an extraction was interrupted.
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
    """Return the speakers of SPEAKERS.TXT (`id | sex | subset | minutes | name`, `;` before comments) by id.

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
    """Return (id, words) of each line; the words may be empty."""
    rows = (line.split(maxsplit=1) for line in read_lines(path))
    return [(row[0], row[1].strip() if len(row) > 1 else "") for row in rows if row]


def corpus_folder(root: Path, subset: str) -> Path:
    """Return the folder that holds `subset`: root/LibriSpeech or root.

    Raises:
        DataError: there is none; the message lists the subsets that are there.
    """
    bases = [base for base in (root / "LibriSpeech", root) if base.is_dir()]
    if not bases:
        raise DataError(f"{root} is not a folder: expected the one that holds {LAYOUT}.")
    for base in bases:
        if subset and (base / subset).is_dir():
            return base
    if not subset:
        raise DataError(f"{bases[0]} is in LibriSpeech's layout: give a subset with --subset, {_subsets(bases[0])}.")
    hint = f" Did you mean its parent folder, {root.resolve().parent}?" if root.resolve().name == subset else ""
    raise DataError(f"{bases[0]} has no subset {subset!r}: {_subsets(bases[0])}.{hint}")


def _subsets(base: Path) -> str:
    found = ", ".join(folder.name for folder in _folders(base))
    return f"found {found}" if found else "found no subset folder"


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{parent} cannot be listed: {error.strerror or error}.") from error
