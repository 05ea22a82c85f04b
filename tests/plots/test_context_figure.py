"""The figure of a stack: every cell, bar and number in it is that of `Context`."""

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.plots.context_band import draw_band, shown_frames
from speechattn.plots.context_figure import receptive_field
from speechattn.plots.receptive_field import levels
from speechattn.receptive_field import describe, latency_frames, lookahead, lookback, max_receptive_field

side = st.one_of(st.integers(0, 9), st.none())
stacks = st.lists(st.builds(Context, side, side, st.integers(1, 5)), min_size=0, max_size=4)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text)]


def visible(context: Context, i: int, num_frames: int) -> range:
    start, stop = context.visible(i, num_frames)
    assert stop is not None
    return range(start, stop)


def seen_through(contexts: list[Context], frames: set[int], num_frames: int) -> set[int]:
    """The receptive field of `frames`, one frame and one layer at a time."""
    for context in reversed(contexts):
        frames = {seen for i in frames for seen in visible(context, i, num_frames)}
    return frames


@given(stacks)
@settings(max_examples=30, deadline=None)
def test_levels_are_the_input_that_one_chunk_depends_on_after_each_layer(contexts: list[Context]) -> None:
    found, own = levels(contexts)
    assert len(found) == len(contexts) + 1 and found[0] == (own.start, own.stop)
    assert len(own) == (contexts[-1].chunk if contexts else 1) and own.start % len(own) == 0
    num_frames = own.stop + 80
    for depth, (start, stop) in enumerate(found):
        through = contexts[:depth]
        assert (start is None) == (lookback(through) is None) and (stop is None) == (lookahead(through) is None)
        field = seen_through(through, set(own), num_frames)
        assert start is None or start == min(field)
        assert stop is None or stop == max(field) + 1
    start, stop = found[-1]
    if start is not None and stop is not None:
        assert stop - start == max_receptive_field(contexts)


BANDS = [
    Context.truncated(3, 2),
    Context.truncated(0, 0),
    Context.chunked(4, left=3, right=2),
    Context.causal(5),
    Context.causal(),
    Context(2, None),
    Context.full(),
]


@pytest.mark.parametrize("context", BANDS, ids=str)
def test_a_cell_is_coloured_where_its_query_sees_its_key(context: Context) -> None:
    figure = Figure(figsize=(3.5, 3.5), dpi=100)
    axes = figure.subplots()
    draw_band(axes, context, "layer 1")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    num_frames = shown_frames(context)
    middles = np.arange(num_frames) + 0.5
    x = axes.transData.transform(np.stack([middles, middles], 1))[:, 0].astype(int)
    y = len(pixels) - 1 - axes.transData.transform(np.stack([middles, middles], 1))[:, 1].astype(int)
    coloured = (pixels[y[:, None], x[None], :3] < 240).any(2)
    views = [visible(context, query, num_frames) for query in range(num_frames)]
    assert coloured.tolist() == [[key in view for key in range(num_frames)] for view in views]


@pytest.mark.parametrize(
    ("context", "num_frames"),
    [
        (Context.truncated(2, 1), 12),
        (Context.truncated(64, 64), 258),
        (Context.truncated(2000, 2000), 8002),
        (Context.chunked(16, left=64, right=8), 176),
        (Context.chunked(16, left=2000), 48 * 16),  # more, and no chunk would be visible
        (Context.full(), 12),
        (Context.chunked(16, left=None), 80),
    ],
)
def test_enough_frames_are_shown_to_see_the_shape(context: Context, num_frames: int) -> None:
    assert shown_frames(context) == num_frames


def test_the_numbers_are_those_of_describe() -> None:
    contexts = [Context.chunked(16, left=64, right=8)] * 6
    figure = receptive_field(contexts)
    shown = words(figure)
    assert "left 64, right 8, chunk 16 through 6 layers" in shown
    assert "A frame is 10 ms. An output depends on 4880 ms of input and waits for 1030 ms at most." in shown
    for depth in range(1, 7):
        frames = latency_frames(contexts[:depth])
        assert frames is not None and " / ".join(f"{10 * count:,.10g}" for count in frames) in shown
    assert {"384 = 3840 ms", "88 = 880 ms", "64 before,", "its chunk of 16,", "8 after"} <= set(shown)
    assert {"input", *(f"layer {n}" for n in range(1, 7))} <= set(shown)


def test_rows_count_layers_from_the_input_like_the_table() -> None:
    contexts = [Context.truncated(26, 4)] * 3
    figure = receptive_field(contexts)
    fan = figure.axes[1]
    heights = dict(zip([label.get_text() for label in fan.get_yticklabels()], fan.get_yticks(), strict=True))
    placed = {text.get_text(): text.xy[1] for text in fan.texts if isinstance(text, matplotlib.text.Annotation)}
    table = describe(contexts).splitlines()
    for depth in (1, 2, 3):
        back = f"{26 * depth} = {260 * depth} ms"
        assert placed[back] == heights[f"layer {depth}"] == depth
        assert f"{26 * depth} frames ({260 * depth} ms)" in table[depth]


def test_several_masks_take_the_whole_width_and_the_input_is_at_the_bottom() -> None:
    figure = receptive_field([Context.truncated(3, 1), Context.truncated(8, 0), Context.truncated(1, 9)])
    figure.draw_without_rendering()
    bands = [axes for axes in figure.axes if axes.get_title(loc="left").startswith("Layer ")]
    heights = [axes.get_position().y0 for axes in sorted(bands, key=lambda axes: axes.get_title(loc="left"))]
    assert len(bands) == 3 and heights == sorted(heights)
    for axes in bands:
        box = axes.get_position()
        assert box.width * figure.get_figwidth() > 1.5 * box.height * figure.get_figheight()


def test_a_side_without_a_limit_is_written_in_words() -> None:
    full = words(receptive_field([Context.full()] * 2))
    assert full.count("unlimited") == full.count("until the end of the audio") == 2
    assert full.count("all after") == 3 and full.count("all before") == 2  # of the mask, and after two layers
    assert any("waits for the end of the audio" in text for text in full)
    causal = words(receptive_field([Context.causal()] * 2))
    assert "unlimited" not in causal and "all after" not in causal and causal.count("all before") == 2
    assert any("waits for nothing that follows" in text for text in causal)


def test_the_parts_of_a_conformer_and_the_stacking_are_named() -> None:
    config = EncoderConfig(
        80, num_layers=3, block="conformer", conv_lookahead=0, stack=2, context=Context.truncated(8, 2)
    )
    shown = words(receptive_field(config.contexts, names=config.context_names))
    assert {"Stacking", "Attention of layers 1 to 3", "Conv of layers 1 to 3", "layer 3 conv", "stacking"} <= set(shown)
    assert {"16 before,", "4 after", "28 before,", "0 after"} <= set(shown)


def test_a_frontend_counts_in_the_latency() -> None:
    shown = words(receptive_field([Context.truncated(2, 1)], frontend_ms=12.5))
    assert {" frontend 12.5 ms", "12.5", "22.5"} <= set(shown)


@pytest.mark.parametrize(
    "contexts",
    [
        [],
        [Context.truncated(0, 0)],
        [Context.full()],
        [Context(3, None)] * 2,
        [Context.truncated(2000, 2000)] * 6,
        [Context.chunked(6, 5, 3), Context.chunked(4, 7, 1), Context.truncated(3, 2), Context.chunked(10, 4)],
        [Context.truncated(10**6, 10**6)] * 30,
    ],
    ids=["none", "itself", "full", "anticausal", "wide", "mixed", "absurd"],
)
def test_any_stack_is_drawn_without_a_warning(contexts: list[Context]) -> None:
    FigureCanvasAgg(receptive_field(contexts, hop_ms=12.5)).draw()  # type: ignore[no-untyped-call]
