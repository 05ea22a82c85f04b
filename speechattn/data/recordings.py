"""The recordings of a subset in either layout, LibriSpeech's or a plain folder, chosen by the files that are there."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from speechattn.data.audio.source import SOUND_SUFFIXES
from speechattn.data.labels.segments import Utterance
from speechattn.data.librispeech import AUDIO_SUFFIXES, LibriSpeech, Speaker, corpus_folder
from speechattn.data.plain_folder import PlainFolder, has_transcripts
from speechattn.errors import DataError
from speechattn.system.folders import files_below, has_suffix


class Recordings(Protocol):
    """The utterances of one subset, in LibriSpeech's layout or a plain folder, sorted by id."""

    subset: str
    """The name of the subset, and of its alignments: `<subset>.phones.ctm`."""
    folder: Path
    """The folder that holds all recordings."""
    faults: dict[str, str]
    """The fault of each utterance that is incomplete, by id."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Utterance]: ...
    def __getitem__(self, index: int, /) -> Utterance: ...
    @property
    def speakers(self) -> dict[str, Speaker]:
        """The speakers who have recordings, by id."""


def open_recordings(root: str | Path, subset: str = "") -> Recordings:
    """Return the recordings of `subset` below `root`; with the subset "" or ".", those of the plain folder `root`.

    A subset is in LibriSpeech's layout if it holds `<speaker>/<chapter>/*.trans.txt`, or recordings at this depth and
    no transcripts of single files. Any other folder with sound files is a plain one: see `PlainFolder`.

    Raises:
        DataError: the folder is missing or holds no recordings.
    """
    subset = posixpath.normpath(subset) if subset else ""
    if subset in ("", "."):
        _check_no_librispeech(Path(root))
        return PlainFolder(root)
    folder = corpus_folder(Path(root), subset) / subset
    return PlainFolder(folder, subset) if _is_plain(folder) else LibriSpeech(root, subset)


def _check_no_librispeech(folder: Path) -> None:
    """Raise DataError, with what to type, if a folder given without subset is LibriSpeech or a subset of it."""
    files = files_below(folder) if folder.is_dir() else []
    depths = {len(path.relative_to(folder).parts) for path in files if has_suffix(path, ".trans.txt")}
    if 3 in depths:
        full = folder.resolve()
        raise DataError(f"{folder} is a subset in LibriSpeech's layout: use --data {full.parent} --subset {full.name}.")
    if max(depths, default=0) > 3 or (depths and not has_transcripts(files)):
        LibriSpeech(folder, "")  # raises: its message lists the subsets


def _is_plain(folder: Path) -> bool:
    """Return whether the folder of a subset is to be read as a plain folder."""
    if any(not path.name.startswith(".") for path in folder.glob("*/*/*.trans.txt")):  # without a walk over all files
        return False
    files = files_below(folder)
    deep = [path for path in files if len(path.relative_to(folder).parts) == 3]
    if any(has_suffix(path, ".trans.txt") for path in deep):
        return False
    if has_transcripts(files):
        return True
    other = any(has_suffix(path, *AUDIO_SUFFIXES) for path in deep) or any(
        has_suffix(path, ".trans.txt") for path in files
    )
    return not other and any(has_suffix(path, *SOUND_SUFFIXES) for path in files)
