"""The utterances of a subset that are to be aligned, and a hash of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechattn.alignment.file_identity import file_identity
from speechattn.data.audio.errors import AudioError
from speechattn.data.audio.files import SAMPLE_RATE, audio_samples
from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.data.labels.ctm import is_ctm_id
from speechattn.data.labels.segments import Utterance
from speechattn.data.recordings import open_recordings
from speechattn.data.selection import select
from speechattn.errors import DataError, UserError

BAD_NAME = "its name cannot be written into a table (not UTF-8, empty, or ;; in front): rename the file"


@dataclass(frozen=True)
class Subset:
    """The utterances of a subset that can be aligned as far as their files show, and why others cannot, by id."""

    name: str
    utterances: list[Utterance]
    faults: dict[str, str]


def open_subset(root: str | Path, name: str) -> Subset:
    """Return the subset `name` below `root`, in LibriSpeech's layout or a plain folder; "." is `root` itself.

    Raises:
        DataError: the folder is missing, or holds no recordings or no transcripts.
    """
    recordings = open_recordings(root, name)
    bad_names = {utterance.id: BAD_NAME for utterance in recordings if not is_ctm_id(utterance.id)}
    faults = dict(sorted({**bad_names, **recordings.faults}.items()))
    utterances = [utterance for utterance in recordings if utterance.id not in faults]
    if not any(utterance.transcript for utterance in utterances):
        raise DataError(f"{recordings.folder} holds no transcripts, and alignment needs them.")
    return Subset(recordings.subset, utterances, faults)


def part_of(subset: Subset, max_hours: float | None, speakers: Sequence[str]) -> Subset:
    """Return the hours and speakers of a subset that are asked for (None, none: all), of utterances without a fault.

    Raises:
        DataError: a speaker has no utterance.
    """
    if max_hours is None and not speakers:
        return subset
    timed = []
    for utterance in subset.utterances:
        with contextlib.suppress(AudioError):  # a damaged file is not chosen
            timed.append(LabelledUtterance(utterance, audio_samples(utterance.path, SAMPLE_RATE), ()))
    chosen = select(timed, SAMPLE_RATE, max_hours=max_hours, speakers=speakers)
    return Subset(subset.name, [item.utterance for item in chosen], {})


def digest_of(subset: Subset, lexicon: str | Path | None, model: Path | None) -> str:
    """Return a hash of recordings, transcripts, lexicon and model; where files lie does not matter.

    Raises:
        UserError: the model was removed.
    """
    digest = hashlib.sha256()
    if lexicon is not None:
        digest.update(Path(lexicon).read_bytes())
    if model is not None:
        digest.update(_prior_of(model))
    for utterance in subset.utterances:
        row = [utterance.id, utterance.speaker, *file_identity(utterance.path), utterance.transcript]
        digest.update(json.dumps(row).encode())
    digest.update(json.dumps(subset.faults, sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _prior_of(model: Path) -> bytes:
    try:
        return (model / "prior.json").read_bytes()
    except OSError as error:
        raise UserError(
            f"{model} holds no acoustic model any more: it aligned the first subset, and the others need it. Put it "
            "back, or remove align.json to align again."
        ) from error
