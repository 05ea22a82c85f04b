"""The alignments of a subset, from a folder or file in any of the known formats, with the labels of one label set.

    <subset>.phones.ctm, <subset>.words.ctm      a line for each phone or word: ctm.py
    [[LibriSpeech/]<subset>/]**/<utt>.TextGrid   tiers "phones", "words", of the Montreal Forced Aligner: textgrid.py
    [[LibriSpeech/]<subset>/]**/*.alignment.txt  words, of librispeech-alignments: librispeech_alignments.py
    <subset>.frame_labels.txt, classes.txt       a class per frame, phones: frame_labels.py

Time that no phone or word covers is unlabelled, with one exception: in a CTM of words without any line of silence, gaps
are silence. This is not an aligner; energy_vad.py labels audio without alignments.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from speechattn.data.labels.classes import PHONES, label_class, label_set, plain_word, speech_class
from speechattn.data.labels.ctm import read_ctm
from speechattn.data.labels.frame_labels import read_classes, read_frame_rows
from speechattn.data.labels.librispeech_alignments import SUFFIX, read_word_times
from speechattn.data.labels.segment_arrays import Relabelling
from speechattn.data.labels.segments import SILENCE, Alignment, FaultHandler, Segment
from speechattn.data.labels.textgrid import find_tier, read_textgrid
from speechattn.errors import DataError
from speechattn.system.folders import files_below, has_suffix, utterance_id

_TEXTGRID = ".textgrid"
_CLASSES = "classes.txt"
_PACKED = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z")
_KINDS = {"phones": ("phones",), "words": ("words",), "speech": ("phones", "words")}


def load_alignments(
    directory_or_file: str | Path,
    subset: str,
    classes: Sequence[str] | None = PHONES,
    damaged: dict[str, str] | None = None,
) -> dict[str, Alignment]:
    """Return alignments by utterance id with labels from `classes`, from a file or the first format that a folder has.

    Phones are searched for as CTM, TextGrid, rows of frame labels, in this order; words as CTM, *.alignment.txt,
    TextGrid; SIL and SPEECH as phones, then as words. `classes=None` means all words, in lower case. Suffixes may be in
    capitals, and linked folders are searched too.

    Utterances whose alignment is damaged (a line, a TextGrid file, a phone without a class, two alignments) are left
    out if others are good: `damaged`, if given, receives the reason of each, by id.

    Raises:
        DataError: nothing is found (the message lists what was searched for), or a table cannot be read or holds
            something else; without `damaged`, or when no alignment is good, the first fault.
    """
    kinds, path = _kinds(classes), Path(directory_or_file)
    found: dict[str, Alignment] = {}
    faults: dict[str, DataError] = {}
    for file in alignment_files(path, subset, classes):
        kind, alignments = _read(file, kinds, classes, faults.setdefault)
        relabelled = Relabelling(_class_lookup(kind, classes))
        for id, alignment in alignments.items():
            try:
                if id in found:
                    raise DataError(f"it was already found in another file below {path}.")
                found[id] = Alignment(relabelled(alignment.segments), alignment.stop_s)
            except DataError as error:
                faults.setdefault(id, DataError(f"{file}: utterance {id}: {error}"))
    found = {id: alignment for id, alignment in found.items() if id not in faults}
    if faults and (damaged is None or not found):
        raise next(iter(faults.values()))
    if damaged is not None:
        damaged.update((id, str(error)) for id, error in faults.items())
    return found


def alignment_files(directory_or_file: str | Path, subset: str, classes: Sequence[str] | None = PHONES) -> list[Path]:
    """Return the files that `load_alignments` reads.

    Raises:
        DataError: nothing is found, or the file is packed.
    """
    path, subset = Path(directory_or_file), subset and posixpath.normpath(subset)
    kinds = _kinds(classes)
    if not path.exists():
        raise DataError(f"{path} does not exist: expected a folder or a file with alignments of {' or '.join(kinds)}.")
    if not (path.is_dir() or path.is_file()):  # reading a pipe would hang
        raise DataError(f"{path} is neither a file nor a folder.")
    if path.is_file() and has_suffix(path, *_PACKED):
        raise DataError(f"{path} is packed: unpack it, and give the folder.")
    return _find(path, subset, kinds) if path.is_dir() else [path]


def alignment_inputs(directory_or_file: str | Path, subset: str, classes: Sequence[str] | None = PHONES) -> list[Path]:
    """Return all files on which the result of `load_alignments` depends: `alignment_files`, and names of classes."""
    files = alignment_files(directory_or_file, subset, classes)
    folders = dict.fromkeys(path.parent for path in files if not has_suffix(path, ".ctm", SUFFIX, _TEXTGRID))
    return [*files, *(folder / _CLASSES for folder in folders if (folder / _CLASSES).is_file())]


def _kinds(classes: Sequence[str] | None) -> tuple[str, ...]:
    return _KINDS["words" if classes is None else label_set(classes)]


def _find(folder: Path, subset: str, kinds: Sequence[str]) -> list[Path]:
    """Return the files of the first format that is there."""
    wanted = []
    for kind in kinds:
        for name, files in _candidates(folder, subset, kind):
            if files:
                return files
            wanted.append(name)
    *others, last = dict.fromkeys(wanted)
    present = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
    raise DataError(
        f"{folder} has no alignments of {subset!r}: looked for {', '.join(others)} or {last}, found {present}."
    )


def _candidates(folder: Path, subset: str, kind: str) -> Iterator[tuple[str, list[Path]]]:
    """Yield what is searched for, and the files of that name, in order of preference."""
    table, rows = f"{subset}.{kind}.ctm", f"{subset}.frame_labels.txt"
    yield table, _named(folder, table)
    if kind == "words":
        yield f"*{SUFFIX}", _below(folder, subset, SUFFIX)
    yield "*.TextGrid", _below(folder, subset, _TEXTGRID)
    if kind == "phones":
        yield rows, _named(folder, rows)


def _named(folder: Path, name: str) -> list[Path]:
    """Return the file of this name in the folder, or the first whose name differs in capitals only."""
    files = [path for path in folder.iterdir() if path.name.lower() == name.lower() and path.is_file()]
    return sorted(files, key=lambda path: (path.name != name, path))[:1]


def _below(folder: Path, subset: str, suffix: str) -> list[Path]:
    """Return files at any depth below the subset's own folder if it has one, else below `folder`."""
    own = (base for base in (folder / "LibriSpeech" / subset, folder / subset) if base.is_dir())
    return [path for path in files_below(next(own, folder)) if has_suffix(path, suffix) and path.is_file()]


def _read(
    path: Path, kinds: Sequence[str], classes: Sequence[str] | None, fault: FaultHandler
) -> tuple[str, dict[str, Alignment]]:
    """Return the kind of labels in a file, one of `kinds`, and its alignments as they are written."""
    name, ctm = path.name.lower(), has_suffix(path, ".ctm")
    if has_suffix(path, _TEXTGRID):
        return _read_textgrid(path, kinds, fault)
    if ctm:
        kind = next((kind for kind in ("phones", "words") if name.endswith(f".{kind}.ctm")), kinds[0])
    else:
        kind = "words" if name.endswith(SUFFIX) else "phones"
    if kind not in kinds:
        raise DataError(f"{path} holds {kind}, and --labels {kinds[0]} needs {kinds[0]}.")
    if ctm:
        return kind, _read_ctm(path, kind, fault)
    if kind == "words":
        return kind, {id: _ending_with(words) for id, words in read_word_times(path, fault).items()}
    names = path.parent / _CLASSES
    return kind, read_frame_rows(path, read_classes(names) if names.is_file() else PHONES, fault=fault)


def _read_textgrid(path: Path, kinds: Sequence[str], fault: FaultHandler) -> tuple[str, dict[str, Alignment]]:
    id = utterance_id(path, _TEXTGRID)
    try:
        tiers = read_textgrid(path)
        for kind in kinds:
            tier = find_tier(tiers, kind, path)
            if tier is not None:
                return kind, {id: Alignment(tier.segments, tier.stop_s)}
        names = ", ".join(repr(tier.name) for tier in tiers) or "none"
        raise DataError(f"{path} has no interval tier called {' or '.join(map(repr, kinds))}; it has {names}.")
    except DataError as error:
        fault(id, error)
        return kinds[0], {}


def _read_ctm(path: Path, kind: str, fault: FaultHandler) -> dict[str, Alignment]:
    rows = read_ctm(path, fault)
    used = {(words.table.names, label) for words in rows.values() for label in set(words.labels.tolist())}
    if kind == "words" and not any(plain_word(names[label]) == SILENCE for names, label in used):
        return {id: Alignment(words, stop_s=None) for id, words in rows.items()}
    return {id: _ending_with(segments) for id, segments in rows.items()}


def _ending_with(segments: Sequence[Segment]) -> Alignment:
    """Return an alignment that ends with its last segment."""
    return Alignment(segments, segments[-1].stop_s)


def _class_lookup(kind: str, classes: Sequence[str] | None) -> Callable[[str], str]:
    """Return the function from a label of an alignment of `kind` to its class, with a cache."""
    if classes is None:
        return cache(plain_word)
    if label_set(classes) == "speech":
        return cache(lambda label: speech_class(label, kind))
    return cache(lambda label: label_class(label, classes))
