"""Law 2: what a frame is. The only place where 16000 Hz, windows of 25 ms and hops of 10 ms are written down.

Three alignments, drawn for window=4, hop=2 over the samples ``0123456789``::

    causal   frame 0  ..01          zeros stand before the audio; frame t ends with sample (t+1)*hop - 1,
             frame 1  0123          so nothing waits for the future: num_frames = n // hop
    snip     frame 0  0123          Kaldi's snip_edges: whole windows only, 1 + (n - window) // hop
             frame 1    2345
    center   frame 0  ..01          librosa and Whisper: frame t is centred on sample t*hop and needs the
             frame 1  0123          samples after it, offline only: 1 + n // hop

Milliseconds decide, samples follow: at every sample rate a frame is 10 ms unless the hop is given in samples. All
arithmetic is in whole samples. The time of a frame, and of its label, is the centre of its window.
Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from speechattn.system.serialization import plain_number, whole

ALIGNMENTS = ("causal", "snip", "center")
WINDOW_MS, HOP_MS = 25.0, 10.0


@dataclass(frozen=True)
class Framing:
    """How samples become frames. `sample_rate` in Hz, `window` and `hop` in samples.

    A window that is not given is 25 ms, rounded down to whole samples as Kaldi does. A hop that is not given is 10 ms,
    which must be whole samples, or labels would drift against the sound: at 11025 and 22050 Hz give a hop.
    ``dataclasses.replace(framing, sample_rate=...)`` keeps the samples: make a new Framing instead.

    Raises:
        ValueError: a number is not positive and whole, 10 ms are no whole samples, hop is longer than the window, or
            align is unknown.

    Example:
        >>> Framing().num_frames(16_000)
        100
        >>> Framing(align="snip").seconds_at(0)
        0.0125
        >>> Framing(sample_rate=8000)
        Framing(sample_rate=8000, window=200, hop=80, align='causal')
    """

    sample_rate: int = 16000
    window: int = None  # type: ignore[assignment]  # from WINDOW_MS: an int behind __post_init__, as all that reads it
    hop: int = None  # type: ignore[assignment]  # from HOP_MS
    align: str = "causal"

    def __post_init__(self) -> None:
        rate = _samples("sample_rate", self.sample_rate)
        window = int(rate * WINDOW_MS / 1000) if self.window is None else _samples("window", self.window)
        if self.hop is None and rate * HOP_MS % 1000:
            hop = max(1, int(rate * HOP_MS / 1000))
            raise ValueError(
                f"{HOP_MS:g} ms are {rate * HOP_MS / 1000:g} samples at {rate} Hz, no whole number: give hop in "
                f"samples, as Framing(sample_rate={rate}, hop={hop}), whose frames are {1000 * hop / rate:.4g} ms; "
                "or resample."
            )
        hop = int(rate * HOP_MS / 1000) if self.hop is None else _samples("hop", self.hop)
        for name, value in (("sample_rate", rate), ("window", window), ("hop", hop)):
            object.__setattr__(self, name, value)
        if self.hop > self.window:
            raise ValueError(
                f"Framing.hop must not exceed window, got hop {self.hop} and window {self.window}: "
                "samples between two windows would be heard by no frame."
            )
        if self.align not in ALIGNMENTS:
            raise ValueError(f"Framing.align must be one of {', '.join(ALIGNMENTS)}, got {self.align!r}.")

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
        """Samples of zeros that stand before the audio."""
        return -self.span_samples(0)[0]

    def num_frames(self, num_samples: int) -> int:
        """Frames in `num_samples` samples; 0 for less than one hop, whatever the alignment."""
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
        """Half-open range of samples that frame `t` hears; it may begin before 0 or end after the audio."""
        start = t * self.hop
        if self.align == "causal":
            start += self.hop - self.window
        elif self.align == "center":
            start -= self.window // 2
        return start, start + self.window

    def center_sample(self, t: int, num_samples: int | None = None) -> int:
        """The sample in the middle of frame `t`, clipped to [0, num_samples): where its label is read."""
        start, _ = self.span_samples(t)
        center = max(0, start + self.window // 2)
        return center if num_samples is None else min(center, max(0, num_samples - 1))

    def seconds_at(self, t: int, num_samples: int | None = None) -> float:
        """The time of frame `t`, the centre of its window, in seconds, clipped to the audio."""
        return self.center_sample(t, num_samples) / self.sample_rate

    def frame_at(self, seconds: float) -> int:
        """The frame whose centre is nearest to `seconds` (the later one of two); frames start at 0.

        It undoes `seconds_at`, ``frame_at(seconds_at(t)) == t``, save for first frames whose centre lies before
        the audio and is clipped to 0: none with the default window of 2.5 hops.
        """
        first_center = self.span_samples(0)[0] + self.window // 2
        return max(0, (self.samples_at(seconds) - first_center + self.hop // 2) // self.hop)

    def samples_at(self, seconds: float) -> int:
        """The sample nearest to `seconds`: the one place where time becomes samples."""
        return round(seconds * self.sample_rate)

    def require_streamable(self) -> None:
        """Raise ValueError when frames need samples that have not been heard yet."""
        if self.align == "center":
            raise ValueError('Framing(align="center") hears the future and cannot stream; use align="causal".')


def _samples(name: str, value: object) -> int:
    """Return a setting of a Framing as an int, 160.0 too: many readers and divisions give floats.

    Raises:
        ConfigError: it is not whole, or less than 1.
    """
    number = plain_number(value)
    return whole(f"Framing.{name}", int(number) if isinstance(number, float) and number.is_integer() else value)
