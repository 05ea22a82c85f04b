"""Bytes, lengths and growth as a person writes and reads them: "8GB", "4 h". Standard library only."""

from __future__ import annotations

import math
import re

from speechattn.errors import ConfigError

UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"))
FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_bytes(text: str, option: str = "memory") -> int:
    """Bytes that "8GB", "512 MiB" or "1e9" name; 1 GB is 10**9, 1 GiB 2**30.

    Raises:
        ConfigError: it is no such number, or less than 1.

    Example:
        >>> parse_bytes("8GB"), parse_bytes("1.5 GiB")
        (8000000000, 1610612736)
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:e\+?[0-9]+)?)\s*([kmgt]?i?)b?\s*", text.lower())
    try:
        size = float(match[1]) * FACTORS[match[2]] if match else math.nan
    except (ValueError, KeyError):
        size = math.nan
    if not 1 <= size < 2**62:
        raise ConfigError(f'{option} must be a size as "8GB", "512MB" or "2GiB", got {text!r}.')
    return int(size)


def format_duration(seconds: float) -> str:
    """A length of audio, three digits: seconds up to a minute, then minutes, then hours.

    Example:
        >>> [format_duration(s) for s in (0.5, 10, 90, 600, 14400)]
        ['0.5 s', '10 s', '1.5 min', '10 min', '4 h']
    """
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= size), UNITS[-1])
    return f"{seconds / size:.3g} {unit}"


def format_bytes(size: float) -> str:
    """Bytes in units of 1000, three digits.

    Example:
        >>> [format_bytes(b) for b in (500, 12_345_678, 4e9)]
        ['500 bytes', '12.3 MB', '4 GB']
    """
    for one, unit in SIZES:
        if size >= one:
            return f"{size / one:.3g} {unit}" if size < 999.5 * one else f"{size / one:.0f} {unit}"
    return f"{size:.0f} bytes"


def format_power(power: float | None) -> str:
    """How something grows with the length T.

    Example:
        >>> format_power(1.972), format_power(None)
        ('T ** 1.97', '-')
    """
    return "-" if power is None else f"T ** {power + 0.0:.2f}"
