"""What is said in a sound file, and by whom, from the transcript beside it: for titles."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from speechattn.data.text_files import read_lines
from speechattn.errors import DataError
from speechattn.plots.titles import sentence_title

SUFFIX = ".trans.txt"


class Spoken(NamedTuple):
    """The words of a recording, and its speaker; "" where it is not known."""

    text: str
    speaker: str

    def title(self, max_characters: int = 60) -> str:
        """Return `sentence_title` of it; "" if the words are not known."""
        return sentence_title(self.text, self.speaker, max_characters)


def find_spoken(path: Path, text: str | None = None) -> Spoken:
    """Return the words of a sound file: `text`, or its line in a LibriSpeech transcript, or the file <name>.txt.

    A transcript that cannot be read is none: these words are for titles only.
    """
    speaker = ""
    for transcripts in sorted(path.resolve().parent.glob(f"*{SUFFIX}")):
        speaker = path.resolve().parent.parent.name  # LibriSpeech: <speaker>/<chapter>/<utterance>
        if text is None:
            text = next((words for id, words in _lines(transcripts) if id == path.stem), None)
    if text is None and path.with_suffix(".txt").is_file():
        text = " ".join(" ".join(_read(path.with_suffix(".txt"))).split())
    return Spoken(" ".join((text or "").split()), speaker)


def _lines(path: Path) -> list[tuple[str, str]]:
    rows = (line.split(maxsplit=1) for line in _read(path))
    return [(row[0], row[1]) for row in rows if len(row) == 2]


def _read(path: Path) -> list[str]:
    try:
        return list(read_lines(path))
    except DataError:
        return []
