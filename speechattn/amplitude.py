"""The size of samples: floats in [-1, 1]; what larger floats and integers are, and how to scale them."""

from __future__ import annotations

MAX_AMPLITUDE = 100.0
"""Clipping, augmentation and the overshoot of a resampler stay below; larger ones are integers that were not scaled."""
MAX_INTEGER = 2.0**31
"""Of 32-bit integers. What is beyond is nonsense, and the power of far larger numbers overflows float32."""
SCALED = {
    "int8": "waveform.float() / 128",
    "uint8": "(waveform.float() - 128) / 128",
    "int16": "waveform.float() / 32768",
    "int32": "waveform.float() / 2**31",
    "int64": "waveform.float() / 32768 if its samples are 16-bit, / 2**31 if they are 32-bit",
    "float16": "waveform.float()",
    "bfloat16": "waveform.float()",
}
"""What makes floats in [-1, 1] of a waveform of another dtype."""


def unscaled(largest: float) -> str:
    """Return what samples beyond MAX_AMPLITUDE look like, by the largest of them, and what scales them.

    Example:
        >>> unscaled(20000.0)
        'looks like 16-bit samples as floats; divide by 32768'
    """
    bits = next(bits for bits in (16, 24, 32) if largest <= 2 ** (bits - 1))
    return f"looks like {bits}-bit samples as floats; divide by {2 ** (bits - 1)}"
