"""The tables that `speechattn attention` prints: layers, outstanding heads, classes, windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from speechattn.analysis.head_summary import HeadSummary
from speechattn.analysis.heads import HeadAnalysis
from speechattn.analysis.query_groups import UNLABELLED
from speechattn.plots.context_band import duration
from speechattn.system.text_table import text_table

RANKED = 3
"""Heads that are listed of each kind."""
MIN_QUERIES = 20
"""Frames of a class below which its mean distance is not ranked."""


def format_analysis(analysis: HeadAnalysis, headline: str = "") -> str:
    """Return everything as text."""
    parts = [headline, layer_table(analysis), head_table(analysis), group_table(analysis), window_table(analysis)]
    return "\n\n".join(part for part in parts if part)


def layer_table(analysis: HeadAnalysis) -> str:
    """Return a row for each layer, means over its heads."""
    head = (
        "layer",
        "window",
        "mean distance",
        "past",
        "itself",
        "future",
        "frames",
        "set by distance",
        "too short for",
    )
    rows: list[tuple[str, ...]] = [head]
    for layer, context in enumerate(analysis.contexts, start=1):
        heads = analysis.of_layer(layer)
        shares = [head.position_share for head in heads if head.position_share is not None]
        rows.append(
            (
                str(layer),
                str(context),
                f"{_mean([head.all.distance_ms for head in heads]):.0f} ms",
                *(f"{_mean(values):.2f}" for values in _sides(heads)),
                f"{_mean([head.all.effective_frames for head in heads]):.1f}",
                f"{_mean(shares):.0%}" if shares else "-",
                _short(heads),
            )
        )
    return "\n".join(text_table(rows, "<<>>>>>><"))


def head_table(analysis: HeadAnalysis) -> str:
    """Return the heads that look farthest, that choose most and least by distance, and that differ most by class."""
    rows = [("", "layer", "head", "")]
    for name, heads, describe in rankings(analysis):
        rows += [(name if not at else "", str(h.layer), str(h.head), describe(h)) for at, h in enumerate(heads)]
    return "\n".join(text_table(rows, "<>><"))


def rankings(analysis: HeadAnalysis) -> list[tuple[str, list[HeadSummary], Callable[[HeadSummary], str]]]:
    """Return (what is ranked, the first heads, what to say of each)."""
    chosen = [head for head in analysis.heads if head.position_share is not None]
    by_distance = sorted(chosen, key=lambda head: -(head.position_share or 0.0))
    found = [
        ("looks farthest", sorted(analysis.heads, key=lambda head: -head.all.distance_ms)[:RANKED], _far),
        ("set by distance", by_distance[:RANKED], _distance),
        ("set by the sound", by_distance[::-1][:RANKED], _content),
    ]
    if analysis.heads and len(_by_class(analysis.heads[0])) > 1:
        found.append(("differs by class", sorted(analysis.heads, key=lambda head: -_spread(head))[:RANKED], _classes))
    return [entry for entry in found if entry[1]]


def group_table(analysis: HeadAnalysis) -> str:
    """Return the mean distance by layer and class; empty if there are less than two classes."""
    if len(analysis.groups) < 2:
        return ""
    rows = [["mean distance, ms", *analysis.groups]]
    for layer in range(1, analysis.num_layers + 1):
        heads = analysis.of_layer(layer)
        cells = [
            _mean([head.by_group[group].distance_ms for head in heads if group in head.by_group])
            for group in analysis.groups
        ]
        rows.append([f"layer {layer}", *(f"{cell:.0f}" for cell in cells)])
    counts = analysis.heads[0].by_group
    rows.append(["frames", *(f"{counts[group].queries:,}" if group in counts else "0" for group in analysis.groups)])
    return "\n".join(text_table(rows, "<>"))


def window_table(analysis: HeadAnalysis) -> str:
    """Return a row for each window; empty if none were compared."""
    if not analysis.windows:
        return ""
    scored = any(window.accuracy is not None for window in analysis.windows)
    rows = [["window", "contexts", "same label", *(["accuracy"] * scored), "divergence", "waits", "sees"]]
    for window in analysis.windows:
        contexts = list(dict.fromkeys(window.contexts))
        rows.append(
            [
                window.name,
                contexts[0] if len(contexts) == 1 else f"{contexts[0]} to {contexts[-1]}",
                "-" if window.agreement is None else f"{window.agreement:.1%}",
                *(["-" if window.accuracy is None else f"{window.accuracy:.1%}"] * scored),
                "-" if window.kl_bits is None else f"{window.kl_bits:.2f} bits",
                *("no limit" if ms is None else duration(ms) for ms in (window.latency_ms, window.receptive_field_ms)),
            ]
        )
    return "\n".join(text_table(rows, "<<>"))


def _sides(heads: Sequence[HeadSummary]) -> list[list[float]]:
    return [[getattr(head.all, side) for head in heads] for side in ("past", "itself", "future")]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _short(heads: Sequence[HeadSummary]) -> str:
    """Return the heads whose weight piles up at an end of the window."""
    parts = []
    for word, flags in (("back", [h.short_past for h in heads]), ("ahead", [h.short_future for h in heads])):
        numbers = [str(head.head) for head, flag in zip(heads, flags, strict=True) if flag]
        if numbers:
            parts.append(f"{word}: {'head' if len(numbers) == 1 else 'heads'} {', '.join(numbers)}")
    return "; ".join(parts)


def _far(head: HeadSummary) -> str:
    view = head.all
    side = f"{abs(view.offset_ms):.0f} ms {'back' if view.offset_ms < 0 else 'ahead'} on average"
    return f"{view.distance_ms:.0f} ms, {side}, over {view.effective_frames:.1f} frames"


def _distance(head: HeadSummary) -> str:
    return f"{head.position_share or 0:.0%}; most weight, {head.peak_weight:.2f}, at {head.peak_ms:g} ms"


def _content(head: HeadSummary) -> str:
    return f"{head.position_share or 0:.0%}; the sound adds {head.content_bits:.1f} bits"


def _spread(head: HeadSummary) -> float:
    distances = _by_class(head).values()
    return max(distances, default=0.0) - min(distances, default=0.0)


def _by_class(head: HeadSummary) -> dict[str, float]:
    """Return the mean distance of each class with enough frames, in ms."""
    views = {name: view for name, view in head.by_group.items() if view.queries >= MIN_QUERIES and name != UNLABELLED}
    return {name: view.distance_ms for name, view in views.items()}


def _classes(head: HeadSummary) -> str:
    views = _by_class(head)
    far, near = max(views, key=lambda name: views[name]), min(views, key=lambda name: views[name])
    return f"{far} {views[far]:.0f} ms, {near} {views[near]:.0f} ms"
