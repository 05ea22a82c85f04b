"""The page of `speechattn attention --out DIR`: every picture of the heads of a model over one recording."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from speechattn.analysis.head_summary import HeadSummary
from speechattn.analysis.heads import HeadAnalysis
from speechattn.analysis.layers import layer_attention
from speechattn.cli.attention_result import STRIP_S, Result
from speechattn.cli.attention_table import group_table, head_table, layer_table, rankings, window_table
from speechattn.models.speech_model import SpeechModel
from speechattn.plots.attention_weights import attention_heads
from speechattn.plots.head_distances import LayerDistances, head_distances
from speechattn.plots.head_profiles import LayerProfiles, head_profiles
from speechattn.plots.html_page import Report
from speechattn.plots.window_comparison import Window, window_comparison

STRIP_WIDTH = 8.6
"""Inches of a picture of attention over time: at 500 pixels its letters are still readable."""
READING = (
    "A head gives every frame, the query, a weight for each frame of its window, the keys; the weights sum to 1. "
    '"Key minus query" is the time of the key minus that of the query: 0 ms is the frame itself, negative is back, '
    'positive is ahead. "0.43 at 0 ms" is a head whose mean weight is largest on the frame itself, where it is 0.43. '
    '"Set by distance" is the share of a head\'s choice that the distance alone explains: 100 % is a tap of a '
    "convolution, 0 % a head that chooses by what it hears. A window may be too short for a head if the farthest tenth "
    "of one side gets over a tenth of its weight."
)


def write_gallery(directory: Path, model: SpeechModel, result: Result) -> Path:
    """Write report.html and pictures/ into `directory`; return the path of the page."""
    analysis, recording = result.analysis, result.recording
    said = result.spoken.title() or recording.path.name
    report = Report(f"Where the heads of {result.model_name} look")
    report.numbers(_numbers(analysis, recording.seconds))
    report.text(f"{said}, {recording.seconds:.1f} s. {READING}")
    for note in result.notes:
        report.text(f"Note: {note}.")
    report.heading("Heads")
    report.figure("heads", _profiles(analysis, said), _profiles_caption(analysis))
    report.code(layer_table(analysis)).code(head_table(analysis))
    report.heading("Attention over time")
    for number, picture, caption in _strips(model, result, said):
        report.figure(f"layer-{number}", picture, caption)
    if len(analysis.groups) > 1:
        report.heading("By class")
        report.figure("distances", _distances(analysis, said), _distances_caption(analysis))
        report.code(group_table(analysis))
    if analysis.windows:
        report.heading("Smaller windows")
        report.figure("windows", _windows(analysis, said), _windows_caption(analysis))
        report.code(window_table(analysis))
    report.heading("Notes").text(
        f"Model: {result.model_name}. Recording: {recording.path.name}, from {recording.start_s:g} s on, "
        f"{recording.seconds:.2f} s, {analysis.frames:,} frames of {analysis.frame_ms:g} ms. Classes of the frames: "
        f"{_labels(analysis)}."
    )
    return report.write(directory)


def _numbers(analysis: HeadAnalysis, seconds: float) -> list[tuple[str, str, str]]:
    """Return the headline numbers: heads, mean distance, farthest head, positions, smaller windows."""
    heads = analysis.heads
    farthest = max(heads, key=lambda head: head.all.distance_ms)
    shares = [head.position_share for head in heads if head.position_share is not None]
    numbers = [
        (f"{sum(head.all.distance_ms for head in heads) / len(heads):.0f} ms", "mean distance", f"{len(heads)} heads"),
        (f"{farthest.all.distance_ms:.0f} ms", "farthest head", f"layer {farthest.layer}, head {farthest.head}"),
    ]
    if shares:
        mean = sum(shares) / len(shares)
        numbers.append((f"{mean:.0%}", "set by distance", "mean of the heads; the rest is set by the sound"))
    smaller = [window for window in analysis.windows[1:] if window.agreement is not None]
    if smaller:
        numbers.append((f"{smaller[0].agreement:.0%}", f"same labels with {smaller[0].name}", smaller[0].contexts[0]))
    numbers.append((f"{seconds:.1f} s", "of sound", f"{analysis.frames:,} frames"))
    return numbers


def _profiles(analysis: HeadAnalysis, said: str) -> Figure:
    layers = []
    for number, context in enumerate(analysis.contexts, start=1):
        heads = analysis.of_layer(number)
        layers.append(
            LayerProfiles(
                f"layer {number}: {context}",
                heads[0].offsets_ms,
                [head.profile for head in heads],
                [head.position_share for head in heads],
                [_short(head) for head in heads],
            )
        )
    return head_profiles(layers, said, "Where each head looks: left of 0 is back, right is ahead.")


def _short(head: HeadSummary) -> str:
    """Return in which directions the window may be too short."""
    if not (head.short_past or head.short_future):
        return ""
    return ("\u2190 " if head.short_past else "") + "short" + (" \u2192" if head.short_future else "")


def _profiles_caption(analysis: HeadAnalysis) -> str:
    """Return a caption of what is seen: how many heads are set by distance, and for how many the window is short."""
    heads = analysis.heads
    fixed = sum((head.position_share or 0) >= 0.5 for head in heads)
    short = sum(bool(_short(head)) for head in heads)
    window = f" Short: for {short} heads the window may end too early on that side." if short else ""
    return f"{fixed} of {len(heads)} heads are mostly set by distance: a narrow bright band.{window}"


def _strips(model: SpeechModel, result: Result, said: str) -> list[tuple[int, Figure, str]]:
    """Return number, picture and caption of each layer over the beginning of the recording."""
    config, mel = model.config, model.frontend.to_log_mel(result.beginning)
    found = []
    layers = layer_attention(model, result.beginning)
    for number, layer in enumerate(layers, start=1):
        heads = result.analysis.of_layer(number)
        notes = [f"looks {h.all.distance_ms:.0f} ms{_set_by(h)}" for h in heads]
        picture = attention_heads(
            layer.weights,
            layer.context,
            mel,
            config.framing,
            result.segments,
            f"Layer {number} of {len(layers)}: {said}",
            layer.outside,
            config.flavor,
            STRIP_WIDTH,
            notes,
        )
        sharpest = max(heads, key=lambda head: head.position_share or 0.0)
        widest = min(heads, key=lambda head: 1.0 if head.position_share is None else head.position_share)
        caption = f"Layer {number}. Head {sharpest.head} is the one most set by distance, head {widest.head} the least."
        if number == 1:
            caption += (
                f" The first {min(STRIP_S, result.recording.seconds):.1f} s. A level line is a fixed distance; a line "
                "that falls keeps looking at one moment while time passes."
            )
        found.append((number, picture, caption))
    return found


def _set_by(head: HeadSummary) -> str:
    return "" if head.position_share is None else f", {head.position_share:.0%} set by distance"


def _distances(analysis: HeadAnalysis, said: str) -> Figure:
    layers = []
    for number in range(1, analysis.num_layers + 1):
        heads = analysis.of_layer(number)
        views = {group: [head.by_group[group] for head in heads if group in head.by_group] for group in analysis.groups}
        layers.append(
            LayerDistances(
                f"layer {number}",
                {group: [view.distance_ms for view in own] for group, own in views.items()},
                {group: [view.effective_frames for view in own] for group, own in views.items()},
            )
        )
    return head_distances(layers, said, f"By class of the frame that looks: {_labels(analysis)}; mean of the heads.")


def _distances_caption(analysis: HeadAnalysis) -> str:
    last = next((entry for entry in rankings(analysis) if entry[0] == "differs by class"), None)
    if last is None:
        return "Too few frames of each class for a ranking."
    head = last[1][0]
    return f"The head whose distance differs most: layer {head.layer}, head {head.head}: {last[2](head)}."


def _labels(analysis: HeadAnalysis) -> str:
    return {"reference": "the reference", "model": "the model's own labels", "none": "not known"}[analysis.labels]


def _windows(analysis: HeadAnalysis, said: str) -> Figure:
    windows = [
        Window(w.name, w.agreement, w.accuracy, w.kl_bits, w.latency_ms, w.receptive_field_ms) for w in analysis.windows
    ]
    return window_comparison(windows, said, "The same weights with smaller windows, without training.")


def _windows_caption(analysis: HeadAnalysis) -> str:
    """Return a caption with the numbers of the first smaller window."""
    trained, *smaller = analysis.windows
    if not smaller or smaller[0].agreement is None:
        return "The trained window."
    first = smaller[0]
    accuracy = (
        f" Accuracy falls from {trained.accuracy:.1%} to {first.accuracy:.1%}."
        if trained.accuracy is not None and first.accuracy is not None
        else ""
    )
    return (
        f"With {first.name} ({first.contexts[0]}), {first.agreement:.1%} of the frames keep their label.{accuracy} A "
        "model that is trained with a smaller window does better than this."
    )
