"""Vectors of samples: converted to floats, checked, resampled and cut into blocks, whatever blocks they arrive in.

files.py reads files. The caller decides what happens to a sample that is out of range.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, SupportsFloat

import numpy as np
import soxr
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from speechattn.amplitude import MAX_AMPLITUDE, MAX_INTEGER, unscaled

MIN_RATE, MAX_RATE = 1000, 768_000  # Hz; below is no speech, above is no audio converter
INT16_SCALE = 32768
CONVERSIONS = {
    "int32": " Divide by 2**31.",
    "int64": " Divide by 2**31; or if they are 16-bit, make them int16.",
    "uint8": " If they are 8-bit sound, (samples - 128.0) / 128.",
    "float16": " Make them float32.",
}
"""What to do with samples of another dtype."""
Samples = np.ndarray[Any, Any]


def as_floats(samples: Tensor | ArrayLike, dtype: Any = np.float32) -> Samples:
    """Return a copy of samples [n], floats in [-1, 1] or 16-bit integers, a tensor or an array, as floats of `dtype`.

    Values that do not fit into `dtype` become infinite; `first_fault` finds them.

    Raises:
        TypeError: the samples have another dtype.
        ValueError: the samples are not a vector.

    Examples:
        >>> as_floats(np.array([-32768, 16384], np.int16))
        array([-1. ,  0.5], dtype=float32)
    """
    kind = type(samples).__name__
    if isinstance(samples, bytes | bytearray):
        raise TypeError(f"samples must be a vector [n], got {kind}: np.frombuffer(data, np.int16) makes one.")
    if isinstance(samples, Tensor):
        if samples.dtype == torch.bfloat16:  # numpy has none
            raise TypeError("samples must be floats in [-1, 1] or 16-bit integers, got bfloat16: give samples.float().")
        samples = samples.detach().cpu().numpy()
    array = np.asarray(samples)
    if array.ndim != 1:
        fix = " Average the channels first." if array.ndim == 2 else ""
        if array.ndim == 2 and 1 in array.shape:
            fix = " Give samples[0]." if len(array) == 1 else " Give samples[:, 0]."
        raise ValueError(f"samples must be a vector [n], got {list(array.shape) or kind}.{fix}")
    if array.dtype == np.int16:
        return (array / INT16_SCALE).astype(dtype)
    if array.size and array.dtype not in (np.float32, np.float64):
        next_step = CONVERSIONS.get(array.dtype.name, "")
        raise TypeError(f"samples must be floats in [-1, 1] or 16-bit integers, got {array.dtype}.{next_step}")
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def whole_rate(sample_rate: SupportsFloat) -> int:
    """Return a sample rate in Hz as an int, from any number that is whole.

    Raises:
        ValueError: it is not a number, has a fraction, or is out of range.

    Examples:
        >>> whole_rate(44100.0)
        44100
    """
    whole = isinstance(sample_rate, SupportsFloat) and not isinstance(sample_rate, bool | str)
    if not whole or not MIN_RATE <= float(sample_rate) <= MAX_RATE or float(sample_rate) % 1:
        raise ValueError(f"sample_rate must be a whole {MIN_RATE} to {MAX_RATE} Hz, got {sample_rate!r}.")
    return int(float(sample_rate))


def first_fault(samples: Samples) -> tuple[int, str] | None:
    """Return (index, description) of the first of samples [n] that is out of range or not finite, or None.

    Examples:
        >>> first_fault(np.array([0.5, -1.2, 1234.0, 20000.0]))
        (2, 'is 1234.0: looks like 16-bit samples as floats; divide by 32768')
    """
    sizes = np.abs(samples)
    if (sizes <= MAX_AMPLITUDE).all():  # False for NaN
        return None
    first = int(np.argmin(sizes <= MAX_AMPLITUDE))
    if not sizes[first] <= MAX_INTEGER:
        return first, f"is {samples[first]}; samples must be finite, in [-1, 1]"
    return first, f"is {samples[first]}: {unscaled(sizes[sizes <= MAX_INTEGER].max())}"


def resampled(blocks: Iterable[Samples], rate: int, sample_rate: int, dtype: str = "float32") -> Iterator[Samples]:
    """Yield blocks of samples at `rate` Hz as blocks at `sample_rate` Hz, the same samples for any cut into blocks."""
    stream = soxr.ResampleStream(rate, sample_rate, 1, dtype)
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, dtype), last=True)


def cut(blocks: Iterable[Samples], size: int) -> Iterator[Samples]:
    """Yield the same rows, samples [n] or frames [n, F], in blocks of `size`, the last one shorter."""
    pending: list[Samples] = []
    count = 0
    for block in blocks:
        pending.append(block)
        count += len(block)
        if count >= size:
            rows = np.concatenate(pending)
            whole = count // size * size
            yield from (rows[begin : begin + size] for begin in range(0, whole, size))
            pending, count = [rows[whole:]], count - whole
    if count:
        yield np.concatenate(pending)
