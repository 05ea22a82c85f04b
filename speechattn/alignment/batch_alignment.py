"""Sentences with their audio as frames, and their alignment by an acoustic model in batches of similar length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speechattn.alignment.acoustic_model import phone_scores
from speechattn.alignment.forced_alignment import best_paths, max_batch
from speechattn.alignment.phone_graph import PhoneGraph
from speechattn.alignment.sentences import Sentence
from speechattn.data.audio.files import load_audio
from speechattn.frontend.logmel import LogMel
from speechattn.models.speech_model import SpeechModel
from speechattn.system.stop_signal import StopSignal

BATCH = 16
"""Most utterances that are aligned together."""


@dataclass(frozen=True)
class Recording:
    """A sentence with its graph, its length in samples and its frames [T, F]."""

    sentence: Sentence
    graph: PhoneGraph
    num_samples: int
    frames: Tensor

    @property
    def fault(self) -> str | None:
        """The reason why it cannot be aligned with its transcript; None if it can."""
        num_frames, needed = len(self.frames), self.graph.min_frames
        if num_frames < needed:
            return f"shorter than its phones: {num_frames} frames, at least {needed} are needed"
        if not max_batch(num_frames, len(self.graph)):
            return f"too long to align at once: {num_frames} frames, cut it at pauses into sentences"
        return None


@dataclass(frozen=True)
class AlignedRecording:
    """A recording with the state [T] of each frame in its graph, and the scores [T, C] that the path was chosen by."""

    recording: Recording
    path: NDArray[np.int64]
    scores: NDArray[np.float32]

    @property
    def phones(self) -> NDArray[np.int64]:
        """The class of each frame [T], an index of PHONES."""
        return self.recording.graph.classes[self.path]


def read_recording(sentence: Sentence, frontend: LogMel) -> Recording:
    """Return the frames of one sentence.

    Raises:
        AudioError: its file cannot be decoded.
    """
    waveform, _ = load_audio(sentence.utterance.path, frontend.framing.sample_rate)
    with torch.no_grad():
        frames, _ = frontend(waveform[None])
    return Recording(sentence, sentence.graph(), len(waveform), frames[0])


def align_recordings(
    recordings: Iterable[Recording], model: SpeechModel, prior: Tensor, stop: StopSignal | None = None
) -> Iterator[AlignedRecording]:
    """Yield the alignments of recordings without a fault, those of similar length together.

    Raises:
        Interrupted: a signal came.
    """
    for batch in _batches(sorted(recordings, key=lambda recording: len(recording.frames))):
        if stop is not None:
            stop.poll()
        graphs = [recording.graph for recording in batch]
        scores = phone_scores(model, [recording.frames for recording in batch], prior)
        for row in zip(batch, best_paths(scores, graphs), scores, strict=True):
            yield AlignedRecording(*row)


def _batches(recordings: Iterable[Recording]) -> Iterator[list[Recording]]:
    """Yield recordings, which come in order of length, in batches that fit into memory."""
    batch: list[Recording] = []
    num_states = 0
    for recording in recordings:
        num_states = max(num_states, len(recording.graph))
        if batch and len(batch) >= min(BATCH, max_batch(len(recording.frames), num_states)):
            yield batch
            batch, num_states = [], len(recording.graph)
        batch.append(recording)
    if batch:
        yield batch
