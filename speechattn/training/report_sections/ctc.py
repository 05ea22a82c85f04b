"""The sections of a CTC model: its errors by kind. The branch `ctc` replaces this file."""

from __future__ import annotations

from speechattn.plots.html_page import Report
from speechattn.training.report_sections.inputs import ReportInputs


def add_sections(report: Report, inputs: ReportInputs) -> None:
    """Add a table of the errors of each encoder."""
    kinds = ("substitutions", "insertions", "deletions", "labels")
    rows = [[row.get("encoder"), *(row.get(kind) for kind in kinds)] for row in inputs.results]
    report.heading("Errors").table(["encoder", *kinds], rows)
