"""Amplitude of samples: floats in [-1, 1]; which larger numbers are integers, and how to scale them."""

from __future__ import annotations

MAX_AMPLITUDE = 100.0
"""Largest magnitude that is taken as audio; clipping, augmentation and resampling stay below it."""
MAX_INTEGER = 2.0**31
"""Largest magnitude of a 32-bit integer. Larger numbers are invalid, and their power may overflow float32."""
SCALED = {
    "int8": "waveform.float() / 128",
    "uint8": "(waveform.float() - 128) / 128",
    "int16": "waveform.float() / 32768",
    "int32": "waveform.float() / 2**31",
    "int64": "waveform.float() / 32768 if its samples are 16-bit, / 2**31 if they are 32-bit",
    "float16": "waveform.float()",
    "bfloat16": "waveform.float()",
}
"""Expression that converts a waveform of another dtype to floats in [-1, 1]."""


def unscaled(largest: float) -> str:
    """Return which integers samples beyond MAX_AMPLITUDE are, by the largest of them, and the divisor that scales them.

    Examples:
        >>> unscaled(20000.0)
        'looks like 16-bit samples as floats; divide by 32768'
    """
    bits = next(bits for bits in (16, 24, 32) if largest <= 2 ** (bits - 1))
    return f"looks like {bits}-bit samples as floats; divide by {2 ** (bits - 1)}"
