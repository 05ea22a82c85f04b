"""A run as one HTML page that needs nothing beside it: pictures embedded, no links out, light and dark."""

from speechattn.report.page import Report
from speechattn.report.run import write_run_report

__all__ = ["Report", "write_run_report"]
