"""MFCC with deltas: the cosine transform of log-mel frames, and its slopes over time.

Each flavor equals a reference: "kaldi" is torchaudio.compliance.kaldi.mfcc without energy and dither, "librosa" is
librosa.feature.mfcc of decibels without `top_db`, which needs the loudest frame of the whole recording. Deltas are
torchaudio.functional.compute_deltas on each row by itself; each order looks 2 frames ahead (40 ms for the usual two
orders), which `MFCC.contexts` declares. There is no energy column and no per-utterance mean, which could not stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Self

import torch
from torch import Tensor

from speechattn.context import Context
from speechattn.framing import Framing
from speechattn.frontend.deltas import append_deltas, deltas_step
from speechattn.frontend.logmel import SLAB_FRAMES, LogMel
from speechattn.model_config import DELTA, NUM_MELS
from speechattn.receptive_field import lookahead
from speechattn.system.renamed_arguments import renamed
from speechattn.system.serialization import whole

LIFTER = {"kaldi": 22.0, "librosa": 0.0}
"""Default of each flavor."""
DECIBELS = 10 / math.log(10)
"""Decibels in one natural logarithm of power."""


@renamed(nan="nan_policy")
class MFCC(LogMel):
    """Mel-frequency cepstra of waveforms in [-1, 1], their slopes and the slopes of those.

    A frame depends on the `2 * deltas` frames on each side of it (see `contexts` and `lookahead`), which adds to the
    latency of the model behind it. With `deltas=0` a frame depends on its own window alone.

    Args:
        num_ceps: cepstra of a frame, the zeroth included.
        num_mels: mel bands that the cepstra are computed from; at least num_ceps. Kaldi's own default is 23.
        framing, flavor, low_hz, high_hz, nan_policy, slab_frames: as in `LogMel`.
        deltas: orders of slopes added to the cepstra; 2 is slope and curvature.
        lifter: cepstrum i is multiplied by 1 + lifter/2 sin(pi i / lifter), which evens out their sizes; 0 is off, None
            the flavor's default: 22 (kaldi) or 0 (librosa). librosa counts i from 1, Kaldi from 0.

    Shape:
        waveform [B, N] float32 or float64, lengths [B] int64 samples -> frames [B, T, num_ceps * (1 + deltas)],
        lengths [B] int64 frames: cepstra first, then each order. At the ends of a row its first and last frame
        are repeated, so padding and other rows are never read; frames at and past a row's length are exactly 0.

    Raises:
        ValueError: a number is out of range, or the flavor unknown.

    Examples:
        >>> mfcc = MFCC(num_ceps=13, deltas=2)
        >>> frames, lengths = mfcc(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
        >>> frames.shape, lengths.tolist(), mfcc.lookahead
        (torch.Size([2, 100, 39]), [100, 50], 4)
    """

    dct: Tensor

    def __init__(
        self,
        num_ceps: int = 13,
        num_mels: int = NUM_MELS,
        framing: Framing | None = None,
        flavor: str = "kaldi",
        *,
        deltas: int = 2,
        lifter: float | None = None,
        low_hz: float | None = None,
        high_hz: float | None = None,
        nan_policy: str = "error",
        slab_frames: int = SLAB_FRAMES,
    ) -> None:
        super().__init__(
            num_mels, framing, flavor, low_hz=low_hz, high_hz=high_hz, nan_policy=nan_policy, slab_frames=slab_frames
        )
        num_ceps, deltas = whole("num_ceps", num_ceps), whole("deltas", deltas, 0)
        if num_ceps > self.num_mels:
            raise ValueError(f"num_ceps must be 1 to num_mels, got {num_ceps} cepstra of {num_mels} mel bands.")
        self.num_ceps, self.deltas = num_ceps, deltas
        self.lifter = LIFTER[flavor] if lifter is None else lifter
        if not 0 <= self.lifter < math.inf:
            raise ValueError(f"lifter must be 0 (off) or more, got {lifter}.")
        self.register_buffer("dct", self._cosines(self.filterbank.dtype, self.filterbank.device), persistent=False)

    @property
    def num_features(self) -> int:
        """Features of a frame: num_ceps * (1 + deltas)."""
        return self.num_ceps * (1 + self.deltas)

    @property
    def contexts(self) -> tuple[Context, ...]:
        """Contexts that mix neighbouring frames: a window of 5 frames for each order. They compose as layers do."""
        return (DELTA,) * self.deltas

    @property
    def lookahead(self) -> int:
        """Later frames that the deltas of a frame need."""
        frames = lookahead(self.contexts)
        assert frames is not None
        return frames

    def to_log_mel(self, frames: Tensor) -> Tensor:
        """Return the log-mel [..., num_mels] (natural logarithm) that `frames` [..., num_features] describe.

        It is smooth, because the cepstra left out hold the fine structure; with `num_ceps == num_mels` it is the
        log-mel itself, unless the lifter has a zero. Deltas are not used.
        """
        inverse: Tensor = torch.linalg.pinv(self._cosines(torch.float64, torch.device("cpu")))
        return frames[..., : self.num_ceps] @ inverse.to(frames)

    def _slabs(self, row: Tensor, count: int) -> Iterator[Tensor]:
        """Yield the features [n, num_features] of `count` frames of one row, slab by slab."""
        slabs: Iterator[Tensor] = (slab @ self.dct.to(slab.dtype) for slab in super()._slabs(row, count))
        for _ in range(self.deltas):
            slabs = append_deltas(slabs, self.num_ceps)
        yield from slabs

    def _from_log_mel(
        self, log_mel: Tensor, waiting: tuple[Tensor, ...], final: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        x, pending = log_mel @ self.dct.to(log_mel.dtype), []
        for order in range(self.deltas):
            before = waiting[order] if waiting else x[:, :0]
            x, rest = deltas_step(x, before, self.num_ceps, final)
            pending.append(rest.clone())  # a view would keep the whole tensor alive
        return x, tuple(pending)

    def _cosines(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return orthonormal cosines [num_mels, num_ceps], lifter (and librosa's decibels) included.

        Computed in float64 as in Kaldi. torchaudio's float32 cosines change cepstra by up to 5e-6 of the largest.
        """
        order = torch.arange(self.num_ceps, dtype=torch.float64, device="cpu")
        band = torch.arange(self.num_mels, dtype=torch.float64, device="cpu") + 0.5
        cosines = torch.cos(math.pi / self.num_mels * band[:, None] * order) * math.sqrt(2 / self.num_mels)
        cosines[:, 0] /= math.sqrt(2)
        if self.lifter > 0:
            index = order if self.flavor == "kaldi" else order + 1
            cosines *= 1 + self.lifter / 2 * torch.sin(math.pi * index / self.lifter)
        if self.flavor == "librosa":
            cosines *= DECIBELS
        return cosines.to(dtype).to(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.dct = self._cosines(self.filterbank.dtype, self.filterbank.device)
        return self

    def extra_repr(self) -> str:
        """Return the settings that `repr` shows."""
        wait = f"look-ahead {self.lookahead} frames ({self.lookahead * self.framing.hop_ms:g} ms)"
        return f"{self.num_ceps} cepstra, lifter {self.lifter:g}, {self.deltas} deltas ({wait}), {super().extra_repr()}"
