"""Sizes in bytes and durations, read from text ("8GB", "4h") and written for people. Standard library only."""

from __future__ import annotations

import math
import re

from speechattn.errors import ConfigError

BYTE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12} | {
    f"{name}i": 2**power for name, power in (("k", 10), ("m", 20), ("g", 30), ("t", 40))
}
SHOWN_BYTE_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"))
DURATION_UNITS = {"": 1.0, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
SHOWN_DURATION_UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
MIN_PLAIN_BYTES = 1_000_000
"""A number without a unit below this is refused: 8 is meant as 8GB, and no process runs in 8 bytes."""
_NUMBER = r"[0-9.]+(?:e[+-]?[0-9]+)?"


def parse_bytes(text: str, option: str = "memory") -> int:
    """Return the bytes that "8GB", "512 MiB" or "1e9" name; 1 GB is 10**9, 1 GiB is 2**30.

    Raises:
        ConfigError: it is not a size of at least 1 byte, or a small number without a unit.

    Examples:
        >>> parse_bytes("8GB"), parse_bytes("1.5 GiB")
        (8000000000, 1610612736)
    """
    match = re.fullmatch(rf"\s*({_NUMBER})\s*([kmgt]?i?)(b?)\s*", text.lower())
    size = _scaled(match[1], BYTE_UNITS.get(match[2])) if match else math.nan
    if not 1 <= size < 2**62:
        raise ConfigError(f'{option} must be a size as "8GB", "512MB" or "2GiB", got {text!r}.')
    if match and not match[2] and not match[3] and size < MIN_PLAIN_BYTES:
        raise ConfigError(f'{option} {text.strip()} has no unit and is {size:g} bytes: write "{text.strip()}GB".')
    return int(size)


def parse_duration(text: str, option: str = "duration") -> float:
    """Return the seconds that "4h", "90min", "30s", "20ms", "1d" or, without a unit, "30" name.

    Raises:
        ConfigError: it is not a finite duration above 0.

    Examples:
        >>> parse_duration("4h"), parse_duration("1.5 min"), parse_duration("30")
        (14400.0, 90.0, 30.0)
    """
    match = re.fullmatch(rf"\s*({_NUMBER})\s*([a-z]*)\s*", text.lower())
    seconds = _scaled(match[1], DURATION_UNITS.get(match[2])) if match else math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f'{option} must be a duration as "4h", "90min" or "30s", got {text!r}.')
    return seconds


def _scaled(number: str, unit: float | None) -> float:
    """Return `number` in its unit; NaN if one of them is none."""
    try:
        return math.nan if unit is None else float(number) * unit
    except ValueError:
        return math.nan


def format_duration(seconds: float) -> str:
    """Return a duration with three digits: in seconds up to a minute, then in minutes, then in hours.

    Examples:
        >>> [format_duration(s) for s in (0.5, 10, 90, 600, 14400)]
        ['0.5 s', '10 s', '1.5 min', '10 min', '4 h']
    """
    size, unit = next(((size, unit) for size, unit in SHOWN_DURATION_UNITS if seconds >= size), (1.0, "s"))
    return f"{seconds / size:.3g} {unit}"


def format_bytes(size: float) -> str:
    """Return a size with three digits, in units of 1000.

    Examples:
        >>> [format_bytes(b) for b in (500, 12_345_678, 4e9)]
        ['500 bytes', '12.3 MB', '4 GB']
    """
    for one, unit in SHOWN_BYTE_UNITS:
        if size >= one:
            return f"{size / one:.3g} {unit}" if size < 999.5 * one else f"{size / one:.0f} {unit}"
    return f"{size:.0f} bytes"


def format_power(power: float | None) -> str:
    """Return how a quantity grows with the length T.

    Examples:
        >>> format_power(1.972), format_power(None)
        ('T ** 1.97', '-')
    """
    return "-" if power is None else f"T ** {power + 0.0:.2f}"
