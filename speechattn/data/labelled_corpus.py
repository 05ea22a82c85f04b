"""A labelled corpus: recordings that have labels, minus those that cannot be trusted, each one accounted for.

Labels come from an alignment, or, speech and silence only, from the sound itself when it is read.

Bad audio never becomes training data in silence. It is left out, counted by reason, and when more than `max_bad`
of the corpus is bad the run stops: then the disk or the download is at fault, not a file. Headers are checked
when the corpus is loaded, sound when it is read. Not a data loader: it yields one utterance after the other.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from torch import Tensor

from speechattn.data.audio.files import SAMPLE_RATE, AudioError, AudioWarning, audio_samples, load_audio
from speechattn.data.labels.alignments import load_alignments
from speechattn.data.labels.classes import PHONES, SPEECH
from speechattn.data.labels.energy_vad import speech_segments
from speechattn.data.labels.frame_labels import MAX_OVERHANG_S
from speechattn.data.labels.segments import Alignment, Segment, Utterance
from speechattn.data.librispeech import RECORDING_FAULTS, LibriSpeech
from speechattn.errors import DataError
from speechattn.system.serialization import plain_number

NO_ALIGNMENT, DAMAGED_ALIGNMENT = "no alignment", "damaged alignment"
MISMATCH = "alignment and audio differ in length"


@dataclass(frozen=True)
class LabelledUtterance:
    """An utterance, its length in samples at the corpus' rate, and its labels in seconds.

    Without an alignment there are no segments until the sound is read: `Corpus.waveforms` brings them.
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


class Corpus:
    """What `load_corpus` found: `utterances` sorted by id, and in `skipped` the ids that were left out, by reason.

    A missing alignment is no damage; every other reason counts against `max_bad`, a share of the utterances that are
    aligned or damaged. A file found bad later leaves `utterances`, which is then a new list: older ones stay as they
    are. With `detect` there are no alignments, all recordings count, and speech is detected in what is read.
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
        self._wanted = 0

    def read(self, item: LabelledUtterance) -> Tensor:
        """The waveform [N] of one utterance, N = item.num_samples. Raises AudioError; nothing is counted."""
        path = item.utterance.path
        waveform, _ = load_audio(path, self.sample_rate)
        if len(waveform) != item.num_samples:
            message = f"{path}: the header promised {item.num_samples} samples, decoding gave {len(waveform)}."
            raise AudioError(message, path, "truncated")
        return waveform

    def waveforms(
        self, utterances: Iterable[LabelledUtterance] | None = None
    ) -> Iterator[tuple[LabelledUtterance, Tensor]]:
        """Each utterance (all by default, or these) with its waveform [N]; those that do not decode are left out.

        They move to `skipped`, and a warning says how many at the end.

        Raises:
            DataError: as soon as more than `max_bad` of the corpus is bad.
        """
        known = len(self._bad)
        for item in self.utterances if utterances is None else list(utterances):
            if item.id in self._bad:
                continue
            try:
                waveform = self.read(item)
            except AudioError as error:
                self.utterances = [other for other in self.utterances if other.id != item.id]
                self._reject(item.id, error.reason, error)
                self._check_limit()
                continue
            if self.detect:
                item = replace(item, segments=speech_segments(waveform, self.sample_rate))
            yield item, waveform
        if len(self._bad) > known:
            warnings.warn(f"{self._complaint()}. They are left out.", AudioWarning, stacklevel=2)

    def summary(self) -> str:
        """What is there and what was left out, a line for each reason."""
        minutes = sum(item.num_samples for item in self.utterances) / self.sample_rate / 60
        speakers = len({item.speaker for item in self.utterances})
        lines = [f"{self.subset}: {len(self.utterances)} utterances, {speakers} speakers, {minutes:.1f} minutes"]
        lines += [f"  left out, {reason}: {len(ids)} ({_first(ids, 3)})" for reason, ids in self.skipped.items()]
        return "\n".join(lines)

    def losses(self) -> list[dict[str, str]]:
        """Return what was left out: subset, id, reason, and what was found where that says more than the reason."""
        return [
            {"subset": self.subset, "id": id, "reason": reason, "found": self._found.get(id, reason)}
            for reason, ids in self.skipped.items()
            for id in ids
        ]

    def _admit(self, utterance: Utterance, alignment: Alignment | None) -> None:
        """Take a recording if its header is sound and its length is the alignment's, where there is one."""
        self._wanted += 1
        try:
            num_samples = audio_samples(utterance.path, self.sample_rate)
        except AudioError as error:
            self._reject(utterance.id, error.reason, error)
            return
        duration = num_samples / self.sample_rate
        if alignment is not None and not alignment.fits(duration, MAX_OVERHANG_S):
            self._reject(utterance.id, MISMATCH)
        else:
            segments = alignment.over(duration) if alignment is not None else []
            self.utterances.append(LabelledUtterance(utterance, num_samples, segments))

    def _refuse(self, id: str, reason: str, found: str = "") -> None:
        """Count an utterance that is not whole; `found` says more than the reason that it is counted by."""
        self._wanted += 1
        self._reject(id, reason, found)

    def _skip(self, id: str, reason: str) -> None:
        self.skipped.setdefault(reason, []).append(id)

    def _reject(self, id: str, reason: str, found: str | AudioError = "") -> None:
        self._found[id] = str(found) or reason
        self._bad[id] = reason if isinstance(found, AudioError) else self._found[id].removesuffix(".")
        self._skip(id, reason)

    def _complaint(self) -> str:
        bad, share = len(self._bad), len(self._bad) / self._wanted
        named = _first([f"{id} ({reason})" for id, reason in self._bad.items()], 10)
        return f"{self.subset}: {bad} of {self._wanted} utterances ({share:.1%}) cannot be used: {named}"

    def _check_limit(self) -> None:
        if len(self._bad) > self.max_bad * self._wanted + 1e-9:  # 0.29 * 100 is 28.999999999999996
            enough = math.ceil(1000 * len(self._bad) / self._wanted) / 1000
            raise DataError(
                f"{self._complaint()}. max_bad allows {self.max_bad:.1%}: restore these files, or leave them out with "
                f"--max-bad {enough:g} (in Python max_bad={enough:g})."
            )


def load_corpus(
    root: str | Path,
    subset: str,
    alignments: str | Path | None,
    classes: Sequence[str] | None = PHONES,
    max_bad: float = 0.01,
    *,
    sample_rate: int = SAMPLE_RATE,
) -> Corpus:
    """The labelled utterances of `subset`: folders and headers are read, sound is not decoded.

    `alignments` is a folder or file for `load_alignments`, and `classes=None` asks it for words as they were said;
    alignments=None leaves SIL and SPEECH to the detector. Recordings without an alignment are left out and
    counted. So is what is not whole: no recording or two, a bad header, a damaged alignment or one that ends more than
    0.5 s from the audio's end, and, where the subset has transcripts and alignments, no words or two transcripts.
    Of these at most `max_bad` of the utterances that are aligned or damaged is forgiven; for a test set give
    `max_bad=0`.

    Raises:
        ValueError: alignments=None, and classes other than SIL and SPEECH.
        DataError: the layout or the alignments are malformed, no recording has an alignment, or too many are
            bad (the first ten are named with the reason).
    """
    if alignments is None and tuple(classes or ()) != SPEECH:
        raise ValueError(f"without alignments the classes can only be {SPEECH}: give alignments.")
    recordings = LibriSpeech(root, subset)
    corpus = Corpus(recordings.subset, max_bad, sample_rate, detect=alignments is None)
    damaged: dict[str, str] = {}
    by_id = {} if alignments is None else load_alignments(alignments, recordings.subset, classes, damaged)
    known = {utterance.id: utterance for utterance in recordings}
    for id in sorted(known.keys() | recordings.faults.keys()):
        fault = recordings.faults.get(id)
        if corpus.detect and fault not in RECORDING_FAULTS:
            fault = None  # no words are needed
        if not (corpus.detect or id in by_id or id in damaged):
            corpus._skip(id, fault or NO_ALIGNMENT)
        elif fault is not None:
            corpus._refuse(id, fault)
        elif id in damaged:
            corpus._refuse(id, DAMAGED_ALIGNMENT, damaged[id])
        else:
            corpus._admit(known[id], by_id.get(id))
    if alignments is not None and known and not any(id in by_id or id in damaged for id in known):
        hint = f" Give the folder that holds those of {corpus.subset} too." if Path(alignments).is_file() else ""
        raise DataError(
            f"none of the {len(recordings)} recordings in {recordings.folder} has an alignment in {alignments}: "
            f"recordings are called {min(known)}, alignments {_first(sorted(by_id), 1) or 'nothing'}.{hint}"
        )
    strangers = [error for id, error in damaged.items() if id not in known and id not in recordings.faults]
    if strangers:
        warnings.warn(
            f"{len(strangers)} damaged alignments belong to no recording of {corpus.subset}: {_first(strangers, 3)}",
            AudioWarning,
            stacklevel=2,
        )
    corpus._check_limit()
    return corpus


class Spoken(Protocol):
    """Anything with a speaker: Utterance, LabelledUtterance."""

    @property
    def speaker(self) -> str:
        """The speaker's id."""


S = TypeVar("S", bound=Spoken)


def split_by_speaker(utterances: Sequence[S], fraction: float = 0.1, seed: int = 0) -> tuple[list[S], list[S]]:
    """(train, valid): about `fraction` of the speakers, with all they said, are valid.

    Each speaker's side is decided by a hash of its id and the seed alone, so more data never moves a speaker
    across; a side that would be empty gets the speaker nearest to it.

    Raises:
        ValueError: fraction is not between 0 and 1.
        DataError: there are fewer than two speakers.

    Example:
        >>> people = [Utterance(f"{speaker}-1", speaker, Path("x.flac")) for speaker in "ab"]
        >>> [len(side) for side in split_by_speaker(people)]
        [1, 1]
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, got {fraction}.")
    place = {speaker: _place(speaker, seed) for speaker in {item.speaker for item in utterances}}
    if len(place) < 2:
        raise DataError(f"a split by speaker needs at least 2 speakers, got {len(place)}: add speakers to the subset.")
    ranked = sorted(place, key=lambda speaker: (place[speaker], speaker))
    chosen = {speaker for speaker in ranked[1:-1] if place[speaker] < fraction} | {ranked[0]}
    train = [item for item in utterances if item.speaker not in chosen]
    return train, [item for item in utterances if item.speaker in chosen]


def check_disjoint(train: Iterable[Spoken], test: Iterable[Spoken]) -> None:
    """Raise DataError, naming the speakers, when somebody is heard on both sides."""
    shared = sorted({item.speaker for item in train} & {item.speaker for item in test})
    if shared:
        raise DataError(
            f"{len(shared)} speakers are in both training and test data: {_first(shared, 10)}. Use another subset, "
            "or split_by_speaker."
        )


def _place(speaker: str, seed: int) -> float:
    """A number in [0, 1) that this speaker keeps, whoever else is there."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{speaker}".encode()).digest()[:8], "big") / 2**64


def _first(names: Sequence[str], count: int) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
