"""Text files are read with the marks and line ends that real files have."""

from pathlib import Path

import pytest

from speechattn.data.text_files import read_lines, read_table
from speechattn.errors import DataError


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_marks_and_carriage_returns_are_dropped(tmp_path: Path, end: str, mark: str) -> None:
    path = tmp_path / "a b.txt"
    path.write_bytes(f"{mark}ein{end}{end}zwölf\u2028still the same line".encode())
    assert read_lines(path) == ["ein", "", "zwölf\u2028still the same line"]


def test_a_byte_order_mark_between_two_joined_files_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "joined.txt"
    path.write_text("\ufeffa one\n\ufeffb two\n", encoding="utf-8")
    assert read_lines(path) == ["a one", "b two"] == read_table(path)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\n\u2028"])
def test_unicode_line_separators_end_a_row_of_a_table(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "table.txt"
    path.write_text(f"a one{separator}b two\u2028\n", encoding="utf-8")
    assert [row for row in read_table(path) if row] == ["a one", "b two"]


def test_unreadable_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("zwölf".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8 text \(byte 2\)"):
        read_lines(tmp_path / "latin.txt")
    with pytest.raises(DataError, match="No such file"):
        read_lines(tmp_path / "none.txt")
    with pytest.raises(DataError, match="directory"):
        read_lines(tmp_path)
    with pytest.raises(DataError, match="/dev/null is a pipe or a device, not a text file"):
        read_lines(Path("/dev/null"))
