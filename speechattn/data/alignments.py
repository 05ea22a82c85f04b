"""The alignments of a subset, in whichever of the known forms they are there, with the labels of one label set.

    <subset>.phones.ctm, <subset>.words.ctm      a line for each phone or word (ctm)
    [[LibriSpeech/]<subset>/]**/<utt>.TextGrid   tiers "phones", "words", of the Montreal Forced Aligner (textgrid)
    [[LibriSpeech/]<subset>/]**/*.alignment.txt  words, of librispeech-alignments (wordtimes)
    <subset>.frame_labels.txt, classes.txt       a class per frame, phones (framelabels)

Here is decided where to look and what a gap means. Time that no phone covers is unknown, and so is time that no
word covers, save in one case: a CTM of words without a single line of silence says silence by leaving it out.
Not an aligner; audio without any alignment is for `vad`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from speechattn.data.ctm import read_ctm
from speechattn.data.framelabels import read_classes, read_frame_rows
from speechattn.data.labels import PHONES, label_class, label_set, plain_word, speech_class
from speechattn.data.segments import SILENCE, Alignment, Segment
from speechattn.data.textgrid import find_tier, read_textgrid
from speechattn.data.wordtimes import SUFFIX, read_word_times
from speechattn.errors import DataError

_TEXTGRID = "*.TextGrid"
_KINDS = {"phones": ("phones",), "words": ("words",), "speech": ("phones", "words")}


def load_alignments(
    directory_or_file: str | Path, subset: str, classes: Sequence[str] | None = PHONES
) -> dict[str, Alignment]:
    """Alignments by utterance id with labels from `classes`, from a file or the first form that a folder has.

    Phones are looked for as CTM, TextGrid, rows of frame labels, in this order; words as CTM, *.alignment.txt,
    TextGrid; for SIL and SPEECH either will do, phones first. `classes=None` asks for words as they were said,
    in lower case.

    Raises:
        DataError: nothing is found (the message says what was looked for), a file is malformed or holds
            something else, or a phone is unknown.
    """
    path = Path(directory_or_file)
    labels = "words" if classes is None else label_set(classes)
    kinds = _KINDS[labels]
    if path.exists() and not (path.is_dir() or path.is_file()):  # reading a pipe would hang
        raise DataError(f"{path} is neither a file nor a folder.")
    files = _find(path, subset, kinds) if path.is_dir() else [path]
    found: dict[str, Alignment] = {}
    for file in files:
        kind, alignments = _read(file, kinds, classes)
        means = _meaning(kind, classes)
        for id, alignment in alignments.items():
            if id in found:
                raise DataError(f"{file}: utterance {id} was already found in another file below {path}.")
            found[id] = _translated(alignment, means, f"{file}: utterance {id}")
    return found


def _find(folder: Path, subset: str, kinds: Sequence[str]) -> list[Path]:
    """The files of the first form that is there."""
    wanted = []
    for kind in kinds:
        for name, files in _forms(folder, subset, kind):
            if files:
                return files
            wanted.append(name)
    *others, last = dict.fromkeys(wanted)
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise DataError(
        f"{folder} has no alignments of {subset!r}: looked for {', '.join(others)} or {last}, found {present}."
    )


def _forms(folder: Path, subset: str, kind: str) -> Iterator[tuple[str, list[Path]]]:
    """What is looked for, and the files of that name, in order of preference."""
    table, rows = folder / f"{subset}.{kind}.ctm", folder / f"{subset}.frame_labels.txt"
    yield table.name, [table] if table.is_file() else []
    if kind == "words":
        yield f"*{SUFFIX}", _below(folder, subset, f"*{SUFFIX}")
    yield _TEXTGRID, _below(folder, subset, _TEXTGRID)
    if kind == "phones":
        yield rows.name, [rows] if rows.is_file() else []


def _below(folder: Path, subset: str, pattern: str) -> list[Path]:
    """Files at any depth below the subset's own folder if it has one, else below `folder`."""
    own = (base for base in (folder / "LibriSpeech" / subset, folder / subset) if base.is_dir())
    files = (path for path in next(own, folder).rglob(pattern) if not path.name.startswith("._"))  # of macOS
    return sorted(path for path in files if path.is_file())


def _read(path: Path, kinds: Sequence[str], classes: Sequence[str] | None) -> tuple[str, dict[str, Alignment]]:
    """The kind of labels that a file holds, one of `kinds`, and its alignments as they are written."""
    if path.name.endswith(".TextGrid"):
        return _read_textgrid(path, kinds)
    if path.suffix == ".ctm":
        kind = next((kind for kind in ("phones", "words") if path.name.endswith(f".{kind}.ctm")), kinds[0])
    else:
        kind = "words" if path.name.endswith(SUFFIX) else "phones"
    if kind not in kinds:
        raise DataError(f"{path} holds {kind}, and --labels {kinds[0]} needs {kinds[0]}.")
    if path.suffix == ".ctm":
        return kind, _read_ctm(path, kind)
    if kind == "words":
        return kind, {id: _closed(words) for id, words in read_word_times(path).items()}
    names = path.parent / "classes.txt"
    return kind, read_frame_rows(path, read_classes(names) if names.is_file() else PHONES)


def _read_textgrid(path: Path, kinds: Sequence[str]) -> tuple[str, dict[str, Alignment]]:
    tiers = read_textgrid(path)
    for kind in kinds:
        tier = find_tier(tiers, kind, path)
        if tier is not None:
            return kind, {path.name.removesuffix(".TextGrid"): Alignment(tier.segments, tier.stop)}
    names = ", ".join(repr(tier.name) for tier in tiers) or "none"
    raise DataError(f"{path} has no interval tier called {' or '.join(map(repr, kinds))}; it has {names}.")


def _read_ctm(path: Path, kind: str) -> dict[str, Alignment]:
    rows = read_ctm(path)
    if kind == "words" and not any(plain_word(word.label) == SILENCE for words in rows.values() for word in words):
        return {id: Alignment(words, stop=None) for id, words in rows.items()}
    return {id: _closed(segments) for id, segments in rows.items()}


def _closed(segments: Sequence[Segment]) -> Alignment:
    """An alignment that covers what its segments cover."""
    return Alignment(segments, segments[-1].stop)


def _meaning(kind: str, classes: Sequence[str] | None) -> Callable[[str], str]:
    """From a label of an alignment of `kind` to the class it means; equal labels are looked up once."""
    if classes is None:
        return cache(plain_word)
    if label_set(classes) == "speech":
        return cache(lambda label: speech_class(label, kind))
    return cache(lambda label: label_class(label, classes))


def _translated(alignment: Alignment, means: Callable[[str], str], where: str) -> Alignment:
    try:
        return replace(alignment, segments=[replace(s, label=means(s.label)) for s in alignment.segments])
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
