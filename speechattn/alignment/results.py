"""The files of one aligned subset: tables of phones, words and scores, missing words, and TextGrids.

    <subset>.phones.ctm, <subset>.words.ctm       times; silence between words has no line
    <subset>.scores.tsv                           a line for each utterance, those without alignment included
    <subset>.missing_words.tsv                    words without pronunciation, and how often each occurs
    <subset>/<speaker>/[<chapter>/]<utt>.TextGrid

All but the missing words can be read by `load_alignments`. Each file appears whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from speechattn.alignment.times import AlignedUtterance
from speechattn.data.labels.ctm import write_ctm
from speechattn.data.labels.segments import SILENCE, Segment, Utterance
from speechattn.data.labels.textgrid import Tier, write_textgrid
from speechattn.data.text_files import read_lines
from speechattn.system.atomic_files import write_lines
from speechattn.system.progress import progress_bar

TABLES = ("phones.ctm", "words.ctm", "scores.tsv")


def write_tables(out: Path, subset: str, aligned: Mapping[str, AlignedUtterance], excluded: Mapping[str, str]) -> float:
    """Write the three tables of a subset, and return the seconds of audio that are aligned."""
    write_ctm(out / f"{subset}.phones.ctm", ((id, each.phones) for id, each in aligned.items()))
    write_ctm(out / f"{subset}.words.ctm", ((id, each.words) for id, each in aligned.items()))
    rows = {id: f"{each.score:.4f}\t{each.phones[-1].stop_s:.3f}\taligned" for id, each in aligned.items()}
    rows |= {id: f"\t\t{' '.join(why.split())}" for id, why in excluded.items()}
    lines = ["utterance\tscore\tseconds\tstatus", *(f"{id}\t{rows[id]}" for id in sorted(rows))]
    write_lines(out / f"{subset}.scores.tsv", lines)
    return sum(float(rows[id].split("\t")[1]) for id in aligned)


def read_left_out(out: Path, subset: str) -> dict[str, str]:
    """Return the reasons by id of the utterances of a subset that have no alignment, from its table of scores."""
    rows = [line.split("\t") for line in read_lines(out / f"{subset}.scores.tsv")[1:]]
    return {id: status for id, score, _, status in rows if not score}


def write_textgrids(
    out: Path,
    subset: str,
    utterances: Sequence[Utterance],
    aligned: Mapping[str, AlignedUtterance],
    check: Callable[[], None],
) -> None:
    """Write a TextGrid for each aligned utterance, tiers "words" and "phones", silence with an empty text.

    `check` is called before each file, and may raise to stop.
    """
    chosen = [utterance for utterance in utterances if utterance.id in aligned]
    for utterance in progress_bar(chosen, desc=f"TextGrids of {subset}", unit="utt", leave=False):
        check()
        each = aligned[utterance.id]
        folder = out / subset / utterance.speaker / utterance.chapter
        folder.mkdir(parents=True, exist_ok=True)
        write_textgrid(folder / f"{utterance.id}.TextGrid", tiers(each))


def tiers(aligned: AlignedUtterance) -> list[Tier]:
    """Return the two tiers of an utterance, times rounded to 0.1 ms."""
    end = round(aligned.phones[-1].stop_s, 4)
    return [Tier("words", _rounded(aligned.words), end), Tier("phones", _rounded(aligned.phones), end)]


def _rounded(segments: Iterable[Segment]) -> list[Segment]:
    return [
        replace(s, start_s=round(s.start_s, 4), stop_s=round(s.stop_s, 4), label="" if s.label == SILENCE else s.label)
        for s in segments
    ]


def write_missing_words(out: Path, subset: str, missing: Mapping[str, int]) -> Path:
    """Write the words without pronunciation, the most frequent first, and return the file; remove it if none is."""
    path = out / f"{subset}.missing_words.tsv"
    if missing:
        ordered = sorted(missing, key=lambda word: (-missing[word], word))
        write_lines(path, [f"{word}\t{missing[word]}" for word in ordered])
    else:
        path.unlink(missing_ok=True)
    return path
