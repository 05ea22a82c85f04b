"""A profile that was made up: its numbers are known exactly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from speechattn.config import EncoderConfig
from speechattn.profiling.results import Measurement, Profile
from speechattn.profiling.settings import Settings

MACHINE = {"cpu": "a processor", "cores": 2, "memory_bytes": 8 * 10**9, "versions": {"torch": "2.0"}, "commit": "abc"}
LENGTHS = (10.0, 60.0, 600.0, 3600.0)


def made(encoder: str, audio_s: float, exponent: float, **changed: Any) -> Measurement:
    """A point of an encoder whose time and memory grow as audio_s ** exponent."""
    size = round(1e6 * audio_s**exponent)
    frames = round(100 * audio_s)
    found = {"seconds": 1e-3 * audio_s**exponent, "peak_extra_bytes": size, "peak_tensor_bytes": 2 * size}
    found |= {"peak_resident_bytes": size + 10**8, "bytes_per_frame": size / frames, "output": (1, frames, 8)}
    found |= {"real_time_factor": found["seconds"] / audio_s, "weights_bytes": 100, "passed_s": found["seconds"]}
    return Measurement(encoder, audio_s, frames, "ok", **{**found, **changed})


def profile(**changed: Any) -> Profile:
    """Truncated attention, which survives; full attention, which does not; and one that was never there."""
    points = [made("truncated", audio_s, 1.0) for audio_s in LENGTHS]
    points += [made("full", audio_s, 2.0) for audio_s in LENGTHS[:2]]
    points.append(
        Measurement("full", 600.0, 60000, "out of memory", limit=4e9, note="ran out at 4 GB, wanted another 57.6 GB")
    )
    points.append(Measurement("full", 3600.0, 360000, "skipped", note="skipped: out of memory at 10 min"))
    points.append(Measurement("emformer", 10.0, 1000, "cannot", note="needs torchaudio"))
    settings = Settings(EncoderConfig(80, d_model=8, num_heads=2, num_layers=1), memory_bytes=4 * 10**9, **changed)
    return Profile(settings, dict(MACHINE), ["It was made up."], points)


@pytest.fixture
def make_point() -> Callable[..., Measurement]:
    return made


@pytest.fixture
def make_profile() -> Callable[..., Profile]:
    return profile
