"""Training-time augmentation of log-mel frames [B, T, F]: another speaker, another room, noise, and masks.

All of it acts on *unnormalised* log-mel (natural logarithm of power), where a filter is an addition and noise adds
under the exponential; normalise afterwards. The generator given decides every random number. The masks are those of
specaugment.py. `Augment` does not change T; `time_stretch` does, and stretches the labels too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from speechattn.augment.specaugment import SpecAugment, check_batch, draw_uniform
from speechattn.dtypes import widened
from speechattn.lengths import valid_mask

NATS_PER_DB = math.log(10) / 10
WARP_KNEE = 0.8
"""Share of the band that is warped by the whole factor; above it the axis is bent back to the same last bin."""
NOISE_TILT_DB, NOISE_CURVE_DB = 15.0, 4.0
"""Spectra of noise: a slope of up to 15 dB at the band's ends (brown to violet), with bumps of 4 dB."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Augment(SpecAugment):
    """Random changes of the spectrum, then the masks of `SpecAugment`, drawn per row; each part can be switched off.

    Set `fill` to the corpus mean of each bin [F] (`Normalize.mean`): the default 0 is right only for frames that are
    normalised already, with warp to gain switched off.

    Raises:
        ValueError: a range is empty or a number is negative.

    Examples:
        >>> frames = torch.randn(2, 50, 80)
        >>> augment = Augment(fill=-6.0)
        >>> first, again = (augment(frames, None, torch.Generator().manual_seed(7)) for _ in range(2))
        >>> torch.equal(first, again), torch.equal(first, frames)
        (True, False)
    """

    warp: tuple[float, float] | None = (0.88, 1.12)
    """(lowest, highest) factor by which spectral features move along the mel axis; None is off."""
    tilt_db: float = 6.0
    """Largest slope of a random filter, up or down, at the ends of the band, in dB; 0 is off."""
    curve_db: float = 2.0
    """Standard deviation of a smooth random filter curve, in dB; 0 is off."""
    snr_db: tuple[float, float] | None = (5.0, 40.0)
    """(lowest, highest) signal-to-noise ratio of the noise added, in dB; None is off."""
    gain_db: float = 6.0
    """Largest change of level, up or down, in dB; 0 is off."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warp is not None and not 0 < self.warp[0] <= self.warp[1]:
            raise ValueError(f"Augment.warp must be (low, high) with 0 < low <= high, or None, got {self.warp}.")
        if self.snr_db is not None and not self.snr_db[0] <= self.snr_db[1]:
            raise ValueError(f"Augment.snr_db must be (low, high) with low <= high, or None, got {self.snr_db}.")
        self._check_not_negative("tilt_db", "curve_db", "gain_db")

    @classmethod
    def for_features(cls, features: str, fill: Tensor | float) -> Augment:
        """Return all of it for "logmel", the time masks alone for others: the rest is about mel bins and powers."""
        if features == "logmel":
            return cls(fill=fill)
        return cls(warp=None, tilt_db=0, curve_db=0, snr_db=None, gain_db=0, frequency_masks=0, fill=fill)

    def __call__(self, frames: Tensor, lengths: Tensor | None, generator: torch.Generator) -> Tensor:
        """Return augmented frames [B, T, F]; those at and past `lengths` [B] are returned unchanged, NaN included.

        Raises:
            TypeError: generator is not a torch.Generator, or frames are not floats.
            ValueError: frames are not [B, T, F], or a length is outside [0, T].
        """
        lengths = check_batch(frames, lengths, generator)
        if frames.numel() == 0:
            return frames
        valid = valid_mask(lengths, frames.shape[1])[:, :, None]
        x = torch.where(valid, frames, frames.new_zeros(())).to(widened(frames.dtype))  # powers overflow half precision
        if self.warp is not None:
            x = warp_frequency(x, generator, *self.warp)
        x = x + filter_curve(x, generator, self.tilt_db, self.curve_db)[:, None]
        if self.snr_db is not None:
            x = add_noise(x, lengths, generator, *self.snr_db)
        x = x + _draw_symmetric((len(x), 1, 1), generator, x) * (self.gain_db * NATS_PER_DB)
        x = torch.where(self.draw_masks(x, lengths, generator), torch.as_tensor(self.fill).to(x), x)
        return torch.where(valid, x.to(frames.dtype), frames)


def warp_frequency(frames: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
    """Return frames [B, T, F] with features moved from bin i to bin i * factor, one factor in [low, high] per row.

    Piecewise linear as in VTLP (Jaitly and Hinton 2013, equation 1), on the mel axis instead of Hz: the first
    and last bin stay. Linear interpolation between bins is one matrix [F, F] a row.
    """
    last = frames.shape[2] - 1
    bins = torch.arange(last + 1, device=frames.device, dtype=frames.dtype)
    factor = low + (high - low) * draw_uniform((len(frames), 1), generator, frames)
    knee = WARP_KNEE * last * factor.clamp(max=1)
    above = knee / factor + (bins - knee) * (last - knee / factor) / (last - knee).clamp(min=1e-6)
    source = torch.where(bins <= knee, bins / factor, above)
    return frames @ (1 - (source[:, None] - bins[:, None]).abs()).clamp(min=0)


def filter_curve(frames: Tensor, generator: torch.Generator, tilt_db: float, curve_db: float) -> Tensor:
    """Return log-power gains [B, F] of a random filter: a slope of up to `tilt_db` at the ends, plus four cosines."""
    position = torch.linspace(0, 1, frames.shape[2], device=frames.device, dtype=frames.dtype)
    slope = _draw_symmetric((len(frames), 1), generator, frames) * tilt_db * (2 * position - 1)
    order = torch.arange(1, 5, device=frames.device, dtype=frames.dtype)
    height = torch.randn((len(frames), 4), generator=generator, device=generator.device).to(frames) / order
    unit = math.sqrt(2 / sum(1 / k**2 for k in range(1, 5)))  # makes the deviation of the sum 1
    curve = height @ torch.cos(math.pi * order[:, None] * position) * (unit * curve_db)
    return (slope + curve) * NATS_PER_DB


def add_noise(frames: Tensor, lengths: Tensor, generator: torch.Generator, low_db: float, high_db: float) -> Tensor:
    """Return log-mel [B, T, F] plus stationary noise, added as power, of a random ratio and spectrum per row.

    The ratio compares the noise with the mean power of the row's valid frames, all bins together. The noise
    fluctuates like a chi-square variable with 4 degrees of freedom: a deviation of 0.8 in the logarithm, where
    80 Kaldi mel bands of white noise show 1.0 to 1.3 at the bottom and 0.43 at the top.
    """
    power = frames.exp()
    valid = valid_mask(lengths, frames.shape[1])
    mean_power = power.sum(-1).mul(valid).sum(-1) / lengths.clamp(min=1)
    ratio = low_db + (high_db - low_db) * draw_uniform((len(frames),), generator, frames)
    spectrum = filter_curve(frames, generator, NOISE_TILT_DB, NOISE_CURVE_DB).softmax(-1)
    level = mean_power * (-ratio * NATS_PER_DB).exp()
    uniform = (1 - draw_uniform(frames.shape, generator, frames)) * (1 - draw_uniform(frames.shape, generator, frames))
    return (power - uniform.log() * (level[:, None] * spectrum / 2)[:, None]).log()


def time_stretch(frames: Tensor, labels: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Return frames [T, F] and labels [T] resampled to round(T * factor) frames: above 1 is slower, longer speech.

    Frames are interpolated linearly, a label is that of the nearest frame. Pitch and formants do not change.

    Raises:
        ValueError: frames and labels differ in length, or factor is not positive.

    Examples:
        >>> frames, labels = time_stretch(torch.arange(4.0)[:, None], torch.tensor([5, 5, 6, 6]), 0.5)
        >>> frames.flatten().tolist(), labels.tolist()
        ([0.5, 2.5], [5, 6])
    """
    if frames.ndim != 2 or labels.shape != frames.shape[:1]:
        raise ValueError(f"frames [T, F] and labels [T] must agree, got {list(frames.shape)}, {list(labels.shape)}.")
    if not 0 < factor < math.inf:
        raise ValueError(f"factor must be a positive number (2.0 is twice as long), got {factor}.")
    num_frames = len(frames)
    if num_frames == 0:
        return frames, labels
    stretched_frames = max(1, round(num_frames * factor))
    position = torch.arange(stretched_frames, device=frames.device) + 0.5
    source = (position * (num_frames / stretched_frames) - 0.5).clamp(0, num_frames - 1)
    below = source.long()
    share = (source - below).to(frames.dtype)[:, None]
    stretched = torch.lerp(frames[below], frames[(below + 1).clamp(max=num_frames - 1)], share)
    return stretched, labels[(source + 0.5).long().clamp(max=num_frames - 1).to(labels.device)]


def _draw_symmetric(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Return numbers in [-1, 1)."""
    return 2 * draw_uniform(shape, generator, like) - 1
