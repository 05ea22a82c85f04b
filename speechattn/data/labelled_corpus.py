"""A labelled corpus: recordings with labels, without damaged ones, which are counted by reason.

Labels come from an alignment, or, for speech and silence, from an energy detector when the audio is read.

Damaged recordings are left out and counted, and if they are more than `max_bad` of the corpus the run stops: then the
disk or the download is at fault, not a file. Headers are checked when the corpus is loaded, audio when it is decoded.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from speechattn.data.audio.errors import AudioError, AudioWarning
from speechattn.data.audio.files import SAMPLE_RATE, audio_samples, load_audio
from speechattn.data.labels.alignments import load_alignments
from speechattn.data.labels.classes import PHONES, SPEECH
from speechattn.data.labels.energy_vad import speech_segments
from speechattn.data.labels.frame_labels import MAX_OVERHANG_S
from speechattn.data.labels.segment_arrays import SegmentSlice
from speechattn.data.labels.segments import Alignment, Segment, Utterance
from speechattn.data.librispeech import RECORDING_FAULTS
from speechattn.data.recordings import Recordings, open_recordings
from speechattn.errors import DataError
from speechattn.system.serialization import plain_number

HeaderReader = Callable[[Sequence[Path], int], Iterable[int | AudioError]]
AlignmentReader = Callable[[str | Path, str, Sequence[str] | None, dict[str, str] | None], Mapping[str, Alignment]]

NO_ALIGNMENT, DAMAGED_ALIGNMENT = "no alignment", "damaged alignment"
MISMATCH = "alignment and audio differ in length"


@dataclass(frozen=True)
class LabelledUtterance:
    """An utterance, its length in samples at the corpus' rate, and its labels in seconds.

    Without an alignment there are no segments until the audio is decoded: `labelled_waveform` adds them.
    """

    utterance: Utterance
    num_samples: int
    segments: Sequence[Segment]

    @property
    def id(self) -> str:
        """The utterance's id."""
        return self.utterance.id

    @property
    def speaker(self) -> str:
        """The speaker's id."""
        return self.utterance.speaker


def read_headers(paths: Iterable[Path], sample_rate: int) -> Iterator[int | AudioError]:
    """Yield the number of samples at `sample_rate` that the header of each file promises, or its fault."""
    for path in paths:
        try:
            yield audio_samples(path, sample_rate)
        except AudioError as error:
            yield error


def labelled_waveform(
    item: LabelledUtterance, sample_rate: int, detect: bool = False
) -> tuple[LabelledUtterance, Tensor]:
    """Return an utterance and its waveform [N], N = item.num_samples; with `detect`, its segments are detected.

    Raises:
        AudioError: the file does not decode, or to another number of samples.
    """
    path = item.utterance.path
    waveform, _ = load_audio(path, sample_rate)
    if len(waveform) != item.num_samples:
        message = f"{path}: the header promised {item.num_samples} samples, decoding gave {len(waveform)}."
        raise AudioError(message, path, "truncated")
    return replace(item, segments=speech_segments(waveform, sample_rate)) if detect else item, waveform


class Corpus:
    """The labelled utterances of a subset: `utterances` sorted by id, and in `skipped` the ids left out, by reason.

    A missing alignment is not damage; every other reason counts towards `max_bad`, a share of the utterances that are
    aligned or damaged. A file found damaged later is removed from `utterances`, which is then a new list: older ones
    are not changed. With `detect` there are no alignments, all recordings count, and speech is detected when they are
    decoded.
    """

    def __init__(
        self, subset: str, max_bad: float = 0.01, sample_rate: int = SAMPLE_RATE, detect: bool = False
    ) -> None:
        share = plain_number(max_bad)
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
            raise ValueError(f"max_bad must be a share from 0 to 1, got {max_bad!r}.")
        self.subset = subset
        self.max_bad = share
        self.sample_rate = sample_rate
        self.detect = detect
        self.utterances: list[LabelledUtterance] = []
        self.skipped: dict[str, list[str]] = {}
        self._bad: dict[str, str] = {}
        self._found: dict[str, str] = {}
        self._considered = 0

    def read(self, item: LabelledUtterance) -> Tensor:
        """Return the waveform [N] of one utterance, N = item.num_samples, or raise AudioError; nothing is counted."""
        return labelled_waveform(item, self.sample_rate)[1]

    def waveforms(
        self, utterances: Iterable[LabelledUtterance] | None = None
    ) -> Iterator[tuple[LabelledUtterance, Tensor]]:
        """Yield each utterance (all by default, or these) with its waveform [N], except those that do not decode.

        Those are moved to `skipped`, and counted in a warning at the end.

        Raises:
            DataError: as soon as more than `max_bad` of the corpus is bad.
        """
        known = len(self._bad)
        for item in self.utterances if utterances is None else list(utterances):
            if item.id in self._bad:
                continue
            try:
                pair = labelled_waveform(item, self.sample_rate, self.detect)
            except AudioError as error:
                self.leave_out(item.id, error)
                continue
            yield pair
        if len(self._bad) > known:
            self.warn_left_out()

    def leave_out(self, id: str, error: AudioError) -> None:
        """Move an utterance that does not decode to `skipped`.

        Raises:
            DataError: more than `max_bad` of the corpus is bad now.
        """
        self.utterances = [other for other in self.utterances if other.id != id]
        self._reject(id, error.reason, error)
        self._check_limit()

    def skip(self, id: str, reason: str, found: str = "") -> None:
        """Move a whole utterance that a task cannot use to `skipped`; it is no damage. `found` says more."""
        self.utterances = [other for other in self.utterances if other.id != id]
        self._found[id] = found or reason
        self._skip(id, reason)

    def warn_left_out(self) -> None:
        """Warn of the utterances that cannot be used."""
        warnings.warn(f"{self._bad_summary()}. They are left out.", AudioWarning, stacklevel=3)

    def summary(self) -> str:
        """Return a text: the size of the corpus, and a line for each reason for which utterances were left out."""
        minutes = sum(item.num_samples for item in self.utterances) / self.sample_rate / 60
        speakers = len({item.speaker for item in self.utterances})
        lines = [f"{self.subset}: {len(self.utterances)} utterances, {speakers} speakers, {minutes:.1f} minutes"]
        lines += [f"  left out, {reason}: {len(ids)} ({_first(ids, 3)})" for reason, ids in self.skipped.items()]
        return "\n".join(lines)

    def losses(self) -> list[dict[str, str]]:
        """Return the utterances left out: subset, id, reason, and the full message if there is one."""
        return [
            {"subset": self.subset, "id": id, "reason": reason, "found": self._found.get(id, reason)}
            for reason, ids in self.skipped.items()
            for id in ids
        ]

    def explain(self, reasons: Mapping[str, str], kinds: Mapping[str, Sequence[str]]) -> None:
        """Replace "no alignment" by what an aligner said, by id, and by kind, under which utterances are counted.

        Utterances without alignment that are in none of `kinds` were not to be aligned, and are not listed.
        """
        missing = set(self.skipped.pop(NO_ALIGNMENT, ()))
        for kind, ids in kinds.items():
            for id in filter(missing.__contains__, ids):
                self._found[id] = reasons[id]
                self._skip(id, kind)

    def _add(self, utterance: Utterance, alignment: Alignment | None, num_samples: int | AudioError) -> None:
        """Add a recording if its header is valid and its length is the alignment's, if there is one."""
        self._considered += 1
        if isinstance(num_samples, AudioError):
            self._reject(utterance.id, num_samples.reason, num_samples)
            return
        duration = num_samples / self.sample_rate
        if alignment is not None and not alignment.fits(duration, MAX_OVERHANG_S):
            self._reject(utterance.id, MISMATCH)
        else:
            segments = SegmentSlice.of(alignment.over(duration) if alignment is not None else [])
            self.utterances.append(LabelledUtterance(utterance, num_samples, segments))

    def _count_bad(self, id: str, reason: str, found: str = "") -> None:
        """Count an incomplete utterance; `found` says more than the reason by which it is counted."""
        self._considered += 1
        self._reject(id, reason, found)

    def _skip(self, id: str, reason: str) -> None:
        self.skipped.setdefault(reason, []).append(id)

    def _reject(self, id: str, reason: str, found: str | AudioError = "") -> None:
        self._found[id] = str(found) or reason
        self._bad[id] = reason if isinstance(found, AudioError) else self._found[id].removesuffix(".")
        self._skip(id, reason)

    def _bad_summary(self) -> str:
        bad, share = len(self._bad), len(self._bad) / self._considered
        named = _first([f"{id} ({reason})" for id, reason in self._bad.items()], 10)
        return f"{self.subset}: {bad} of {self._considered} utterances ({share:.1%}) cannot be used: {named}"

    def _check_limit(self) -> None:
        if len(self._bad) > self.max_bad * self._considered + 1e-9:  # 0.29 * 100 is 28.999999999999996
            enough = math.ceil(1000 * len(self._bad) / self._considered) / 1000
            raise DataError(
                f"{self._bad_summary()}. max_bad allows {self.max_bad:.1%}: restore these files, or leave them out "
                f"with --max-bad {enough:g} (in Python max_bad={enough:g})."
            )


def load_corpus(
    root: str | Path,
    subset: str,
    alignments: str | Path | None,
    classes: Sequence[str] | None = PHONES,
    max_bad: float = 0.01,
    *,
    sample_rate: int = SAMPLE_RATE,
    recordings: Recordings | None = None,
    needs_words: bool = True,
    headers: HeaderReader = read_headers,
    read_alignments: AlignmentReader = load_alignments,
) -> Corpus:
    """Return the labelled utterances of `subset`: folders and headers are read, audio is not decoded.

    `alignments` is a folder or file for `load_alignments`, and `classes=None` means all words; alignments=None means
    that SIL and SPEECH are detected, or with classes=() that utterances have no segments. Recordings without an
    alignment are left out and counted. So are incomplete utterances: no recording or two, a bad header, a damaged
    alignment or one that ends more than 0.5 s from the audio's end, and, if the subset has transcripts and alignments,
    no words or two transcripts. These may be at most `max_bad` of the utterances that are aligned or damaged; for a
    test set use `max_bad=0`.

    `recordings` replace those that are found below `root`. With classes=() and without `needs_words` the words of an
    utterance do not matter.

    `headers` and `read_alignments` replace the readers of headers (`read_headers`) and alignments, by such that
    remember what they read.

    Raises:
        ValueError: alignments=None, and classes other than SIL and SPEECH.
        DataError: the layout or the alignments are malformed, no recording has an alignment, or too many are
            bad (the first ten are named with the reason).
    """
    wanted = None if classes is None else tuple(classes)
    if alignments is None and wanted not in (SPEECH, ()):
        raise ValueError(f"without alignments the classes can only be {SPEECH} or (): give alignments.")
    recordings = open_recordings(root, subset) if recordings is None else recordings
    corpus = Corpus(recordings.subset, max_bad, sample_rate, detect=alignments is None and wanted == SPEECH)
    damaged: dict[str, str] = {}
    by_id: Mapping[str, Alignment] = (
        {} if alignments is None else read_alignments(alignments, recordings.subset, classes, damaged)
    )
    known = {utterance.id: utterance for utterance in recordings}
    faults = recordings.faults
    if corpus.detect or not needs_words:  # a detector needs no words either
        faults = {id: fault for id, fault in faults.items() if fault in RECORDING_FAULTS}
    ids = sorted(known.keys() | recordings.faults.keys())
    free = alignments is None
    whole = [id for id in ids if (free or id in by_id) and id not in faults and id not in damaged]
    lengths = dict(zip(whole, headers([known[id].path for id in whole], sample_rate), strict=True))
    for id in ids:
        fault = faults.get(id)
        if not (free or id in by_id or id in damaged):
            corpus._skip(id, fault or NO_ALIGNMENT)
        elif fault is not None:
            corpus._count_bad(id, fault)
        elif id in damaged:
            corpus._count_bad(id, DAMAGED_ALIGNMENT, damaged[id])
        else:
            corpus._add(known[id], by_id.get(id), lengths[id])
    if alignments is not None:
        _check_alignments(recordings, alignments, by_id, damaged)
    corpus._check_limit()
    return corpus


def _check_alignments(
    recordings: Recordings, alignments: str | Path, by_id: Mapping[str, Alignment], damaged: Mapping[str, str]
) -> None:
    """Raise DataError if no recording has an alignment; warn of damaged alignments that belong to none."""
    known = {utterance.id for utterance in recordings}
    if known and not any(id in by_id or id in damaged for id in known):
        hint = f" Give the folder that holds those of {recordings.subset} too." if Path(alignments).is_file() else ""
        raise DataError(
            f"none of the {len(recordings)} recordings in {recordings.folder} has an alignment in {alignments}: "
            f"recordings are called {min(known)}, alignments {_first(sorted(by_id), 1) or 'nothing'}.{hint}"
        )
    unknown = [error for id, error in damaged.items() if id not in known and id not in recordings.faults]
    if unknown:
        warnings.warn(
            f"{len(unknown)} damaged alignments belong to no recording of {recordings.subset}: {_first(unknown, 3)}",
            AudioWarning,
            stacklevel=3,
        )


def _first(names: Sequence[str], count: int) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
