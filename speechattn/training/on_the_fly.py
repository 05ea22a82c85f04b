"""Training utterances whose speed and noise are drawn anew in every epoch, made from their sound files when wanted.

The draw is a pure function of (seed, epoch, utterance): it does not depend on other utterances, on workers, or on where
a run was interrupted. An epoch has each utterance once, at one of the speeds, and every second one in noise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import Tensor

from speechattn.augment.noise import NoiseFolder
from speechattn.augment.waveforms import mix_noise, samples_at_speed
from speechattn.data.labelled_corpus import LabelledUtterance, labelled_waveform
from speechattn.frontend.logmel import LogMel
from speechattn.training.cache.stored_examples import StoredExamples
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import Fingerprint
from speechattn.training.perturbed_copies import at_speed
from speechattn.training.tasks.task import Task


class DrawnExamples(StoredExamples):
    """Examples for training, whose frames change from epoch to epoch; those of the cache are the unchanged ones.

    Args:
        stored: the unchanged examples, one for each utterance.
        config: speeds, noise and seed.
        frontend: makes the frames.
        task: makes the labels.
        detect: whether speech is detected, for there are no alignments.
    """

    def __init__(self, stored: StoredExamples, config: TrainConfig, frontend: LogMel, task: Task, detect: bool) -> None:
        super().__init__(
            stored.utterances,
            stored.digests,
            stored.shards,
            stored.places,
            stored.rows,
            stored.sources,
            stored.targets,
        )
        self.frontend, self.task, self.detect = frontend, task, detect
        self.speeds, self.snr_db, self.seed = config.speed_perturb, config.noise_snr_db, config.seed
        rate = frontend.framing.sample_rate
        self.noise = None if config.noise is None else NoiseFolder(config.noise, rate)

    def lengths(self, epoch: int) -> Sequence[int]:
        """Return the number of frames of each example in an epoch; no file is read."""
        framing = self.frontend.framing
        found = []
        for index in range(len(self)):
            item = self.source(index)
            speed = self._speed(self._digest(item, epoch))
            found.append(framing.num_frames(samples_at_speed(item.num_samples, speed)))
        return found

    @torch.no_grad()
    def drawn(self, index: int, epoch: int) -> tuple[Tensor, Tensor]:
        """Return frames [T, F] and labels [L] of an example in an epoch.

        Raises:
            AudioError: its sound file, or that of the noise, does not decode any more.
        """
        original = self.source(index)
        digest = self._digest(original, epoch)
        rate = self.frontend.framing.sample_rate
        item, waveform = labelled_waveform(original, rate, self.detect)
        item, waveform = at_speed(item, waveform, self._speed(digest), rate)
        if self.noise is not None and digest[1] % 2:
            generator = torch.Generator().manual_seed(int.from_bytes(digest[2:9], "big"))
            low, high = self.snr_db
            snr_db = low + (high - low) * float(torch.rand((), generator=generator))
            piece = self.noise.cut(len(waveform), generator)
            waveform = mix_noise(waveform[None], piece.waveform[None], snr_db)[0]
        frames, _ = self.frontend(waveform[None])
        return frames[0], self.task.targets(item, self.frontend.framing)

    def _digest(self, item: LabelledUtterance, epoch: int) -> bytes:
        return hashlib.sha256(f"{self.seed} {epoch} {item.id}".encode("utf-8", "surrogateescape")).digest()

    def _speed(self, digest: bytes) -> float:
        return self.speeds[int.from_bytes(digest[9:13], "big") % len(self.speeds)]


def noise_fingerprint(noise: NoiseFolder) -> Fingerprint:
    """Return how many files of noise there are, how many samples, and a hash of names and samples."""
    ids = hashlib.sha256(json.dumps(noise.sizes).encode()).hexdigest()[:16]
    return Fingerprint(len(noise), 0, sum(noise.sizes.values()), ids, "", "")
