"""The recordings that the acoustic model is trained on: a fixed amount of audio, balanced over speakers, in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from speechattn.alignment.batch_alignment import Recording, read_recording
from speechattn.alignment.sentences import Sentence
from speechattn.data.audio.errors import AudioError
from speechattn.errors import DataError
from speechattn.frontend.logmel import LogMel
from speechattn.system.progress import progress_bar
from speechattn.system.stop_signal import StopSignal


def read_training_set(
    sentences: Sequence[Sentence], frontend: LogMel, max_hours: float, seed: int, stop: StopSignal | None = None
) -> list[Recording]:
    """Return recordings of at most `max_hours` of audio, as many of one speaker as of another where there are.

    They are drawn by a hash of the seed and the id, so that the same corpus gives the same ones in any order. Those
    that cannot be decoded or aligned are left out: the final pass reports them.

    Raises:
        DataError: none is left.
        Interrupted: a signal came.
    """
    left = round(max_hours * 3600 * frontend.framing.sample_rate)
    recordings = []
    faults: dict[str, str] = {}
    with progress_bar(total=left // frontend.framing.sample_rate, desc="audio to train on", unit="s") as bar:
        for sentence in by_turns(sentences, seed):
            if stop is not None:
                stop.poll()
            try:
                recording = read_recording(sentence, frontend)
                fault = recording.fault
            except AudioError as error:
                fault = f"cannot be decoded: {error}"
            if fault is not None:
                faults[sentence.id] = fault
                continue
            left -= recording.num_samples
            if left < 0:
                break
            bar.update(recording.num_samples // frontend.framing.sample_rate)
            recordings.append(recording)
        bar.total = bar.n  # of a corpus with less audio
    if not recordings:
        first = next((f"{id}: {fault}" for id, fault in faults.items()), "max_hours is less than one of them")
        raise DataError(f"none of the {len(sentences)} recordings can be aligned: {first}")
    return recordings


def by_turns(sentences: Sequence[Sentence], seed: int) -> Iterator[Sentence]:
    """Yield all sentences, one of each speaker before the second of any; the order depends on seed and ids alone."""

    def draw(text: str) -> bytes:
        return hashlib.sha256(f"{seed} {text}".encode("utf-8", "surrogateescape")).digest()

    turns: dict[str, int] = {}
    order = []
    for sentence in sorted(sentences, key=lambda sentence: draw(sentence.id)):
        speaker = sentence.utterance.speaker
        turns[speaker] = turns.get(speaker, 0) + 1
        order.append((turns[speaker], draw(speaker), sentence))
    yield from (sentence for _, _, sentence in sorted(order, key=lambda row: row[:2]))
