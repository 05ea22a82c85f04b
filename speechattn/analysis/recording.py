"""A sound file, or a part of it, as frames of a model: some seconds at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from speechattn.data.audio.files import audio_blocks, audio_samples
from speechattn.data.audio.samples import Samples
from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segments import Segment
from speechattn.errors import UserError
from speechattn.frontend.logmel import LogMel
from speechattn.models.speech_model import SpeechModel


class Recording:
    """The part [start_s, start_s + duration_s) of a sound file, as samples and frames of a model.

    Args:
        path: the file.
        model: its framing, features and normalisation are used.
        start_s: where the part begins, in seconds.
        duration_s: how long it is; None is to the end.

    Raises:
        UserError: the file cannot be read, or the part has less than one frame.
    """

    def __init__(self, path: Path, model: SpeechModel, start_s: float = 0.0, duration_s: float | None = None) -> None:
        self.path, self.model, framing = path, model, model.config.framing
        total = audio_samples(path, framing.sample_rate)
        self.first = framing.samples_at(start_s)
        left_over = max(0, total - self.first)
        wanted = left_over if duration_s is None else framing.samples_at(duration_s)
        self.num_samples = min(left_over, wanted)
        self.start_s, self.seconds = start_s, self.num_samples / framing.sample_rate
        self.whole = self.num_samples == total
        self.num_frames = framing.num_frames(self.num_samples)
        if not self.num_frames:
            rate = framing.sample_rate
            part = "" if self.first == 0 and duration_s is None else f" from {start_s:g} s on"
            raise UserError(
                f"{path} has {self.num_samples / rate * 1000:.3g} ms of sound{part}, less than one frame of "
                f"{framing.hop_ms:g} ms; the whole file has {total / rate:.3g} s."
            )

    def samples(self) -> Iterator[Samples]:
        """Yield the samples of the part, some seconds at a time."""
        passed, last = 0, self.first + self.num_samples
        for block in audio_blocks(self.path, self.model.config.framing.sample_rate):
            part = block[max(0, self.first - passed) : max(0, last - passed)]
            passed += len(block)
            if len(part):
                yield part
            if passed >= last:
                return

    @torch.no_grad()
    def frames(self) -> Iterator[Tensor]:
        """Yield the frames [n, F] of the part as the frontend returns them; centred frames all at once."""
        frontend = self.model.frontend
        dtype = frontend.filterbank.dtype if isinstance(frontend, LogMel) else torch.float32
        blocks = (torch.from_numpy(block)[None].to(dtype) for block in self.samples())
        if self.model.config.framing.align == "center" or not isinstance(frontend, LogMel):
            yield frontend(torch.cat(list(blocks), 1))[0][0]
            return
        state = frontend.initial_state(1)
        for block in blocks:
            frames, state = frontend.step(block, state)
            yield frames[0]
        yield frontend.flush(state)[0]

    def labels(self, segments: Sequence[Segment], classes: Sequence[str]) -> Tensor:
        """Return the class of each frame [T], -100 where no segment is; `segments` are in seconds of the whole file.

        Raises:
            DataError: a label is no class, segments overlap, or they end after the file.
        """
        inside = self.inside(segments)
        return frame_labels(inside, self.num_samples, self.model.config.framing, classes)

    def inside(self, segments: Sequence[Segment]) -> list[Segment]:
        """Return the parts of segments, in seconds of the whole file, that lie in the part, in seconds of the part."""
        end = self.start_s + self.seconds
        return [
            Segment(max(0.0, s.start_s - self.start_s), min(s.stop_s, end) - self.start_s, s.label)
            for s in segments
            if s.start_s < end and s.stop_s > self.start_s
        ]
