"""A labelled corpus: recordings that have an alignment, minus those that cannot be trusted, each one accounted for.

Bad audio never becomes training data in silence. It is left out, counted by reason, and when more than `max_bad`
of the corpus is bad the run stops: then the disk or the download is at fault, not a file. Headers are checked
when the corpus is loaded, sound when it is read. Not a data loader: it yields one utterance after the other.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from torch import Tensor

from speechattn.data.alignments import MAX_OVERHANG_S, PHONES, load_alignments
from speechattn.data.audio import SAMPLE_RATE, AudioError, AudioWarning, audio_samples, load_audio
from speechattn.data.librispeech import LibriSpeech
from speechattn.data.segments import Segment, Utterance
from speechattn.errors import DataError

NO_ALIGNMENT = "no alignment"


@dataclass(frozen=True)
class LabelledUtterance:
    """An utterance, its length in samples at the corpus' rate, and its phones in seconds."""

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
    """What `load_corpus` found. `skipped` holds the ids that were left out, by reason.

    A missing alignment is no damage; every other reason counts against `max_bad`, a share of the aligned
    recordings.
    """

    def __init__(self, subset: str, max_bad: float = 0.01, sample_rate: int = SAMPLE_RATE) -> None:
        if not 0 <= max_bad <= 1:
            raise ValueError(f"max_bad must be a share from 0 to 1, got {max_bad}.")
        self.subset = subset
        self.max_bad = max_bad
        self.sample_rate = sample_rate
        self.skipped: dict[str, list[str]] = {}
        self._labelled: list[LabelledUtterance] = []
        self._bad: dict[str, str] = {}

    @property
    def utterances(self) -> list[LabelledUtterance]:
        """All that are not known to be bad, sorted by id. A new list: a pass over an older one is not disturbed."""
        return [item for item in self._labelled if item.id not in self._bad]

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
                self._reject(item.id, error.reason)
                self._check_limit()
                continue
            yield item, waveform
        if len(self._bad) > known:
            warnings.warn(f"{self._complaint()}. They are left out.", AudioWarning, stacklevel=2)

    def summary(self) -> str:
        """What is there and what was left out, a line for each reason."""
        utterances = self.utterances
        minutes = sum(item.num_samples for item in utterances) / self.sample_rate / 60
        speakers = len({item.speaker for item in utterances})
        lines = [f"{self.subset}: {len(utterances)} utterances, {speakers} speakers, {minutes:.1f} minutes"]
        lines += [f"  left out, {reason}: {len(ids)} ({_first(ids, 3)})" for reason, ids in self.skipped.items()]
        return "\n".join(lines)

    def _skip(self, id: str, reason: str) -> None:
        self.skipped.setdefault(reason, []).append(id)

    def _reject(self, id: str, reason: str) -> None:
        self._bad[id] = reason
        self._skip(id, reason)

    def _aligned(self) -> int:
        return len(self._labelled) + sum(id not in {item.id for item in self._labelled} for id in self._bad)

    def _complaint(self) -> str:
        named = _first([f"{id} ({reason})" for id, reason in self._bad.items()], 10)
        total = self._aligned()
        return f"{len(self._bad)} of {total} utterances of {self.subset} are unusable ({len(self._bad) / total:.1%}): {named}"

    def _check_limit(self) -> None:
        if len(self._bad) > self.max_bad * self._aligned():
            raise DataError(f"{self._complaint()}. At most {self.max_bad:.1%} may be: restore these files, or raise max_bad.")
