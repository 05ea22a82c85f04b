"""The sections of a classifier of utterances: its confusions. The branch `utterance` replaces this file."""

from __future__ import annotations

from speechattn.plots.html_page import Report
from speechattn.training.report_sections.frames import add_confusion
from speechattn.training.report_sections.inputs import ReportInputs


def add_sections(report: Report, inputs: ReportInputs) -> None:
    """Add the confusion matrix and the recall of each class."""
    report.heading("Mistakes")
    add_confusion(report, inputs.results, inputs.task.classes)
