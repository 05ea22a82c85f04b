"""Alignment of a corpus with its transcripts: train on synthetic speech, then align and train again, in rounds.

The models of all rounds are trained on at most `train_hours` of the corpus, which stay in memory; the last one aligns
the whole corpus, some utterances at a time. `folder`/<key>/ keeps finished rounds and parts (store.py), and the same
call continues there. The key is a hash of the settings, the utterances, their files (file_identity.py) and
their pronunciations: other input starts in another folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from speechattn.alignment.acoustic_model import (
    FRAMING,
    NUM_MELS,
    log_prior,
    make_acoustic_model,
    train_acoustic_model,
)
from speechattn.alignment.align_config import AlignConfig
from speechattn.alignment.batch_alignment import align_recordings, read_recording
from speechattn.alignment.file_identity import file_identity
from speechattn.alignment.first_labels import flat_labels, synthetic_examples
from speechattn.alignment.sentences import Pronounce, Sentence, read_sentences
from speechattn.alignment.store import PART_UTTERANCES, AlignedParts, Part, load_part, load_round, save_part, save_round
from speechattn.alignment.times import AlignedUtterance, aligned_utterance
from speechattn.alignment.training_set import read_training_set
from speechattn.data.audio.errors import AudioError
from speechattn.data.labels.segments import Utterance
from speechattn.errors import DataError
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.normalize import Normalize
from speechattn.models.speech_model import SpeechModel
from speechattn.system.progress import progress_bar
from speechattn.system.stop_signal import StopSignal

METHOD = 1
"""Number of the method, a part of the key: raise it when the same input gets other times."""

__all__ = ["AlignConfig", "AlignedUtterance", "AlignmentResult", "Pronounce", "align_corpus"]


@dataclass(frozen=True)
class AlignmentResult:
    """The alignments of a corpus."""

    aligned: Mapping[str, AlignedUtterance]
    """Alignments by id, read from the folder when they are needed."""
    excluded: dict[str, str]
    """Reasons by id of the utterances that have no alignment."""
    model: Path
    """Folder of the acoustic model that gave the times, for `align_corpus(model=...)`."""


def align_corpus(
    utterances: Sequence[Utterance],
    words: Callable[[str], list[str]],
    pronounce: Pronounce,
    folder: Path,
    config: AlignConfig,
    stop: StopSignal | None = None,
    model: Path | None = None,
) -> AlignmentResult:
    """Return phone and word times of `utterances`, found from their transcripts.

    `words` splits a transcript into words in lower case, `pronounce` returns their pronunciations. `folder` keeps what
    is finished: the same call continues there and returns the same result. An utterance is excluded, with the reason,
    if it has no words, a word without a pronunciation, fewer frames than its phones need, a file that cannot be
    decoded, or a score below `config.min_score`. `model` is the model of an earlier result: then nothing is trained.

    Raises:
        DataError: no utterance can be aligned, or `model` is no such folder.
        UserError: espeak-ng is needed and not installed.
        Interrupted: a signal came; finished rounds and parts are kept.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    sentences, excluded = read_sentences(utterances, words, pronounce)
    if not sentences:
        examples = "; ".join(f"{id}: {why}" for id, why in list(excluded.items())[:3]) or "there are no utterances"
        raise DataError(f"nothing can be aligned: {examples}.")
    folder = Path(folder) / _key(sentences, config, model)
    if model is None:
        model = folder / f"round-{config.rounds}"
        acoustic_model, prior = _acoustic_model(sentences, folder, config, stop)
    elif (loaded := load_round(model)) is not None:
        acoustic_model, prior = loaded
    else:
        raise DataError(f"{model} holds no acoustic model of an alignment, or a damaged one.")
    parts: dict[Path, list[str]] = {}
    with progress_bar(total=len(sentences), desc="aligning", unit="utt") as bar:
        for number, begin in enumerate(range(0, len(sentences), PART_UTTERANCES)):
            path = folder / f"part-{number:05d}.json"
            chosen = sentences[begin : begin + PART_UTTERANCES]
            part = load_part(path)
            if part is None:
                part = align_part(chosen, acoustic_model, prior, stop)
                save_part(path, part)
            parts[path] = [id for id, each in part.aligned.items() if each.score >= config.min_score]
            excluded |= part.excluded
            excluded |= {
                id: f"score {each.score:.2f} below {config.min_score:g}"
                for id, each in part.aligned.items()
                if each.score < config.min_score
            }
            bar.update(len(chosen))
    return AlignmentResult(AlignedParts(parts), excluded, model)


def _key(sentences: Sequence[Sentence], config: AlignConfig, model: Path | None) -> str:
    settings = {name: value for name, value in asdict(config).items() if name not in ("threads", "min_score")}
    settings["method"] = METHOD
    if model is not None and (model / "prior.json").is_file():
        settings = {"method": METHOD, "model": (model / "prior.json").read_text(encoding="utf-8")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for sentence in sentences:
        row = [sentence.id, sentence.utterance.speaker, *file_identity(sentence.utterance.path), sentence.words]
        digest.update(json.dumps(row).encode())
    used = sorted({word for sentence in sentences for word in sentence.words})
    digest.update(json.dumps([(word, sentences[0].lexicon[word]) for word in used]).encode())
    return digest.hexdigest()[:12]


def _acoustic_model(
    sentences: Sequence[Sentence], folder: Path, config: AlignConfig, stop: StopSignal | None
) -> tuple[SpeechModel, Tensor]:
    """Return the model and the log prior of the last round; train those rounds that are not in `folder`."""
    current, next_round = None, 0
    for number in range(config.rounds, -1, -1):
        if (current := load_round(folder / f"round-{number}")) is not None:
            next_round = number + 1
            break
    if current is not None and next_round > config.rounds:
        return current
    frontend = LogMel(NUM_MELS, FRAMING)
    recordings = read_training_set(sentences, frontend, config.train_hours, config.seed, stop)
    for number in range(next_round, config.rounds + 1):
        name = f"round {number} of {config.rounds}"
        if current is not None:
            found = align_recordings(recordings, *current, stop)
            aligned = progress_bar(found, total=len(recordings), desc=f"{name}, aligning", unit="utt")
            examples = [(each.recording.frames, torch.from_numpy(each.phones)) for each in aligned]
        elif config.start == "synthetic":
            examples = synthetic_examples(frontend)
        else:
            examples = flat_labels(recordings)
        seed = config.seed + number
        model = make_acoustic_model((frames for frames, _ in examples), seed)
        train_acoustic_model(model, examples, config.steps, seed, augment=number == 0, name=name, stop=stop)
        if number == 0:  # what differs most between synthetic and real frames is their mean
            model.normalize = Normalize.fit(recording.frames for recording in recordings)
        current = model, log_prior(labels for _, labels in examples)
        save_round(folder / f"round-{number}", *current)
    assert current is not None
    return current


def align_part(
    sentences: Sequence[Sentence], model: SpeechModel, prior: Tensor, stop: StopSignal | None = None
) -> Part:
    """Return the alignments of some sentences, in their order, by one model."""
    frontend = model.frontend
    assert isinstance(frontend, LogMel)
    part = Part({}, {})
    recordings = []
    for sentence in sentences:
        if stop is not None:
            stop.poll()
        try:
            recording = read_recording(sentence, frontend)
        except AudioError as error:
            part.excluded[sentence.id] = f"cannot be decoded: {error}"
            continue
        if recording.fault is None:
            recordings.append(recording)
        else:
            part.excluded[sentence.id] = recording.fault
    found = {}
    for aligned in align_recordings(recordings, model, prior, stop):
        found[aligned.recording.sentence.id] = aligned_utterance(aligned, frontend.framing)
    part.aligned.update((sentence.id, found[sentence.id]) for sentence in sentences if sentence.id in found)
    return part
