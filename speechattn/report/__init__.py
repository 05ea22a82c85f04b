"""A run as one HTML page that needs nothing beside it: pictures embedded, no links out, light and dark."""

from speechattn.report.page import Report
from speechattn.report.run import ATTENTION_S, LayerAttention, write_run_report

__all__ = ["ATTENTION_S", "LayerAttention", "Report", "write_run_report"]
