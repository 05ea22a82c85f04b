"""Labels of a whole recording: any model, any length, read block by block if the model streams.

A recording of hours takes the memory of its segments, 28 bytes each: 1 MB an hour of phones.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechattn.data.audio.files import audio_blocks, load_audio
from speechattn.data.audio.samples import Samples, cut
from speechattn.data.audio.source import AudioSource
from speechattn.data.labels.segment_arrays import SegmentSlice, SegmentTable
from speechattn.decoding.smoothing import Smoothing
from speechattn.models.heads import CTC
from speechattn.models.speech_model import SpeechModel
from speechattn.streaming.labels import FrameLabels
from speechattn.streaming.rows import whole_rows
from speechattn.streaming.segmenter import LabelledSegment, Segments
from speechattn.streaming.stream import SECONDS_AT_ONCE, Stream

Progress = Callable[[float], None]
"""What is called with the seconds of audio that were labelled since the last call. It may raise, to stop."""


class LabelledRecording(Sequence[LabelledSegment]):
    """The segments of a recording, in columns; `seconds` is its duration at the model's rate."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes, self.seconds = tuple(classes), 0.0
        self._index = {name: c for c, name in enumerate(self.classes)}
        self._start_s, self._stop_s, self._probability = array("d"), array("d"), array("d")
        self._class = array("i")

    def append(self, segment: LabelledSegment) -> None:
        """Add a segment at the end."""
        self._start_s.append(segment.start_s)
        self._stop_s.append(segment.stop_s)
        self._class.append(self._index[segment.label])
        self._probability.append(segment.probability)

    @property
    def segments(self) -> SegmentSlice:
        """The segments without their probabilities."""
        starts, stops = (np.array(column, np.float64) for column in (self._start_s, self._stop_s))
        return SegmentSlice(SegmentTable(starts, stops, np.array(self._class, np.int32), self.classes), 0, len(self))

    def __len__(self) -> int:
        return len(self._class)

    def __getitem__(self, i: Any) -> Any:
        """Return one segment, or a list of them for a slice."""
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return LabelledSegment(self._start_s[i], self._stop_s[i], self.classes[self._class[i]], self._probability[i])


def label_recording(
    model: SpeechModel,
    source: AudioSource,
    smoothing: Smoothing | None = None,
    progress: Progress = lambda seconds: None,
) -> LabelledRecording:
    """Return the segments of a sound file, as long as it may be.

    A model of frames gives runs of equal labels; CTC a short segment for each label, where it begins; a model of
    utterances one segment. A model that cannot stream, as with unlimited right context, takes the recording at once,
    and the memory for it.

    Args:
        model: in evaluation mode.
        source: a sound file, by its path or as a binary file. Channels are averaged, another rate is resampled.
        smoothing: for a model of frames; its lag has no effect, for the whole recording is known. None: the most
            probable label of each frame.
        progress: called with seconds of audio, as they are labelled.

    Raises:
        AudioError: the file cannot be read or is damaged; nothing is returned then.
        ValueError: smoothing is given, and the model does not label frames.

    Examples:
        >>> from speechattn import EncoderConfig, ModelConfig
        >>> encoder = EncoderConfig(input_dim=40, d_model=16, num_layers=1)
        >>> model = SpeechModel(ModelConfig(("SIL", "AA"), encoder, num_mels=40)).eval()
        >>> import io, soundfile
        >>> file = io.BytesIO()
        >>> soundfile.write(file, torch.zeros(16_000).numpy(), 16_000, format="WAV")
        >>> position = file.seek(0)
        >>> found = label_recording(model, file)
        >>> found.seconds, sum(segment.stop_s - segment.start_s for segment in found)
        (1.0, 0.9925)
    """
    if smoothing is not None:
        smoothing = replace(smoothing, lag_frames=None)
        if not labels_frames(model):
            raise ValueError("smoothing is for one label a frame, and this model's head gives none: leave it out.")
    rate = model.config.framing.sample_rate
    found = LabelledRecording(model.config.classes)
    if (stream := _stream(model, smoothing)) is not None:
        segments = Segments(whole=isinstance(model.head, CTC))
        for labels in _pushed(stream, audio_blocks(source, rate), progress):
            for segment in segments.add(labels):
                found.append(segment)
        for segment in segments.end():
            found.append(segment)
        found.seconds = stream.seconds
        return found
    waveform, _ = load_audio(source, rate)
    found.seconds = len(waveform) / rate
    for segment in _at_once(model, waveform, smoothing):
        found.append(segment)
    progress(found.seconds)
    return found


def labels_frames(model: SpeechModel) -> bool:
    """Return whether a model gives one label to each frame."""
    return model.config.head == "frames" and not isinstance(model.head, CTC)


def _stream(model: SpeechModel, smoothing: Smoothing | None) -> Stream | None:
    """Return a stream of the model; None if it has none."""
    if model.config.head not in ("frames", "ctc"):
        return None
    try:
        model.initial_state()
    except ValueError:  # a right context without limit, for example
        return None
    return Stream(model, smoothing=smoothing)


def _pushed(stream: Stream, blocks: Iterator[Samples], progress: Progress) -> Iterator[FrameLabels]:
    rate = stream.model.config.framing.sample_rate
    for push in cut(blocks, SECONDS_AT_ONCE * rate):
        yield stream.push(push)
        progress(len(push) / rate)
    yield stream.flush()


@torch.inference_mode()
def _at_once(model: SpeechModel, waveform: Tensor, smoothing: Smoothing | None) -> list[LabelledSegment]:
    """Return the segments of a waveform [N] that the model takes as a whole."""
    logits = model(waveform[None])[0]
    if logits.ndim == 3:
        segments = Segments(whole=isinstance(model.head, CTC))
        return [*segments.add(whole_rows(model, logits[0], smoothing)), *segments.end()]
    probability, c = logits[0].softmax(-1).max(-1)
    seconds = len(waveform) / model.config.framing.sample_rate
    return [LabelledSegment(0.0, seconds, model.config.classes[int(c)], float(probability))]
