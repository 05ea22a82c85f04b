"""Copies of the training utterances at other speeds and with noise, made from waveforms.

Kaldi's recipe has every utterance three times, at 0.9, 1.0 and 1.1 times the speed. With a folder of noise each of
those comes twice, once with a piece of noise at a random ratio. Noise file, position and level are a pure function of
(seed, utterance, speed) and the folder, and are part of the copy's id: a resumed run gets the same copies and detects
a changed folder. Validation and test utterances have no copies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from speechattn.augment.noise import NoiseFolder
from speechattn.augment.waveforms import change_speed, mix_noise
from speechattn.data.audio.files import SAMPLE_RATE
from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.data.labels.segments import Segment, cut_segments
from speechattn.training.config import TrainConfig


@dataclass(frozen=True)
class Copies:
    """The copies of each training utterance: one for each speed, and with `noise` a second one of each with noise.

    Args:
        speeds: factors; 1.0 is the recording itself.
        noise: recordings of noise, None for no noisy copies.
        snr_db: lowest and highest ratio of speech to noise, in dB.
        seed: of the noise.
        untouched: ids of utterances that are not changed, those of the validation speakers.
        sample_rate: of the waveforms, in Hz.
    """

    speeds: Sequence[float] = (1.0,)
    noise: NoiseFolder | None = None
    snr_db: tuple[float, float] = (5.0, 20.0)
    seed: int = 0
    untouched: Collection[str] = ()
    sample_rate: int = SAMPLE_RATE

    @classmethod
    def of(cls, config: TrainConfig, untouched: Collection[str], sample_rate: int) -> Copies:
        """Return the copies that the settings of a run define."""
        noise = None if config.noise is None else NoiseFolder(config.noise, sample_rate)
        return cls(config.speed_perturb, noise, config.noise_snr_db, config.seed, untouched, sample_rate)

    def __call__(
        self, waveforms: Iterable[tuple[LabelledUtterance, Tensor]]
    ) -> Iterator[tuple[LabelledUtterance, Tensor]]:
        """Yield the copies of each utterance and its waveform [N]; samples and segments are those of the copy.

        Ids follow Kaldi: `sp0.9-ID` is ID at that speed, followed by the noise, if there is any.
        """
        for utterance, waveform in waveforms:
            if utterance.id in self.untouched:
                yield utterance, waveform
                continue
            for speed in self.speeds:
                copy = at_speed(utterance, waveform, speed, self.sample_rate)
                yield copy
                if self.noise is not None:
                    yield self._with_noise(*copy, self.noise)

    def _with_noise(
        self, utterance: LabelledUtterance, waveform: Tensor, noise: NoiseFolder
    ) -> tuple[LabelledUtterance, Tensor]:
        seed = int.from_bytes(hashlib.sha256(f"{self.seed} {utterance.id}".encode()).digest()[:7], "big")
        generator = torch.Generator().manual_seed(seed)
        low, high = self.snr_db
        snr_db = low + (high - low) * float(torch.rand((), generator=generator))
        piece = noise.cut(len(waveform), generator)
        id = f"{utterance.id}+{piece.name}[{piece.start} of {noise.sizes[piece.name]}] {snr_db:.2f} dB"
        return _renamed(utterance, id), mix_noise(waveform[None], piece.waveform[None], snr_db)[0]


def at_speed(
    utterance: LabelledUtterance, waveform: Tensor, speed: float, sample_rate: int = SAMPLE_RATE
) -> tuple[LabelledUtterance, Tensor]:
    """Return an utterance and its waveform [N] played `speed` times as fast; segments end with the waveform."""
    if speed == 1:
        return utterance, waveform
    faster = change_speed(waveform[None], speed)[0][0]
    # A segment that ends after the audio would end even later at a lower speed.
    segments = segments_at_speed(cut_segments(utterance.segments, len(waveform) / sample_rate), speed)
    copy = replace(utterance, num_samples=len(faster), segments=segments)
    return _renamed(copy, f"sp{speed:g}-{utterance.id}"), faster


def segments_at_speed(segments: Sequence[Segment], speed: float) -> list[Segment]:
    """Return the segments of a recording played `speed` times as fast: seconds are divided by `speed`.

    Examples:
        >>> segments_at_speed([Segment(0.5, 0.75, "AH")], 2.0)
        [Segment(start_s=0.25, stop_s=0.375, label='AH')]
    """
    return [replace(segment, start_s=segment.start_s / speed, stop_s=segment.stop_s / speed) for segment in segments]


def _renamed(utterance: LabelledUtterance, id: str) -> LabelledUtterance:
    return replace(utterance, utterance=replace(utterance.utterance, id=id))
