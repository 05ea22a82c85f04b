"""Training-time augmentation of log-mel frames [B, T, F]: another speaker, another room, noise, and holes.

All of it acts on *unnormalised* log-mel (natural logarithm of power), where a filter is an addition and noise
adds under the exponential; normalise afterwards. Every random number comes from the generator given, so that
batch k of epoch e is the same again after a restart. torchaudio's masks draw from the global generator and
cannot promise that, so these are plain torch. Nothing here changes T; `time_stretch` does, and takes the labels along.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from speechattn.dtypes import check_floating, widened
from speechattn.lengths import check_lengths, full_lengths, valid_mask
from speechattn.system.serialization import take_numbers

NATS_PER_DB = math.log(10) / 10
WARP_KNEE = 0.8
"""Share of the band that is warped by the whole factor; above it the axis is bent back to the same last bin."""
NOISE_TILT_DB, NOISE_CURVE_DB = 15.0, 4.0
"""Colours of noise: from a slope of +-15 dB at the band's ends (brown to violet), with bumps of 4 dB."""


@dataclass(frozen=True, eq=False)
class Augment:
    """Random changes of a batch, each drawn per row; every part can be switched off.

    Args:
        warp: range of the factor by which spectral features move along the mel axis; None is off.
        tilt_db: greatest slope, up or down, at the ends of the band; 0 is off.
        curve_db: standard deviation of a smooth random filter curve; 0 is off.
        snr_db: range of the signal-to-noise ratio of the noise added; None is off.
        gain_db: greatest change of level, up or down; 0 is off.
        frequency_masks, frequency_mask_bins: how many masks, and the widest.
        time_masks, time_mask_frames, time_mask_share: how many, the longest, and the longest share of the row.
        fill: what stands under a mask: the corpus mean of each bin [F] (`Normalize.mean`). The default 0 is
            right only for frames that are normalised already, with warp to gain switched off.

    Raises:
        ValueError: a range is empty or a number is negative.

    Example:
        >>> frames = torch.randn(2, 50, 80)
        >>> augment = Augment(fill=-6.0)
        >>> first, again = (augment(frames, None, torch.Generator().manual_seed(7)) for _ in range(2))
        >>> torch.equal(first, again), torch.equal(first, frames)
        (True, False)
    """

    warp: tuple[float, float] | None = (0.88, 1.12)
    tilt_db: float = 6.0
    curve_db: float = 2.0
    snr_db: tuple[float, float] | None = (5.0, 40.0)
    gain_db: float = 6.0
    frequency_masks: int = 2
    frequency_mask_bins: int = 12
    time_masks: int = 2
    time_mask_frames: int = 20
    time_mask_share: float = 0.1
    fill: Tensor | float = 0.0

    def __post_init__(self) -> None:
        take_numbers(self)
        if self.warp is not None and not 0 < self.warp[0] <= self.warp[1]:
            raise ValueError(f"Augment.warp must be (low, high) with 0 < low <= high, or None, got {self.warp}.")
        if self.snr_db is not None and not self.snr_db[0] <= self.snr_db[1]:
            raise ValueError(f"Augment.snr_db must be (low, high) with low <= high, or None, got {self.snr_db}.")
        for name in ("tilt_db", "curve_db", "gain_db", "frequency_masks", "frequency_mask_bins"):
            if getattr(self, name) < 0:
                raise ValueError(f"Augment.{name} must be 0 (off) or more, got {getattr(self, name)}.")
        if self.time_masks < 0 or self.time_mask_frames < 0 or not 0 <= self.time_mask_share <= 1:
            raise ValueError(
                "Augment needs time_masks >= 0, time_mask_frames >= 0 and 0 <= time_mask_share <= 1, got "
                f"{self.time_masks}, {self.time_mask_frames} and {self.time_mask_share}."
            )

    @classmethod
    def for_features(cls, features: str, fill: Tensor | float) -> Augment:
        """All of it for "logmel". For others the time masks alone: the rest speaks of mel bins and powers."""
        if features == "logmel":
            return cls(fill=fill)
        return cls(None, tilt_db=0, curve_db=0, snr_db=None, gain_db=0, frequency_masks=0, fill=fill)

    def __call__(self, frames: Tensor, lengths: Tensor | None, generator: torch.Generator) -> Tensor:
        """New frames [B, T, F]; those at and past `lengths` [B] are returned as they came, NaN included.

        Raises:
            TypeError: generator is not a torch.Generator.
            ValueError: frames are not [B, T, F], or a length is outside [0, T].
        """
        checked = check_call(frames, lengths, generator)
        if frames.numel() == 0:
            return frames
        lengths = full_lengths(frames) if checked is None else checked.to(frames.device)
        valid = valid_mask(lengths, frames.shape[1])[:, :, None]
        x = torch.where(valid, frames, frames.new_zeros(())).to(widened(frames.dtype))  # powers overflow half precision
        if self.warp is not None:
            x = warp_frequency(x, generator, *self.warp)
        x = x + filter_curve(x, generator, self.tilt_db, self.curve_db)[:, None]
        if self.snr_db is not None:
            x = add_noise(x, lengths, generator, *self.snr_db)
        x = x + _symmetric((len(x), 1, 1), generator, x) * (self.gain_db * NATS_PER_DB)
        hidden = mask_frequency(x, generator, self.frequency_masks, self.frequency_mask_bins)[:, None]
        longest = (lengths * self.time_mask_share).long().clamp(max=self.time_mask_frames)
        hidden = hidden | mask_time(x, lengths, generator, self.time_masks, longest)[:, :, None]
        x = torch.where(hidden, torch.as_tensor(self.fill).to(x), x)
        return torch.where(valid, x.to(frames.dtype), frames)


def check_call(frames: Tensor, lengths: Tensor | None, generator: torch.Generator) -> Tensor | None:
    """Checked lengths; raises TypeError or ValueError for what is no batch of frames, no lengths or no generator."""
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator with a seed, got {type(generator).__name__}.")
    check_floating(frames)
    if frames.ndim != 3:
        raise ValueError(f"frames must be [B, T, F], got {list(frames.shape)}.")
    return check_lengths(lengths, frames.shape[0], frames.shape[1])


def warp_frequency(frames: Tensor, generator: torch.Generator, low: float, high: float) -> Tensor:
    """Frames [B, T, F] whose spectral features moved from bin i to bin i * factor, factor in [low, high] per row.

    Piecewise linear as in VTLP (Jaitly and Hinton 2013, equation 1), on the mel axis instead of Hz: the first
    and last bin stay. Linear interpolation between bins is one matrix [F, F] a row.
    """
    last = frames.shape[2] - 1
    bins = torch.arange(last + 1, device=frames.device, dtype=frames.dtype)
    factor = low + (high - low) * _uniform((len(frames), 1), generator, frames)
    knee = WARP_KNEE * last * factor.clamp(max=1)
    above = knee / factor + (bins - knee) * (last - knee / factor) / (last - knee).clamp(min=1e-6)
    source = torch.where(bins <= knee, bins / factor, above)
    return frames @ (1 - (source[:, None] - bins[:, None]).abs()).clamp(min=0)


def filter_curve(frames: Tensor, generator: torch.Generator, tilt_db: float, curve_db: float) -> Tensor:
    """Log-power gains [B, F] of a random filter: a slope of at most `tilt_db` at the ends, and four slow cosines."""
    position = torch.linspace(0, 1, frames.shape[2], device=frames.device, dtype=frames.dtype)
    slope = _symmetric((len(frames), 1), generator, frames) * tilt_db * (2 * position - 1)
    order = torch.arange(1, 5, device=frames.device, dtype=frames.dtype)
    height = torch.randn((len(frames), 4), generator=generator, device=generator.device).to(frames) / order
    unit = math.sqrt(2 / sum(1 / k**2 for k in range(1, 5)))  # makes the deviation of the sum 1
    curve = height @ torch.cos(math.pi * order[:, None] * position) * (unit * curve_db)
    return (slope + curve) * NATS_PER_DB


def add_noise(frames: Tensor, lengths: Tensor, generator: torch.Generator, low_db: float, high_db: float) -> Tensor:
    """Log-mel [B, T, F] with stationary noise added to the power, at a random ratio and of a random colour per row.

    The ratio compares the noise with the mean power of the row's valid frames, all bins together. The noise
    fluctuates like a chi-square variable with 4 degrees of freedom: a deviation of 0.8 in the logarithm, where
    80 Kaldi mel bands of white noise show 1.0 to 1.3 at the bottom and 0.43 at the top.
    """
    power = frames.exp()
    valid = valid_mask(lengths, frames.shape[1])
    mean_power = power.sum(-1).mul(valid).sum(-1) / lengths.clamp(min=1)
    ratio = low_db + (high_db - low_db) * _uniform((len(frames),), generator, frames)
    colour = filter_curve(frames, generator, NOISE_TILT_DB, NOISE_CURVE_DB).softmax(-1)
    level = mean_power * (-ratio * NATS_PER_DB).exp()
    uniform = (1 - _uniform(frames.shape, generator, frames)) * (1 - _uniform(frames.shape, generator, frames))
    return (power - uniform.log() * (level[:, None] * colour / 2)[:, None]).log()


def mask_frequency(frames: Tensor, generator: torch.Generator, masks: int, widest: int) -> Tensor:
    """Bool [B, F], True = hidden: SpecAugment's frequency masks, each 0 to `widest` bins (Park et al. 2019)."""
    batch_size, _, bins = frames.shape
    extent = torch.full((batch_size,), bins, device=frames.device)
    return _spans(extent.clamp(max=widest), extent, masks, bins, generator)


def mask_time(frames: Tensor, lengths: Tensor, generator: torch.Generator, masks: int, longest: Tensor) -> Tensor:
    """Bool [B, T], True = hidden: SpecAugment's time masks, each 0 to `longest` [B] of the row's valid frames."""
    return _spans(torch.minimum(longest, lengths), lengths, masks, frames.shape[1], generator)


def time_stretch(frames: Tensor, labels: Tensor, factor: float) -> tuple[Tensor, Tensor]:
    """Frames [T, F] and labels [T] resampled to round(T * factor) frames: above 1 is slower, longer speech.

    Frames are interpolated linearly, a label is that of the nearest frame. Pitch and formants stay.

    Example:
        >>> frames, labels = time_stretch(torch.arange(4.0)[:, None], torch.tensor([5, 5, 6, 6]), 0.5)
        >>> frames.flatten().tolist(), labels.tolist()
        ([0.5, 2.5], [5, 6])
    """
    if frames.ndim != 2 or labels.shape != frames.shape[:1]:
        raise ValueError(f"frames [T, F] and labels [T] must agree, got {list(frames.shape)}, {list(labels.shape)}.")
    if not 0 < factor < math.inf:
        raise ValueError(f"factor must be a positive number (2.0 is twice as long), got {factor}.")
    old = len(frames)
    if old == 0:
        return frames, labels
    new = max(1, round(old * factor))
    source = ((torch.arange(new, device=frames.device) + 0.5) * (old / new) - 0.5).clamp(0, old - 1)
    below = source.long()
    share = (source - below).to(frames.dtype)[:, None]
    stretched = torch.lerp(frames[below], frames[(below + 1).clamp(max=old - 1)], share)
    return stretched, labels[(source + 0.5).long().clamp(max=old - 1).to(labels.device)]


def _spans(longest: Tensor, extent: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Bool [B, size]: `count` spans a row, each 0 to longest [B] positions inside [0, extent [B])."""
    width_draw, start_draw = _uniform((2, len(extent), count), generator, extent.float())
    width = (width_draw * (longest[:, None] + 1)).long().minimum(longest[:, None])
    room = extent[:, None] - width
    start = (start_draw * (room + 1)).long().minimum(room)[:, :, None]
    position = torch.arange(size, device=extent.device)
    inside: Tensor = (position >= start) & (position < start + width[:, :, None])
    return inside.any(1)


def _uniform(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Numbers in [0, 1), drawn where the generator lives, so that the device of the frames changes nothing."""
    return torch.rand(shape, generator=generator, device=generator.device).to(like)


def _symmetric(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Numbers in [-1, 1)."""
    return 2 * _uniform(shape, generator, like) - 1
