"""The text format of librispeech-alignments: a line for each utterance with its words and where each one ends.

`<speaker>-<chapter>.alignment.txt` is in the chapter's folder (or in a tree of its own with the same names)::

    84-121123-0000 ",GO,,DO,YOU,HEAR," "0.490,0.890,1.270,1.380,1.490,1.920,2.290"

Words and times pair one to one; a word begins where the one before it ends, the first at 0. Silence is an empty
word, so there are no gaps. Phones are not in this format. It comes from
https://github.com/CorentinJ/librispeech-alignments.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

from speechattn.data.labels.segments import FaultHandler, Segment, raise_fault
from speechattn.data.text_files import check_text, read_table
from speechattn.errors import DataError

SUFFIX = ".alignment.txt"

_LINE = re.compile(r'\s*(\S+)\s+"([^"]*)"\s+"([^"]*)"\s*')


def read_word_times(path: str | Path, fault: FaultHandler = raise_fault) -> dict[str, list[Segment]]:
    """Return the words of each utterance by id, in seconds, without gaps; the label of silence is empty.

    A bad line is passed to `fault`, with its utterance, file and line number.

    Raises:
        DataError: the file cannot be read; and, unless `fault` keeps them: a line has other fields, the numbers of
            words and times differ, a time is not a number or is before the previous one, or an utterance occurs
            twice.
    """
    utterances: dict[str, list[Segment]] = {}
    for number, line in enumerate(read_table(Path(path)), start=1):
        if not line.strip():
            continue
        id = line.split()[0]
        try:
            check_text(line)
            if id in utterances:
                raise ValueError(f"utterance {id} occurs twice.")
            utterances[id] = _words(line)
        except ValueError as error:
            fault(id, DataError(f"{path}:{number}: {error}"))
    return utterances


def _words(line: str) -> list[Segment]:
    """Return the words of a line, or raise ValueError."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f'expected \'utterance ",WORD,,WORD," "0.5,0.8,..."\', got {line.strip()[:80]!r}.')
    _, words, times = found.groups()
    return _segments(words.split(","), times.split(","))


def _segments(words: list[str], times: list[str]) -> list[Segment]:
    """Return one segment a word, or raise ValueError."""
    if len(words) != len(times):
        raise ValueError(f"{len(words)} words (silences included) and {len(times)} end times do not pair one to one.")
    edges = [0.0]
    for text in times:
        try:
            edges.append(float(text))
        except ValueError as error:
            raise ValueError(f"an end time must be a number of seconds, got {text!r}.") from error
        if not (math.isfinite(edges[-1]) and edges[-1] >= edges[-2]):
            raise ValueError(f"end times must not fall, got {text} after {edges[-2]:g} s.")
    return [Segment(start, stop, word.strip()) for (start, stop), word in zip(pairwise(edges), words, strict=True)]
