"""A plain folder of recordings: sound files at any depth, each with `<name>.txt` or `<name>.lab` in the same folder.

    me/monday/hello.wav   me/monday/hello.txt   me/tuesday/bye.flac   me/tuesday/bye.lab

The folder that holds a file is its speaker: give each speaker a folder. Corpora of the Montreal Forced Aligner have
this layout. It lists files and reads transcripts, and opens no sound file. librispeech.py reads the other layout, and
recordings.py chooses between them.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from speechattn.data.audio.source import SOUND_SUFFIXES
from speechattn.data.labels.segments import Utterance
from speechattn.data.librispeech import (
    NO_RECORDING,
    NO_TRANSCRIPT,
    NO_WORDS,
    TWO_RECORDINGS,
    TWO_TRANSCRIPTS,
)
from speechattn.data.text_files import read_lines
from speechattn.data.utterance_list import UtteranceList
from speechattn.errors import DataError
from speechattn.system.folders import files_below, has_suffix, utterance_id

TRANSCRIPT_SUFFIXES = (".txt", ".lab")
NOT_TRANSCRIPTS = {"readme", "license", "licence", "copying", "source", "changelog", "notes"}
"""Names of text files, in lower case, that describe a corpus; in a folder with recordings they are not missed."""
PLAIN_LAYOUT = "sound files, each with <name>.txt or <name>.lab in the same folder"
Key = tuple[Path, str]
"""The folder of a file, and its name without suffix."""


class PlainFolder(UtteranceList):
    """The utterances of a folder, sorted by id. `subset`, the name of its alignments, is by default the folder's name.

    An utterance's id is the file's name without suffix, or, where files in several folders have this name, its path
    below the folder, joined by "-"; spaces become "_". Below a named subset, `<speaker>/<chapter>/<file>` has the
    speaker that LibriSpeech's layout gives it.

    `faults` has the fault of an utterance by id: no or two recordings, or, if the folder has transcripts, none, two, or
    one without words. The sequence holds every utterance with one recording; its `transcript` is None unless there is
    exactly one. A text without recording counts where its folder holds recordings.

    Raises:
        DataError: the folder is missing or holds no sound file.
    """

    def __init__(self, folder: str | Path, subset: str = "") -> None:
        self.folder = Path(folder)
        self.subset = subset or self.folder.resolve().name
        self.faults: dict[str, str] = {}
        if not self.folder.is_dir():
            raise DataError(f"{folder} is not a folder: expected one with {PLAIN_LAYOUT}.")
        sounds, texts = _pair(files_below(self.folder))
        if not sounds:
            raise DataError(f"{folder} holds no recordings: expected {PLAIN_LAYOUT}.")
        ids = _ids(self.folder, {**sounds, **texts})
        self._utterances = {}
        for key, paths in sounds.items():
            id = ids[key]
            if len(paths) > 1 or id in self._utterances or self.faults.get(id) == TWO_RECORDINGS:
                self.faults[id] = TWO_RECORDINGS
                self._utterances.pop(id, None)
                continue
            words, fault = _read_transcript(texts.get(key, []))
            if fault and texts:
                self.faults[id] = fault
            speaker = _speaker(paths[0], self.folder, named=bool(subset))
            self._utterances[id] = Utterance(id, speaker, paths[0], words, self.subset)
        for key in texts.keys() - sounds.keys():
            self.faults.setdefault(ids[key], NO_RECORDING)
        self.faults = dict(sorted(self.faults.items()))

    def __repr__(self) -> str:
        return (
            f"PlainFolder({str(self.folder)!r}, {self.subset!r}): {len(self)} utterances, {len(self.speakers)} speakers"
        )


def has_transcripts(files: Sequence[Path]) -> bool:
    """Return whether one of the files is a sound file with a transcript of its name."""
    sounds, texts = _pair(files)
    return not sounds.keys().isdisjoint(texts)


def _pair(files: Sequence[Path]) -> tuple[dict[Key, list[Path]], dict[Key, list[Path]]]:
    """Return the sound files and the texts that can be transcripts, by folder and name."""
    sounds: dict[Key, list[Path]] = {}
    texts: dict[Key, list[Path]] = {}
    for path in files:
        suffix = path.suffix.lower()
        if suffix in SOUND_SUFFIXES or suffix in TRANSCRIPT_SUFFIXES:
            table = sounds if suffix in SOUND_SUFFIXES else texts
            table.setdefault((path.parent, utterance_id(path, suffix)), []).append(path)
    folders = {folder for folder, _ in sounds}
    return sounds, {
        key: paths
        for key, paths in texts.items()
        if key in sounds
        or (key[0] in folders and key[1].lower() not in NOT_TRANSCRIPTS and not has_suffix(paths[0], ".trans.txt"))
    }


def _ids(folder: Path, keys: dict[Key, list[Path]]) -> dict[Key, str]:
    """Return the id of each file: its name, or its path where several have this name."""
    count = Counter(name for _, name in keys)
    ids = {}
    for parent, name in keys:
        parts = (name,) if count[name] == 1 else (*parent.relative_to(folder).parts, name)
        ids[parent, name] = unicodedata.normalize("NFC", "_".join("-".join(parts).split()))
    return ids


def _speaker(path: Path, folder: Path, named: bool) -> str:
    parts = path.relative_to(folder).parts
    if named and len(parts) == 3:
        return parts[0]
    return parts[-2] if len(parts) > 1 else folder.resolve().name


def _read_transcript(paths: Sequence[Path]) -> tuple[str | None, str | None]:
    """Return the words of a transcript and its fault; lines are joined. Two files may hold the same words."""
    try:
        texts = {" ".join(" ".join(read_lines(path)).split()) for path in paths}
    except DataError as error:
        return None, str(error).removesuffix(".")
    if len(texts) != 1:
        return None, TWO_TRANSCRIPTS if texts else NO_TRANSCRIPT
    words = texts.pop()
    return (words, None) if words else (None, NO_WORDS)
