"""Framing: window, hop and sample rate of a frame, and the arithmetic between samples, frames and seconds.

16000 Hz, windows of 25 ms and hops of 10 ms are written down here and nowhere else.

Three alignments, drawn for window=4, hop=2 over the samples ``0123456789``::

    causal   frame 0  ..01          zeros stand before the audio; frame t ends with sample (t+1)*hop - 1,
             frame 1  0123          so nothing waits for the future: num_frames = n // hop
    snip     frame 0  0123          Kaldi's snip_edges: whole windows only, 1 + (n - window) // hop
             frame 1    2345
    center   frame 0  ..01          librosa and Whisper: frame t is centred on sample t*hop and needs the
             frame 1  0123          samples after it, offline only: 1 + n // hop

At every sample rate a frame is 10 ms unless the hop is given in samples. All arithmetic is in whole samples. The time
of a frame, and of its label, is the centre of its window. A label holds from half way to the previous centre until half
way to the next one.
Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from speechattn.system.serialization import plain_number, whole

CountT = TypeVar("CountT", bound=Any)

ALIGNMENTS = ("causal", "snip", "center")
WINDOW_MS, HOP_MS = 25.0, 10.0


@dataclass(frozen=True, init=False)
class Framing:
    """The rule by which samples become frames.

    A window that is not given is 25 ms, rounded down to whole samples as in Kaldi. A hop that is not given is 10 ms,
    which must be whole samples, or labels would drift against the audio: at 11025 and 22050 Hz give a hop.
    ``dataclasses.replace(framing, sample_rate=...)`` keeps the samples: make a new Framing instead.

    Raises:
        ValueError: a number is not positive and whole, 10 ms are no whole samples, hop is longer than the window, or
            align is unknown.

    Examples:
        >>> Framing().num_frames(16_000)
        100
        >>> Framing(align="snip").seconds_at(0)
        0.0125
        >>> Framing(sample_rate=8000)
        Framing(sample_rate=8000, window=200, hop=80, align='causal')
    """

    sample_rate: int = 16000
    """Samples in one second, in Hz."""
    window: int = 400
    """Samples of a frame; by default 25 ms at `sample_rate`."""
    hop: int = 160
    """Samples from one frame to the next; by default 10 ms at `sample_rate`."""
    align: str = "causal"
    """"causal", "snip" or "center": where windows lie, see above."""

    def __init__(
        self, sample_rate: int = 16000, window: int | None = None, hop: int | None = None, align: str = "causal"
    ) -> None:
        rate = _samples("sample_rate", sample_rate)
        window = int(rate * WINDOW_MS / 1000) if window is None else _samples("window", window)
        if hop is None and rate * HOP_MS % 1000:
            fitting_hop = max(1, int(rate * HOP_MS / 1000))
            raise ValueError(
                f"{HOP_MS:g} ms are {rate * HOP_MS / 1000:g} samples at {rate} Hz, no whole number: give hop in "
                f"samples, as Framing(sample_rate={rate}, hop={fitting_hop}), whose frames are "
                f"{1000 * fitting_hop / rate:.4g} ms; or resample."
            )
        hop = int(rate * HOP_MS / 1000) if hop is None else _samples("hop", hop)
        if hop > window:
            raise ValueError(
                f"Framing.hop must not exceed window, got hop {hop} and window {window}: "
                "samples between two windows would be in no frame."
            )
        if align not in ALIGNMENTS:
            raise ValueError(f"Framing.align must be one of {', '.join(ALIGNMENTS)}, got {align!r}.")
        for name, value in (("sample_rate", rate), ("window", window), ("hop", hop), ("align", align)):
            object.__setattr__(self, name, value)

    @property
    def hop_ms(self) -> float:
        """Milliseconds from one frame to the next."""
        return 1000 * self.hop / self.sample_rate

    @property
    def frames_per_second(self) -> float:
        """Frames in one second of audio."""
        return self.sample_rate / self.hop

    @property
    def left_padding(self) -> int:
        """Samples of zeros before the audio."""
        return -self.span_samples(0)[0]

    @property
    def first_center(self) -> int:
        """The sample in the middle of frame 0; negative if the window begins more than half before the audio."""
        return self.span_samples(0)[0] + self.window // 2

    @property
    def hops_per_window(self) -> int:
        """Whole hops in a window."""
        return self.window // self.hop

    def num_frames(self, num_samples: int) -> int:
        """Return the frames in `num_samples` samples; 0 for less than one hop, whatever the alignment."""
        if num_samples < 0:
            raise ValueError(f"num_samples must be 0 or more, got {num_samples}.")
        if num_samples < self.hop:
            return 0
        if self.align == "causal":
            return num_samples // self.hop
        if self.align == "snip":
            return max(0, 1 + (num_samples - self.window) // self.hop)
        return 1 + num_samples // self.hop

    def span_samples(self, t: int) -> tuple[int, int]:
        """Return the half-open range of samples of frame `t`; it may begin before 0 or end after the audio."""
        start = t * self.hop
        if self.align == "causal":
            start += self.hop - self.window
        elif self.align == "center":
            start -= self.window // 2
        return start, start + self.window

    def center_sample(self, t: int, num_samples: int | None = None) -> int:
        """Return the sample in the middle of frame `t`, clipped to [0, num_samples): its label is read there."""
        center = max(0, self.first_center + t * self.hop)
        return center if num_samples is None else min(center, max(0, num_samples - 1))

    def center_samples(self, num_frames: int) -> range:
        """Return the samples in the middle of the first `num_frames` frames, not clipped."""
        return range(self.first_center, self.first_center + num_frames * self.hop, self.hop)

    def seconds_at(self, t: int, num_samples: int | None = None) -> float:
        """Return the time of frame `t`, the centre of its window, in seconds, clipped to the audio."""
        return self.center_sample(t, num_samples) / self.sample_rate

    def frame_at(self, seconds: float) -> int:
        """Return the frame whose centre is nearest to `seconds` (the later one of two); frames start at 0.

        It undoes `seconds_at`, ``frame_at(seconds_at(t)) == t``, except for first frames whose centre lies before
        the audio and is clipped to 0: none with the default window of 2.5 hops.
        """
        return max(0, (self.samples_at(seconds) - self.first_center + self.hop // 2) // self.hop)

    def samples_at(self, seconds: float) -> int:
        """Return the sample nearest to `seconds`."""
        return round(seconds * self.sample_rate)

    def complete_frames(self, num_samples: CountT) -> CountT:
        """Return the frames whose last sample is among the first `num_samples`; below the first one it is 0 or less.

        The number may be an integer tensor. The dividend is negative only where the result is, so that integer division
        may round down or to zero.
        """
        return (num_samples - self.span_samples(0)[1] + self.hop) // self.hop  # type: ignore[no-any-return]

    def num_hops(self, num_samples: CountT) -> CountT:
        """Return the whole hops in a number of samples, an int or an integer tensor."""
        return num_samples // self.hop  # type: ignore[no-any-return]

    def num_samples(self, num_frames: int) -> int:
        """Return the samples from one frame to the one `num_frames` later."""
        return num_frames * self.hop

    def edge_sample(self, t: int, num_samples: int | None = None) -> int:
        """Return the sample where the label of frame `t` begins: half way between its centre and the one before.

        Frame 0 begins at 0. Centres are clipped to [0, num_samples) if that is given.
        """
        if t == 0:
            return 0
        return (self.center_sample(t - 1, num_samples) + self.center_sample(t, num_samples) + 1) // 2

    def end_sample(self, num_frames: int) -> int:
        """Return where the last of `num_frames` labels ends in audio of unknown length: half a hop after its centre."""
        return self.center_sample(num_frames - 1) + (self.hop + 1) // 2 if num_frames else 0

    def drawn_edges(self, num_frames: int) -> list[float]:
        """Return the seconds [T + 1] between which frames are drawn: half a hop to both sides of each centre."""
        start, stop = self.span_samples(0)
        first = (start + stop - self.hop) / 2
        return [(first + self.hop * t) / self.sample_rate for t in range(num_frames + 1)]

    def latency_samples(self, lookahead: int = 0) -> int:
        """Return the samples from the centre of a frame until it and `lookahead` more frames are complete."""
        return self.span_samples(lookahead)[1] - self.first_center

    def latency_ms(self, lookahead: int = 0) -> float:
        """Return `latency_samples` in ms."""
        return 1000 * self.latency_samples(lookahead) / self.sample_rate

    def stacked(self, stack: int) -> Framing:
        """Return the framing with the same sample rate whose frames are `stack` hops apart."""
        hop = self.hop * stack
        return Framing(self.sample_rate, max(self.window, hop), hop, self.align)

    def require_streamable(self) -> None:
        """Raise ValueError if frames need samples after their hop, so that they cannot stream."""
        if self.align == "center":
            raise ValueError('Framing(align="center") needs future samples and cannot stream; use align="causal".')


def _samples(name: str, value: object) -> int:
    """Return a setting of a Framing as an int, 160.0 too: many readers and divisions give floats.

    Raises:
        ConfigError: it is not whole, or less than 1.
    """
    number = plain_number(value)
    return whole(f"Framing.{name}", int(number) if isinstance(number, float) and number.is_integer() else value)
