"""Alignment of a corpus with its transcripts: train on synthetic speech, then align and train again, in rounds.

The models of all rounds are trained on at most `train_hours` of the corpus, which stay in memory; the last one aligns
the whole corpus, some utterances at a time. `folder`/<key>/ keeps finished rounds and parts (store.py), and the same
call continues there. The key is a hash of the settings, the utterances, the sizes of their files and their
pronunciations: other input starts in another folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from speechattn.alignment.acoustic_model import (
    FRAMING,
    NUM_MELS,
    log_prior,
    make_acoustic_model,
    train_acoustic_model,
)
from speechattn.alignment.batch_alignment import align_recordings, read_recording
from speechattn.alignment.first_labels import flat_labels, synthetic_examples
from speechattn.alignment.sentences import Pronounce, Sentence, read_sentences
from speechattn.alignment.store import PART_UTTERANCES, AlignedParts, Part, load_part, load_round, save_part, save_round
from speechattn.alignment.times import AlignedUtterance, aligned_utterance
from speechattn.alignment.training_set import read_training_set
from speechattn.data.audio.errors import AudioError
from speechattn.data.labels.segments import Utterance
from speechattn.errors import ConfigError, DataError
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.normalize import Normalize
from speechattn.models.speech_model import SpeechModel
from speechattn.system.progress import progress_bar
from speechattn.system.serialization import check_choice, take_numbers, whole
from speechattn.system.stop_signal import StopSignal

__all__ = ["AlignConfig", "AlignedUtterance", "AlignmentResult", "Pronounce", "align_corpus"]


@dataclass(frozen=True)
class AlignConfig:
    """The settings of an alignment.

    Raises:
        ConfigError: a setting has no such value.
    """

    rounds: int = 3
    """Rounds of alignment and training after the start."""
    steps: int = 700
    """Training steps of the start and of each round, 20 s of audio each."""
    start: Literal["synthetic", "flat"] = "synthetic"
    """"synthetic": a model trained on speech of espeak-ng gives the first labels. "flat": the phones of a transcript
    begin with equal lengths, spread over the speech that an energy detector finds; needs twice the rounds."""
    train_hours: float = 2.0
    """Largest amount of audio to train on, in hours, drawn evenly from all speakers."""
    min_score: float = -2.25
    """Lowest score of an utterance that is kept, in nats per frame: right transcripts of LibriSpeech have -2 or more,
    those of another utterance -2.5 or less; see AlignedUtterance.score and docs/alignment.md."""
    seed: int = 0
    """Seed of weights, batches, augmentation and the drawing of recordings."""
    threads: int | None = None
    """Threads of torch; None leaves them as they are."""

    def __post_init__(self) -> None:
        take_numbers(self)
        check_choice("AlignConfig", "start", self.start, ("synthetic", "flat"))
        for name, least in (("rounds", 0), ("steps", 1), ("seed", 0)):
            whole(f"AlignConfig.{name}", getattr(self, name), least)
        if self.threads is not None:
            whole("AlignConfig.threads", self.threads)
        if not self.train_hours > 0:
            raise ConfigError(f"AlignConfig.train_hours must be positive, got {self.train_hours!r}.")


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
    folder.mkdir(parents=True, exist_ok=True)
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
    if model is not None and (model / "prior.json").is_file():
        settings = {"model": (model / "prior.json").read_text(encoding="utf-8")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for sentence in sentences:
        pronunciations = [sentence.lexicon[word] for word in sentence.words]
        size = sentence.utterance.path.stat().st_size if sentence.utterance.path.exists() else -1
        row = json.dumps([sentence.id, sentence.utterance.speaker, size, sentence.words, pronunciations])
        digest.update(row.encode())
    return digest.hexdigest()[:12]


def _acoustic_model(
    sentences: Sequence[Sentence], folder: Path, config: AlignConfig, stop: StopSignal | None
) -> tuple[SpeechModel, Tensor]:
    """Return the model and the log prior of the last round; train those rounds that are not in `folder`."""
    names = [folder / f"round-{number}" for number in range(config.rounds + 1)]
    done = next((n for n in range(config.rounds, -1, -1) if load_round(names[n])), -1)
    if done == config.rounds and (last := load_round(names[done])):
        return last
    frontend = LogMel(NUM_MELS, FRAMING)
    recordings = read_training_set(sentences, frontend, config.train_hours, config.seed, stop)
    current = load_round(names[done]) if done >= 0 else None
    for number in range(done + 1, config.rounds + 1):
        if current is not None:
            found = align_recordings(recordings, *current)
            examples = [(each.recording.frames, torch.from_numpy(each.phones)) for each in found]
        elif config.start == "synthetic":
            examples = synthetic_examples(frontend)
        else:
            examples = flat_labels(recordings)
        seed = config.seed + number
        model = make_acoustic_model((frames for frames, _ in examples), seed)
        name = f"round {number} of {config.rounds}"
        train_acoustic_model(model, examples, config.steps, seed, augment=number == 0, name=name, stop=stop)
        if number == 0:  # what differs most between synthetic and real frames is their mean
            model.normalize = Normalize.fit(recording.frames for recording in recordings)
        current = model, log_prior(labels for _, labels in examples)
        save_round(names[number], *current)
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
    for aligned in align_recordings(recordings, model, prior):
        found[aligned.recording.sentence.id] = aligned_utterance(aligned, frontend.framing)
    part.aligned.update((sentence.id, found[sentence.id]) for sentence in sentences if sentence.id in found)
    return part
