"""Sizes and durations as text, and text tables."""

from __future__ import annotations

import pytest

import speechattn as sa
from speechattn.errors import ConfigError
from speechattn.system.text_table import text_table
from speechattn.system.units import format_duration, parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("4h", 14400.0), ("90min", 5400.0), ("30s", 30.0), ("30", 30.0), ("1.5 H", 5400.0), ("20ms", 0.02), ("1d", 86400)],
)
def test_a_duration_is_read_in_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "h", "4 hours", "-1", "0", "0h", "nan", "inf", "1e999", "1.2.3s", "4h30"])
def test_text_that_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r'--duration must be a duration as "4h", "90min" or "30s", got '):
        parse_duration(text, "--duration")


def test_a_small_number_of_bytes_needs_a_unit() -> None:
    assert parse_bytes("1000000") == 10**6 and parse_bytes("8 B") == 8 and parse_bytes("1e9") == 10**9
    with pytest.raises(ConfigError, match='--memory 8 has no unit and is 8 bytes: write "8GB"'):
        parse_bytes("8", "--memory")
    with pytest.raises(ConfigError, match='write "8GB"'), sa.memory_limit(8):
        pass


def test_columns_are_aligned_and_lines_have_no_trailing_spaces() -> None:
    rows = [("name", "MB", "GB", ""), ("a", "1,000", "1"), ("longer", "20", "0.02", "note")]
    assert text_table(rows, "<><", indent=1) == [
        " name       MB  GB",
        " a       1,000  1",
        " longer     20  0.02  note",
    ]
    assert text_table([]) == []
