"""Lengths, bytes and growth as a person reads them. Standard library only."""

from __future__ import annotations

UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"))
SIZES = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"))


def told_seconds(seconds: float) -> str:
    """A length of audio, three digits: seconds up to a minute, then minutes, then hours.

    Example:
        >>> [told_seconds(s) for s in (0.5, 10, 90, 600, 14400)]
        ['0.5 s', '10 s', '1.5 min', '10 min', '4 h']
    """
    size, unit = next(((size, unit) for size, unit in UNITS if seconds >= size), UNITS[-1])
    return f"{seconds / size:.3g} {unit}"


def told_bytes(size: float) -> str:
    """Bytes in units of 1000, three digits.

    Example:
        >>> [told_bytes(b) for b in (500, 12_345_678, 4e9)]
        ['500 bytes', '12.3 MB', '4 GB']
    """
    for one, unit in SIZES:
        if size >= one:
            return f"{size / one:.3g} {unit}" if size < 999.5 * one else f"{size / one:.0f} {unit}"
    return f"{size:.0f} bytes"


def told_power(power: float | None) -> str:
    """How something grows with the length T.

    Example:
        >>> told_power(1.972), told_power(None)
        ('T ** 1.97', '-')
    """
    return "-" if power is None else f"T ** {power + 0.0:.2f}"
