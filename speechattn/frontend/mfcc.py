"""MFCC with deltas: the cosine transform of log-mel frames, and how it changes over time beside it.

Each flavor is someone's answer: "kaldi" is torchaudio.compliance.kaldi.mfcc without energy and dither, "librosa" is
librosa.feature.mfcc of decibels without `top_db`, which needs the loudest frame of the whole recording. Deltas are
torchaudio.functional.compute_deltas on each row by itself. They hear the future: two frames an order, 40 ms for
the usual two, and `MFCC.contexts` says so. No energy column and no per-utterance mean, which could not stream.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Self

import torch
from torch import Tensor

from speechattn.config import DELTA, FEATURES
from speechattn.context import Context
from speechattn.framing import Framing
from speechattn.frontend.logmel import SLAB_FRAMES, LogMel
from speechattn.receptive_field import lookahead
from speechattn.system.serialization import whole

DELTA_REACH = 2
"""Frames to each side on which the slope of one is measured, as `DELTA` declares."""
LIFTER = {"kaldi": 22.0, "librosa": 0.0}
DECIBELS = 10 / math.log(10)
"""Decibels in one natural logarithm of power."""


class MFCC(LogMel):
    """Mel-frequency cepstra of waveforms in [-1, 1], their slopes and the slopes of those.

    A frame hears the `2 * deltas` frames on each side of it as well: `contexts` and `lookahead` tell, and the latency
    of everything behind grows by that much. With `deltas=0` a frame is its own window and no more.

    Args:
        num_ceps: cepstra of a frame, the zeroth included.
        num_mels: mel bands that they summarise; at least num_ceps.
        framing, flavor, low_hz, high_hz, nan_policy, slab_frames: as in `LogMel`.
        deltas: orders of slopes beside the cepstra; 2 is slope and curvature.
        lifter: cepstrum i is multiplied by 1 + lifter/2 sin(pi i / lifter), so that all weigh about the same; 0 is
            off, None the flavor's habit: 22 (kaldi) or 0 (librosa). librosa counts i from 1, Kaldi from 0.

    Shape:
        waveform [B, N] float32 or float64, lengths [B] int64 samples -> frames [B, T, num_ceps * (1 + deltas)],
        lengths [B] int64 frames: cepstra first, then each order. At the ends of a row its first and last frame
        are repeated, so padding and neighbours are never heard; frames at and past a row's length are exactly 0.

    Raises:
        ValueError: a number is out of range, or the flavor unknown.

    Example:
        >>> mfcc = MFCC(num_ceps=13, deltas=2)
        >>> frames, lengths = mfcc(torch.zeros(2, 16000), torch.tensor([16000, 8000]))
        >>> frames.shape, lengths.tolist(), mfcc.lookahead
        (torch.Size([2, 100, 39]), [100, 50], 4)
    """

    dct: Tensor

    def __init__(
        self,
        num_ceps: int = 13,
        num_mels: int = 23,
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
        """What mixes neighbouring frames: a window of 5 for each order of deltas. They compose as layers do."""
        return (DELTA,) * self.deltas

    @property
    def lookahead(self) -> int:
        """Frames that a frame waits for before its deltas are known."""
        frames = lookahead(self.contexts)
        assert frames is not None
        return frames

    def to_log_mel(self, frames: Tensor) -> Tensor:
        """The log-mel [..., num_mels] (natural logarithm) that the cepstra of `frames` [..., num_features] describe.

        It is smooth, for the fine structure went with the cepstra that were left out; with `num_ceps == num_mels` it is
        the log-mel itself, unless the lifter has a zero. Deltas are not needed and not looked at.
        """
        inverse: Tensor = torch.linalg.pinv(self._cosines(torch.float64, torch.device("cpu")))
        return frames[..., : self.num_ceps] @ inverse.to(frames)

    def _slabs(self, row: Tensor, count: int) -> Iterator[Tensor]:
        """Features [n, num_features] of `count` frames of one row, slab by slab; the last ones wait for its end."""
        slabs: Iterator[Tensor] = (slab @ self.dct.to(slab.dtype) for slab in super()._slabs(row, count))
        for _ in range(self.deltas):
            slabs = append_deltas(slabs, self.num_ceps)
        yield from slabs

    def _waited_for(
        self, log_mel: Tensor, waiting: tuple[Tensor, ...], final: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        x, held = log_mel @ self.dct.to(log_mel.dtype), []
        for order in range(self.deltas):
            before = waiting[order] if waiting else x[:, :0]
            x, rest = deltas_step(x, before, self.num_ceps, final)
            held.append(rest.clone())  # a view would keep everything alive that it is a view of
        return x, tuple(held)

    def _cosines(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Orthonormal cosines [num_mels, num_ceps], lifter (and librosa's decibels) included.

        In float64 as in Kaldi. torchaudio's float32 cosines move cepstra by up to 5e-6 of the largest.
        """
        order = torch.arange(self.num_ceps, dtype=torch.float64, device="cpu")
        band = torch.arange(self.num_mels, dtype=torch.float64, device="cpu") + 0.5
        cosines = torch.cos(math.pi / self.num_mels * band[:, None] * order) * math.sqrt(2 / self.num_mels)
        cosines[:, 0] /= math.sqrt(2)
        if self.lifter > 0:
            counted = order if self.flavor == "kaldi" else order + 1
            cosines *= 1 + self.lifter / 2 * torch.sin(math.pi * counted / self.lifter)
        if self.flavor == "librosa":
            cosines *= DECIBELS
        return cosines.to(dtype).to(device)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        self.dct = self._cosines(self.filterbank.dtype, self.filterbank.device)
        return self

    def extra_repr(self) -> str:
        wait = f"look-ahead {self.lookahead} frames ({self.lookahead * self.framing.hop_ms:g} ms)"
        return f"{self.num_ceps} cepstra, lifter {self.lifter:g}, {self.deltas} deltas ({wait}), {super().extra_repr()}"


def append_deltas(slabs: Iterator[Tensor], width: int) -> Iterator[Tensor]:
    """Slabs [n, F] of one row -> slabs [n', F + width]: beside each frame the slope of its last `width` features.

    d_t = sum of k (c_{t+k} - c_{t-k}) over k = 1, 2, divided by 10: the straight line through 5 frames. The first
    and last frame of the row are repeated beyond its ends. What a slab cannot know yet comes with the next one.

    Example:
        >>> slabs = [torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[3.0], [4.0], [5.0]])]
        >>> torch.cat(list(append_deltas(iter(slabs), 1)))[:, 1].tolist()
        [0.5, 0.800000011920929, 1.0, 1.0, 0.800000011920929, 0.5]
    """
    held: Tensor | None = None
    for slab in slabs:
        ready, held = deltas_step(slab, slab[:0] if held is None else held, width, final=False)
        if len(ready):
            yield ready
    if held is not None:
        yield deltas_step(held[:0], held, width, final=True)[0]


def deltas_step(frames: Tensor, held: Tensor, width: int, final: bool) -> tuple[Tensor, Tensor]:
    """Frames [..., n, F] behind those held back -> [..., m, F + width] that have all neighbours, and those to hold.

    `held` [..., k, F] is empty before the first frame; `final` says that no more will come.
    """
    if frames.shape[-2] and not held.shape[-2]:
        held = frames[..., :1, :].expand(*frames.shape[:-2], DELTA_REACH, -1)
    held = torch.cat([held, frames], -2)
    if final:
        held = torch.cat([held, held[..., -1:, :].expand(*held.shape[:-2], min(held.shape[-2], DELTA_REACH), -1)], -2)
    count = max(0, held.shape[-2] - 2 * DELTA_REACH)
    x = held[..., held.shape[-1] - width :]
    slope = 2 * (x[..., 4 : 4 + count, :] - x[..., :count, :]) + x[..., 3 : 3 + count, :] - x[..., 1 : 1 + count, :]
    ready = torch.cat([held[..., DELTA_REACH : DELTA_REACH + count, :], slope / 10], -1)
    return ready, held[..., count:, :]


def build_frontend(
    features: str,
    num_mels: int,
    framing: Framing | None = None,
    flavor: str = "kaldi",
    num_ceps: int = 13,
    deltas: int = 2,
) -> LogMel:
    """The frontend that `features` names, "logmel" or "mfcc": what ModelConfig and TrainConfig say, as a module.

    Raises:
        ValueError: features is neither, or a number is out of range.
    """
    if features == "logmel":
        return LogMel(num_mels, framing, flavor)
    if features == "mfcc":
        return MFCC(num_ceps, num_mels, framing, flavor, deltas=deltas)
    raise ValueError(f"features must be {' or '.join(FEATURES)}, got {features!r}.")
