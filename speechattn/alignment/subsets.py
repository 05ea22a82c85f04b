"""Alignment of subsets of a corpus into a folder of tables: the work of `speechattn align`, and a stage of training.

    align.json    the settings, and for each finished subset a hash of its inputs; other settings are refused
    work/         what align_corpus keeps, acoustic models included
    <subset>.*    see results.py

The same call continues what was stopped, and aligns again only the subsets whose recordings, transcripts or lexicon
have changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechattn.alignment.pronunciations import Pronunciations
from speechattn.alignment.results import TABLES, by_kind, write_missing_words, write_tables, write_textgrids
from speechattn.alignment.rounds import AlignConfig, align_corpus
from speechattn.alignment.settings import MAY_CHANGE, AlignSettings
from speechattn.alignment.transcripts import transcript_words
from speechattn.data.audio.errors import AudioError
from speechattn.data.audio.files import SAMPLE_RATE, audio_samples
from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.data.labels.segments import Utterance
from speechattn.data.recordings import open_recordings
from speechattn.data.selection import select
from speechattn.errors import DataError, UserError
from speechattn.models.pretrained import FOLDER, PRETRAINED
from speechattn.system.atomic_files import remove_leftovers, write_json
from speechattn.system.run_lock import RunLock
from speechattn.system.serialization import parse_json, to_dict
from speechattn.system.stop_signal import StopSignal

_STATE, _WORK = "align.json", "work"


@dataclass(frozen=True)
class Subset:
    """The utterances of a subset that can be aligned as far as their files show, and why others cannot, by id."""

    name: str
    utterances: list[Utterance]
    faults: dict[str, str]


def align_subsets(settings: AlignSettings, stop: StopSignal) -> list[str]:
    """Align the subsets of `settings`, print what was done, and return the names of the subsets.

    Raises:
        UserError: the folder is in use or holds an alignment with other settings, pronunciations cannot be found, or
            too many utterances have no alignment; those that have one are written.
        Interrupted: SIGINT or SIGTERM came; the same call continues.
    """
    out = Path(settings.out)
    first, *further = settings.subset
    subsets = [_select(_open(settings.data, first), settings), *(_open(settings.data, name) for name in further)]
    pronounce = Pronunciations(settings.lexicon)
    model = None if settings.model is None else find_model(settings.model)
    with RunLock(out):
        remove_leftovers(out)
        state = _State(out, settings)
        complaints = []
        for subset in subsets:
            complaints.append(_align_subset(subset, settings, state, pronounce, model, stop))
            model = model or out / state.subsets[subset.name]["model"]
        if any(complaints):
            raise DataError(" ".join(filter(None, complaints)))
    return [subset.name for subset in subsets]


def find_model(folder: str | Path) -> Path:
    """Return the folder of an acoustic model, given the folder of an alignment, or the name of a pretrained model.

    Raises:
        UserError: there is none.
    """
    if folder in PRETRAINED:
        return FOLDER / str(folder)
    folder = Path(folder)
    if (folder / "prior.json").is_file():
        return folder
    models = {folder / str(subset.get("model")) for subset in _read_state(folder).get("subsets", {}).values()}
    found = [path for path in sorted(models) if (path / "prior.json").is_file()]
    if not found:
        raise UserError(
            f"--model {folder} holds no finished alignment, whose acoustic model could be used: give the --out of an "
            f"earlier speechattn align, or {' or '.join(PRETRAINED)}."
        )
    return found[0]


def _open(root: str, name: str) -> Subset:
    recordings = open_recordings(root, name)
    utterances = [utterance for utterance in recordings if utterance.id not in recordings.faults]
    if not any(utterance.transcript for utterance in utterances):
        raise DataError(f"{recordings.folder} holds no transcripts, and alignment needs them.")
    return Subset(recordings.subset, utterances, recordings.faults)


def _select(subset: Subset, settings: AlignSettings) -> Subset:
    """Return the hours and speakers of a subset that are asked for, of utterances without a fault."""
    if settings.max_hours is None and not settings.speakers:
        return subset
    timed = []
    for utterance in subset.utterances:
        with contextlib.suppress(AudioError):  # a damaged file is not chosen
            timed.append(LabelledUtterance(utterance, audio_samples(utterance.path, SAMPLE_RATE), ()))
    chosen = select(timed, SAMPLE_RATE, max_hours=settings.max_hours, speakers=settings.speakers)
    return Subset(subset.name, [item.utterance for item in chosen], {})


def _align_subset(
    subset: Subset,
    settings: AlignSettings,
    state: _State,
    pronounce: Pronunciations,
    model: Path | None,
    stop: StopSignal,
) -> str:
    """Align one subset unless that is done; return what is wrong if too many utterances were left out, else ""."""
    inputs = _digest(subset, settings, model)
    if state.is_done(subset.name, inputs) and not (settings.textgrids and not (state.out / subset.name).is_dir()):
        print(f"{subset.name}: aligned before, in {state.out / subset.name}.phones.ctm and .words.ctm")
        return ""
    missing = _missing_words(subset.utterances, pronounce)
    write_missing_words(state.out, subset.name, missing)
    if complaint := _complaint(subset, _without_pronunciation(subset, missing), settings.max_bad):
        raise DataError(complaint + _advice(state.out, subset.name, missing))
    config = AlignConfig(
        rounds=settings.rounds,
        steps=settings.steps,
        start=settings.start,
        train_hours=settings.train_hours,
        min_score=settings.min_score,
        seed=settings.seed,
        threads=settings.threads or None,
    )
    result = align_corpus(subset.utterances, transcript_words, pronounce, state.out / _WORK, config, stop, model)
    excluded = dict(sorted({**result.excluded, **subset.faults}.items()))
    seconds = write_tables(state.out, subset.name, result.aligned, excluded)
    if settings.textgrids:
        write_textgrids(state.out, subset.name, subset.utterances, result.aligned, stop.poll)
    used = result.model.resolve()
    inside = used.is_relative_to(state.out.resolve())
    found = used.relative_to(state.out.resolve()) if inside else used
    state.finish(subset.name, {"inputs": inputs, "model": str(found)})
    print(f"{subset.name}: {len(result.aligned)} utterances aligned, {seconds / 60:.1f} minutes")
    for kind, ids in by_kind(excluded).items():
        print(f"  left out, {kind}: {len(ids)} ({_first(ids, 3)})")
    if missing:
        print(f" {_advice(state.out, subset.name, missing)}")
    print("\n".join(f"  {state.out / subset.name}.{table}" for table in TABLES))
    return _complaint(subset, excluded, settings.max_bad)


def _missing_words(utterances: Sequence[Utterance], pronounce: Pronunciations) -> Counter[str]:
    """Return the words that have no pronunciation, and how often they occur."""
    counts = Counter(word for utterance in utterances for word in transcript_words(utterance.transcript or ""))
    known = pronounce(sorted(counts))
    return Counter({word: count for word, count in counts.items() if word not in known})


def _without_pronunciation(subset: Subset, missing: Mapping[str, int]) -> dict[str, str]:
    """Return the utterances that the transcripts alone exclude."""
    excluded = dict(subset.faults)
    for utterance in subset.utterances:
        words = transcript_words(utterance.transcript or "")
        unknown = [word for word in words if word in missing]
        if unknown or not words:
            excluded[utterance.id] = f"no pronunciation of {', '.join(unknown)}" if unknown else "no words"
    return excluded


def _complaint(subset: Subset, excluded: Mapping[str, str], max_bad: float) -> str:
    """Return a message if `excluded` are more than `max_bad` of the subset, else ""."""
    total = len(subset.utterances) + len(subset.faults)
    allowed = max(math.floor(max_bad * total + 1e-9), 1 if max_bad else 0)
    if len(excluded) <= allowed:
        return ""
    share = len(excluded) / total
    named = _first([f"{id} ({why})" for id, why in excluded.items()], 5)
    return (
        f"{subset.name}: {len(excluded)} of {total} utterances ({share:.1%}) cannot be aligned: {named}. "
        f"Correct them, or leave them out with --max-bad {math.ceil(1000 * share) / 1000:g}."
    )


def _advice(out: Path, subset: str, missing: Mapping[str, int]) -> str:
    """Return one line that says how to add pronunciations, "" if none is missing."""
    if not missing:
        return ""
    words = _first(sorted(missing, key=lambda word: (-missing[word], word)), 5)
    path = out / f"{subset}.missing_words.tsv"
    count = "1 word has" if len(missing) == 1 else f"{len(missing)} words have"
    return (
        f" {count} no pronunciation ({words}), see {path}: write each with its phones into a file, "
        "as 'hello HH AH L OW', and give it with --lexicon FILE."
    )


def _first(names: Sequence[str], count: int) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


def _digest(subset: Subset, settings: AlignSettings, model: Path | None) -> str:
    """Return a hash of what decides the alignment of a subset beside the settings; where files lie does not matter."""
    digest = hashlib.sha256()
    if settings.lexicon is not None:
        digest.update(Path(settings.lexicon).read_bytes())
    if model is not None:
        digest.update((model / "prior.json").read_bytes())
    for utterance in subset.utterances:
        row = [utterance.id, utterance.speaker, utterance.path.stat().st_size, utterance.transcript]
        digest.update(json.dumps(row).encode())
    digest.update(json.dumps(subset.faults, sort_keys=True).encode())
    return digest.hexdigest()[:16]


class _State:
    """The file align.json of a folder: its settings, and the subsets that are finished.

    Raises:
        UserError: the folder holds an alignment with other settings.
    """

    def __init__(self, out: Path, settings: AlignSettings) -> None:
        self.out = out
        kept = {key: value for key, value in to_dict(settings).items() if key not in MAY_CHANGE}
        found = _read_state(out)
        before = found.get("settings", kept)
        changes = [
            f"{key} was {before.get(key)!r} and is {kept.get(key)!r}"
            for key in {**before, **kept}
            if before.get(key) != kept.get(key)
        ]
        if changes:
            raise UserError(
                f"{out} holds an alignment with other settings: {', '.join(changes)}. Choose another --out, or remove "
                "the folder."
            )
        self._settings = kept
        self.subsets: dict[str, dict[str, Any]] = found.get("subsets", {})

    def is_done(self, subset: str, inputs: str) -> bool:
        """Return whether the subset was aligned from these inputs, and its tables are there."""
        tables = all((self.out / f"{subset}.{table}").is_file() for table in TABLES)
        return tables and self.subsets.get(subset, {}).get("inputs") == inputs

    def finish(self, subset: str, entry: dict[str, Any]) -> None:
        """Add a finished subset."""
        self.subsets[subset] = entry
        write_json(self.out / _STATE, {"settings": self._settings, "subsets": self.subsets})


def _read_state(folder: Path) -> dict[str, Any]:
    """Return align.json; empty if there is none.

    Raises:
        UserError: it is damaged.
    """
    path = folder / _STATE
    if not path.is_file():
        return {}
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): remove it to align again, or choose another --out.") from error
    return found
