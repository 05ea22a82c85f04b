"""Masks, receptive field and latency of a stack of layers in one figure; `describe` prints the same as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby

import matplotlib
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from speechattn.context import Context
from speechattn.framing import HOP_MS
from speechattn.plots.context_band import draw_band, duration
from speechattn.plots.layer_latency import draw_latency
from speechattn.plots.receptive_field import draw_fan
from speechattn.plots.style import STYLE, heading, new_figure, say_empty
from speechattn.receptive_field import lookahead, max_receptive_field

MAX_BANDS = 3
MAX_LABELS = 14
"""Levels that have room for their names and numbers."""


@matplotlib.rc_context(STYLE)
def receptive_field(
    contexts: Sequence[Context],
    hop_ms: float = HOP_MS,
    names: Sequence[str] | None = None,
    title: str = "",
    frontend_ms: float = 0.0,
) -> Figure:
    """Draw the mask of each different layer, the receptive field of a chunk after each layer, and the latency.

    `contexts[0]` is the layer next to the input and `names` are what the layers are called, as in
    `speechattn.receptive_field.describe`; a frame is `hop_ms` long. `frontend_ms` is the wait of a frame itself,
    from its middle to its last sample, and counts in the latency.

    Examples:
        >>> figure = receptive_field([Context.chunked(16, left=64)] * 6)
        >>> figure.savefig("context.png")  # doctest: +SKIP
    """
    names = [str(n) for n in range(1, len(contexts) + 1)] if names is None else names
    figure = new_figure(13.0, min(8.5, 5.6 + 0.16 * max(0, len(contexts) - 6)))
    heading(figure, title or format_contexts(contexts), _note(contexts, hop_ms, frontend_ms))
    grid = figure.add_gridspec(1, 3, width_ratios=[1, 1.75, 0.8])
    _draw_bands(figure, grid[0], contexts, names)
    fan = figure.add_subplot(grid[1])
    latency = figure.add_subplot(grid[2], sharey=fan)
    apart = math.ceil((len(contexts) + 1) / MAX_LABELS)
    labelled = [0, *(depth for depth in range(len(contexts), 0, -apart) if depth > apart // 2)]
    draw_fan(fan, contexts, hop_ms, labelled)
    draw_latency(latency, contexts, hop_ms, frontend_ms, labelled)
    fan.set_yticks(labelled, ["input" if depth == 0 else layer_label(names[depth - 1]) for depth in labelled])
    fan.set_ylim(-0.6, len(contexts) + 0.6)
    return figure


def format_contexts(contexts: Sequence[Context]) -> str:
    """Format `contexts` as text, equal neighbours once.

    Examples:
        >>> format_contexts([Context.causal(4)] * 3 + [Context.full()])
        'left 4, right 0 through 3 layers, then full'
    """
    runs = [(str(context), len(list(run))) for context, run in groupby(contexts)]
    if len(runs) > 3:
        return f"{len(contexts)} layers of {len(set(contexts))} contexts"
    parts = [text + f" through {count} layers" * (count > 1) for text, count in runs]
    return ", then ".join(parts) or "every frame by itself"


def _note(contexts: Sequence[Context], hop_ms: float, frontend_ms: float) -> str:
    """Return the line under the title: receptive field, latency, length of a frame."""
    width, most = max_receptive_field(contexts), lookahead(contexts)
    seen = "an unlimited part of the input" if width is None else f"{duration(width * hop_ms)} of input"
    waited = "the end of the audio" if most is None else f"{duration(most * hop_ms + frontend_ms)} at most"
    if most == 0 and not frontend_ms:
        waited = "nothing that follows"
    return f"A frame is {hop_ms:g} ms. An output depends on {seen} and waits for {waited}."


def _draw_bands(figure: Figure, place: SubplotSpec, contexts: Sequence[Context], names: Sequence[str]) -> None:
    """Draw one mask for each different context, under the names of its layers, the input's at the bottom."""
    layers: dict[Context, list[str]] = {}
    for context, name in zip(contexts, names, strict=True):
        layers.setdefault(context, []).append(name)
    shown = list(layers.items())[:MAX_BANDS][::-1]  # upwards, as the layers are drawn beside them
    grid = place.subgridspec(max(1, len(shown)), 1)
    for number, (context, own) in enumerate(shown, start=1):
        axes = figure.add_subplot(grid[number - 1])
        name = "every layer" if len(own) == len(contexts) > 1 else format_layers(own)
        draw_band(axes, context, name, square=len(shown) == 1)
        if number < len(shown):
            axes.set_xlabel("")
        elif len(layers) > len(shown):
            axes.set_xlabel(f"key, frames; {len(layers) - len(shown)} more contexts are not drawn", fontsize=9)
    if not shown:
        axes = figure.add_subplot(grid[0])
        say_empty(axes, "no layer attends to other frames")
        axes.axis("off")


def format_layers(names: Sequence[str]) -> str:
    """Format the names of layers that share a mask, consecutive numbers as a range.

    Examples:
        >>> format_layers(["1 conv", "2 conv", "3 conv"]), format_layers(["2", "4"]), format_layers(["splice"])
        ('conv of layers 1 to 3', 'layers 2 and 4', 'splice')
    """
    if len(names) == 1 or not all(name[:1].isdecimal() for name in names):
        return layer_label(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")
    numbers, kinds = zip(*(name.partition(" ")[::2] for name in names), strict=True)
    kind = f"{kinds[0]} of layers" if kinds[0] and len(set(kinds)) == 1 else "layers"
    if [int(number) for number in numbers] == list(range(int(numbers[0]), int(numbers[0]) + len(numbers))):
        return f"{kind} {numbers[0]} to {numbers[-1]}"
    return f"{kind} {', '.join(numbers[:-1])} and {numbers[-1]}"


def layer_label(name: str) -> str:
    """Return the label of a layer: a number alone gets the word "layer"."""
    return f"layer {name}" if name[:1].isdecimal() else name
