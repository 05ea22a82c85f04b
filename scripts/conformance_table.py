"""Run the conformance suite on speechattn and on three peers, and write the tables into docs/conformance.md.

    python scripts/conformance_table.py                      # `make conformance` installs the peers first
    python scripts/conformance_table.py --only Emformer      # print what is found, leave the document alone

The prose of the document is written by hand; what stands between its marks `<!-- begin X -->` and `<!-- end X -->` is
replaced. A peer that is not installed has a column that says so. Weights and inputs are random and seeded, widths are
small, and there are no timings: the same versions on the same machine give the same text. What is compared stands in
conformance_columns.py, the peers in conformance_peers.py. Not here: speed and memory, which have their own scripts.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from conformance_columns import MAIN, OURS, PEERS, Column
from tqdm import tqdm

from speechattn.conformance.results import Table
from speechattn.conformance.suite import what_is_checked

DOCUMENT = Path(__file__).parents[1] / "docs" / "conformance.md"


def failures(columns: Sequence[Column], table: Table, known: Sequence[Column] = ()) -> str:
    """Return a line per failure: the measured value and the reason. Reasons of `known` columns are not repeated."""
    known_reasons = {why for column in known for why in column.why.values()}
    lines = []
    for column, findings in zip(columns, table.columns, strict=True):
        alike: dict[str, list[str]] = {}
        for check in findings.failed:
            why = column.why.get(check, "")
            if why not in known_reasons:
                alike.setdefault(f"{findings.outcomes[check].meaning} {why}".rstrip(), []).append(check)
        lines += [f"- **{column.title}, {' and '.join(checks)}.** {meaning}" for meaning, checks in alike.items()]
    return "\n".join(lines) or "Nothing."


def summary(table: Table) -> str:
    """Return a Markdown row for each column: the number of passes, the failures, and what it does not offer."""
    streaming = {check for check in table.checks if check.startswith("stream")}
    lines = ["| configuration | passed | failed | not offered |", "| --- | --- | --- | --- |"]
    for findings in table.columns:
        named: dict[str, list[str]] = {"passed": [], "failed": [], "not offered": []}
        for check, outcome in findings.outcomes.items():
            named[outcome.status].append(check)
        absent = named["not offered"]
        if streaming <= set(absent):
            absent = [*(check for check in absent if check not in streaming), "streams"]
        failed, absent_names = ", ".join(named["failed"]) or "none", ", ".join(absent) or "none"
        lines.append(f"| {findings.name} | {len(named['passed'])} | {failed} | {absent_names} |")
    return "\n".join(lines)


def blocks(tables: Mapping[str, Table]) -> dict[str, str]:
    """Return the generated parts of the document by name."""
    asked = [f"| {check} | {sentence} |" for check, sentence in what_is_checked().items()]
    main, others, own = tables["main"], tables["peers"], tables["ours"]
    return {
        "checks": "\n".join(["| check | what has to hold |", "| --- | --- |", *asked]),
        "versions": f"torch {version('torch')}, one thread of a CPU.",
        "main": "\n\n".join([main.markdown(), "\n".join(column.described() for column in MAIN)]),
        "main failures": failures(MAIN, main),
        "peers": "\n\n".join([others.markdown(), "\n".join(column.described() for column in PEERS)]),
        "peers failures": failures(PEERS, others, known=MAIN),
        "ours": summary(own),
        "ours failures": failures(OURS, own),
    }


def filled(document: str, content: Mapping[str, str]) -> str:
    """Return the document with new content between its marks; marks and content must have the same names."""
    marks = re.findall(r"<!-- begin (.*?) -->", document)
    if sorted(marks) != sorted(content):
        raise SystemExit(f"{DOCUMENT.name} has the marks {sorted(marks)}, this script writes {sorted(content)}.")
    for name, text in content.items():
        between = re.compile(rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
        document, count = between.subn(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", document)
        assert count == 1, f"{name} has no end"
    return document


def main() -> None:
    """Run the suite on all columns, and write the document."""
    parser = argparse.ArgumentParser(description="Conformance of speechattn and three peers, as docs/conformance.md.")
    parser.add_argument("--only", metavar="WORD", help="print the findings of columns whose title holds WORD, and end")
    parser.add_argument("--docs", type=Path, default=DOCUMENT, metavar="FILE", help="the document to fill")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every outcome there as well")
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = {"main": MAIN, "peers": PEERS, "ours": OURS}
    if options.only is not None:
        chosen = [column for table in columns.values() for column in table if options.only in column.title]
        print("\n\n".join(str(column.findings()) for column in chosen))
        return
    progress = tqdm(total=sum(map(len, columns.values())), unit="column")
    tables = {}
    for name, table in columns.items():
        found = []
        for column in table:
            found.append(column.findings())
            progress.update()
        tables[name] = Table(found)
    progress.close()
    print(tables["main"])
    options.docs.write_text(filled(options.docs.read_text(), blocks(tables)))
    if options.json:
        data = {name: table.to_dict() for name, table in tables.items()}
        options.json.write_text(json.dumps(data, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
