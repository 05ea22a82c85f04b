"""docs/conformance.md is what scripts/conformance_table.py writes, and its prose is true of its tables."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from speechattn.conformance.results import FAILED, PASSED, CheckResult, Findings, Table
from speechattn.conformance.suite import CHECKS, what_is_checked

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conformance.md"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("conformance_table")


def between_marks(name: str) -> str:
    found = re.search(rf"<!-- begin {name} -->\n(.*?)<!-- end {name} -->", PAGE.read_text(), flags=re.DOTALL)
    assert found is not None, name
    return found[1]


def cells(name: str) -> Any:
    """{check: {column: cell}} of a table of the page."""
    rows = [line.strip("| ").split(" | ") for line in between_marks(name).splitlines() if line.startswith("|")]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}


def test_the_page_describes_every_check_and_has_a_row_for_each() -> None:
    described = {check: row["what has to hold"] for check, row in cells("checks").items()}
    assert described == what_is_checked()
    assert list(cells("main")) == list(cells("peers")) == list(CHECKS)


def test_speechattn_fails_nothing() -> None:
    for check, row in cells("main").items():
        for column, cell in row.items():
            if column.startswith("speechattn"):
                assert cell.startswith("pass") or cell == "not offered", (check, column, cell)
    assert {
        configuration: row["failed"] for configuration, row in cells("ours").items() if row["failed"] != "none"
    } == {}


def test_what_the_prose_says_of_the_peers_stands_in_the_table() -> None:
    main = cells("main")
    assert list(main["reach"])[3:] == ["local-attention", "Longformer", "Emformer"]
    for check in ("reach", "outside", "window", "neighbours", "padding amount", "empty rows"):
        assert all(cell.startswith("pass") for cell in main[check].values()), check
    assert main["sides"]["Longformer"] == main["stream"]["Longformer"] == "not offered"
    assert main["stream"]["local-attention"] == "not offered"
    zeroed = {check: row["Emformer, zeros in the padding"] for check, row in cells("peers").items()}
    assert zeroed["padding values"].startswith("pass") and zeroed["padding gradients"].startswith("pass")


def test_every_failure_of_a_peer_has_its_reason(script: Any) -> None:
    for columns, name in ((script.MAIN, "main"), (script.PEERS, "peers")):
        for column in columns:
            failed = {check for check, row in cells(name).items() if "FAIL" in row[column.title]}
            assert failed <= set(column.why), (column.title, failed - set(column.why))


def test_a_peer_that_is_not_installed_has_a_column_that_says_so(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "local_attention", None)
    column = next(column for column in script.MAIN if column.title == "local-attention")
    findings = column.findings()
    assert str(findings) == "local-attention: not installed: pip install local-attention"
    table = Table([Findings("ours", {"reach": CheckResult(PASSED, 0.0, "0", "All.")}), findings])
    assert table.markdown().splitlines()[-1] == "| reach | pass 0 | not installed: pip install local-attention |"


def test_marks_are_filled_and_none_is_forgotten(script: Any) -> None:
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n<!-- begin y -->\n<!-- end y -->\n"
    expected = "a\n<!-- begin x -->\n\n1\\0\n\n<!-- end x -->\nb\n<!-- begin y -->\n\n2\n\n<!-- end y -->\n"
    assert script.filled(page, {"x": "1\\0", "y": "2"}) == expected
    assert script.filled(expected, {"x": "1\\0", "y": "2"}) == expected
    with pytest.raises(SystemExit, match="has the marks"):
        script.filled(page, {"x": "1"})


def test_failures_are_listed_once_with_their_reason(script: Any) -> None:
    def column(title: Any, why: Any) -> Any:
        return script.Column(title, "", lambda name: Findings(name), why=why)

    wrong = {check: CheckResult(FAILED, 1.0, "1", "Off.") for check in ("reach", "window", "repeat")}
    first, second = column("A", {"reach": "R.", "window": "R."}), column("B", {"reach": "R.", "repeat": "S."})
    tables = [Table([Findings("A", wrong)]), Table([Findings("B", wrong)])]
    assert script.failures([first], tables[0]) == "- **A, reach and window.** Off. R.\n- **A, repeat.** Off."
    assert script.failures([second], tables[1], known=[first]) == "- **B, window.** Off.\n- **B, repeat.** Off. S."
    assert script.failures([], Table([])) == "Nothing."


def test_the_script_fills_a_page_and_writes_json(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = [column for column in script.OURS if column.title == "one linear layer"]
    for name in ("MAIN", "PEERS", "OURS"):
        monkeypatch.setattr(script, name, few)
    page, outcomes = tmp_path / "page.md", tmp_path / "outcomes.json"
    page.write_text(PAGE.read_text())
    arguments = ["conformance_table.py", "--docs", str(page), "--json", str(outcomes)]
    written = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", arguments)
        script.main()
        written.append(page.read_text())
    assert written[0] == written[1] and "| one linear layer | 15 | none | sides, streams |" in written[0]
    assert capsys.readouterr().out.startswith("check ")
    data = json.loads(outcomes.read_text())
    assert list(data) == ["main", "peers", "ours"]
    assert data["ours"]["columns"][0]["outcomes"]["reach"]["status"] == PASSED


def test_one_column_is_printed_and_the_page_left_alone(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = PAGE.read_text()
    monkeypatch.setattr(sys, "argv", ["conformance_table.py", "--only", "one linear"])
    script.main()
    title, *rows = capsys.readouterr().out.splitlines()
    assert title == "one linear layer" and [row.split("  ")[0] for row in rows] == list(CHECKS)
    assert PAGE.read_text() == before
