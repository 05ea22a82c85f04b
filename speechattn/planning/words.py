"""Bytes and lengths as people write them: "8GB", "4.0 h"."""

from __future__ import annotations

import math
import re

from speechattn.errors import ConfigError

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


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
        size = float(match[1]) * (UNITS | BINARY)[match[2]] if match else math.nan
    except (ValueError, KeyError):
        size = math.nan
    if not 1 <= size < 2**62:
        raise ConfigError(f'{option} must be a size as "8GB", "512MB" or "2GiB", got {text!r}.')
    return int(size)


def told_bytes(size: float) -> str:
    """As a person reads them.

    Example:
        >>> told_bytes(2_214_720_000), told_bytes(950)
        ('2.2 GB', '950 B')
    """
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "KB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}" if size / unit >= 10 else f"{size / unit:.1f} {name}"
    return f"{size:.0f} B"


def told_seconds(seconds: float) -> str:
    """A length of time.

    Example:
        >>> told_seconds(14_400), told_seconds(95), told_seconds(0.02)
        ('4.0 h', '1.6 min', '20 ms')
    """
    for unit, name in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= unit:
            return f"{seconds / unit:,.1f} {name}"
    return f"{seconds * 1000:.3g} ms"
