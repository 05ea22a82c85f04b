"""The table and the figure of a sweep, from its records alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from speechattn.plots.window_sweep import Mark, window_sweep
from speechattn.profiling.results import OK
from speechattn.sweep.records import Cost, Records, Summary
from speechattn.system.units import format_bytes, format_duration

NAMED = ("baseline", "full")
"""Families whose points the figure labels; the others follow from their place and marker."""


def markdown_table(records: Records) -> str:
    """Return one row a point, by context: accuracies as mean (lowest to highest) of the seeds.

    Context and look-ahead are of the whole encoder; costs are one pass over one long input on one thread.
    """
    summaries = sorted(records.summaries(), key=lambda summary: (summary.first.context_ms or math.inf, summary.mean))
    tests = list(summaries[0].tests) if summaries else []
    audio = format_duration(records.costs[0].audio_s) if records.costs else "a long input"
    header = ["encoder", "context", "look-ahead", "new speakers", *tests, "seeds", "parameters", "training"]
    header += [f"{audio}: time", "memory"]
    rows = [_row(summary, tests) for summary in summaries]
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def figure(records: Records) -> Figure:
    """Return the figure of a sweep: accuracy, and time of a long input, over context."""
    summaries = records.summaries()
    marks = [
        Mark(
            label=summary.first.label,
            family=summary.first.family,
            context_ms=summary.first.context_ms,
            mean=summary.mean,
            low=summary.low,
            high=summary.high,
            cost_s=summary.cost.seconds if summary.cost else None,
            named=summary.first.family in NAMED,
        )
        for summary in summaries
    ]
    audio = format_duration(records.costs[0].audio_s) if records.costs else ""
    return window_sweep(marks, "What a window is worth: phones from more and more context", _note(records), audio)


def _note(records: Records) -> str:
    seeds = sorted({run.seed for run in records.runs})
    subset = records.settings.get("subset", "")
    data = "synthetic speech" if records.settings.get("data") == "synthetic" else str(subset)
    frames = f"{records.runs[0].frames:,} frames of new speakers" if records.runs else "no runs"
    bars = f"mean, lowest and highest of {len(seeds)} seeds" if len(seeds) > 1 else "one seed"
    counts = sorted({run.epochs for run in records.runs}) or [int(records.settings.get("epochs", 0))]
    epochs = f"{counts[0]} epochs" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} epochs"
    return f"{data}, {epochs}, {frames}; {bars}"


def _row(summary: Summary, tests: Sequence[str]) -> list[str]:
    run = summary.first
    return [
        run.label,
        _ms(run.context_ms),
        _ms(run.lookahead_ms),
        _accuracy(summary.mean, summary.low, summary.high, summary.seeds),
        *(_accuracy(*summary.tests[name], summary.seeds) for name in tests),
        str(summary.seeds),
        f"{run.parameters:,}",
        format_duration(summary.train_s),
        *_costs(summary.cost),
    ]


def _accuracy(mean: float, low: float, high: float, seeds: int) -> str:
    return f"{mean:.4f}" + (f" ({low:.4f} to {high:.4f})" if seeds > 1 else "")


def _ms(value: float | None) -> str:
    return "no limit" if value is None else f"{value:.10g} ms"


def _costs(cost: Cost | None) -> tuple[str, str]:
    if cost is None:
        return "", ""
    if cost.status != OK or cost.seconds is None or cost.peak_extra_bytes is None:
        return cost.status, cost.status
    return format_duration(cost.seconds), format_bytes(cost.peak_extra_bytes)
