"""A corpus in LibriSpeech's layout whose recordings are noise, for tests that need no speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

WORDS = "hello world yes"
LEXICON = "hello HH AH0 L OW1\nworld W ER1 L D\nyes Y EH1 S\n"


def write_utterance(root: Path, subset: str, id: str, text: str | None, seconds: float | None = 1.5) -> None:
    """Write a recording of noise, unless `seconds` is None, and a line of its transcript, unless `text` is None."""
    speaker, chapter, _ = id.split("-")
    folder = root / "LibriSpeech" / subset / speaker / chapter
    folder.mkdir(parents=True, exist_ok=True)
    if seconds is not None:
        noise = np.random.default_rng(int(speaker)).standard_normal(round(16_000 * seconds)) / 20
        soundfile.write(folder / f"{id}.flac", noise, 16_000)
    if text is not None:
        with (folder / f"{speaker}-{chapter}.trans.txt").open("a", encoding="utf-8") as file:
            file.write(f"{id} {text}\n")


def write_corpus(root: Path) -> None:
    """Write the subsets train with five utterances and test with one, and my.dict with all pronunciations."""
    for speaker in range(1, 6):
        write_utterance(root, "train", f"{speaker}-1-0000", WORDS.upper())
    write_utterance(root, "test", "9-1-0000", "Hello, world!")
    (root / "my.dict").write_text(LEXICON, encoding="utf-8")
