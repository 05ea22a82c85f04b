"""Context against its definition, frame by frame, and stacks of layers against numbers worked out by hand."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder
from speechattn.receptive_field import (
    describe,
    latency_frames,
    lookahead,
    lookback,
    max_receptive_field,
    receptive_field,
)

sides = st.one_of(st.none(), st.integers(0, 9))
contexts = st.builds(Context, sides, sides, st.integers(1, 7))


@given(contexts, st.integers(0, 40), st.integers(1, 41))
def test_visible_is_the_definition(context: Any, i: Any, num_frames: int) -> None:
    if i >= num_frames:
        with pytest.raises(IndexError):
            context.visible(i, num_frames)
        return
    chunk_start = i - i % context.chunk
    seen = [
        j
        for j in range(num_frames)
        if (context.left is None or j >= chunk_start - context.left)
        and (context.right is None or j < chunk_start + context.chunk + context.right)
    ]
    assert context.visible(i, num_frames) == (seen[0], seen[-1] + 1)
    assert i in seen


@given(contexts, st.integers(0, 60))
def test_ready_counts_the_frames_whose_view_is_complete(context: Any, n: Any) -> None:
    stops = [context.visible(i)[1] for i in range(n)]
    complete = sum(stop is not None and stop <= n for stop in stops)
    assert context.ready(n) == complete


@given(st.builds(Context, st.integers(0, 9), st.integers(0, 9), st.integers(1, 7)), st.integers(1, 60))
def test_a_stream_never_needs_more_than_kept_frames(context: Any, n: Any) -> None:
    first_owed = context.ready(n)
    if first_owed < n:
        oldest_needed = context.visible(first_owed)[0]
        assert n - oldest_needed <= context.kept_frames
    oldest_future = context.visible(n)[0]
    assert n - oldest_future <= context.kept_frames


@given(st.lists(contexts, max_size=4), st.integers(0, 30), st.integers(1, 31))
def test_reach_is_the_set_of_frames_connected_through_the_layers(stack: Any, i: Any, num_frames: int) -> None:
    if i >= num_frames:
        return
    frames = {i}
    for context in reversed(stack):
        frames = {j for frame in frames for j in range(*context.visible(frame, num_frames))}
    assert receptive_field(stack, i, num_frames) == (min(frames), max(frames) + 1)


@given(st.lists(st.builds(Context, st.integers(0, 6), st.integers(0, 6), st.integers(1, 5)), max_size=4))
def test_lookahead_and_lookback_are_the_most_over_all_positions(stack: Any) -> None:
    # 60 is a multiple of every chunk up to 5, and 200 frames keep the ends of the audio out of sight.
    spans: list[Any] = [receptive_field(stack, i) for i in range(200, 260)]
    assert lookahead(stack) == max(stop - 1 - i for i, (_, stop) in enumerate(spans, start=200))
    assert lookback(stack) == max(i - start for i, (start, _) in enumerate(spans, start=200))
    assert max_receptive_field(stack) == max(stop - start for start, stop in spans)
    waited = [stop - 1 - i for i, (_, stop) in enumerate(spans, start=200)]
    assert latency_frames(stack) == (min(waited), pytest.approx(sum(waited) / 60), max(waited))  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (Context.truncated(64, 2), [2, 12, 24]),
        (Context.chunked(16, left=64), [15, 15, 15]),
        (Context.chunked(16, left=64, right=8), [23, 103, 199]),
    ],
)
def test_lookahead_through_1_6_and_12_layers(context: Any, expected: Any) -> None:
    assert [context.lookahead(layers) for layers in (1, 6, 12)] == expected


@given(contexts, st.integers(0, 50), st.integers(1, 20))
def test_the_schedule_covers_every_query_once_with_all_its_keys(context: Any, num_frames: int, block: Any) -> None:
    queries: list[int] = []
    for begin, end, key_begin, key_end in context.schedule(num_frames, block):
        queries += range(begin, end)
        views = [context.visible(i, num_frames) for i in range(begin, end)]
        assert (key_begin, key_end) == (min(v[0] for v in views), max(v[1] for v in views))
    assert queries == list(range(num_frames))


@given(st.builds(Context, st.integers(0, 9), st.integers(0, 9), st.integers(1, 7)))
def test_offsets_are_exactly_the_distances_that_occur(context: Any) -> None:
    distances = {j - i for i in range(60, 60 + context.chunk) for j in range(*context.visible(i))}
    start = 60 // context.chunk * context.chunk
    distances |= {j - i for i in range(start, start + context.chunk) for j in range(*context.visible(i))}
    assert (min(distances), max(distances)) == (context.offsets().start, context.offsets().stop - 1)


def test_unlimited_sides() -> None:
    full = Context.full()
    assert full.visible(5) == (0, None)
    assert full.visible(5, 9) == (0, 9)
    assert full.ready(100) == 0
    assert full.kept_frames is None and full.lookahead() is None and full.lookback(3) is None
    assert Context.causal().kept_frames is None
    assert Context.causal().ready(7) == 7
    assert Context.causal().lookahead(12) == 0
    assert Context(3, None).receptive_field(4, 2) == (0, None)


def test_constructors_say_what_they_are_called() -> None:
    assert Context.full() == Context(None, None, 1)
    assert Context.causal(5) == Context(5, 0)
    assert Context.truncated(4, 2) == Context(left=4, right=2)
    assert Context.chunked(16, left=64) == Context(64, 0, 16)
    assert Context.chunked(16, 64, 8) == Context(64, 8, 16)


@pytest.mark.parametrize("bad", [{"left": -1}, {"right": -3}, {"chunk": 0}])
def test_impossible_numbers_are_refused_by_name(bad: Any) -> None:
    (name,) = bad
    with pytest.raises(ValueError, match=f"Context.{name}"):
        Context(**bad)


@pytest.mark.parametrize("bad", [{"left": 1.5}, {"right": "3"}, {"chunk": None}, {"chunk": True}])
def test_wrong_types_are_refused_by_name(bad: Any) -> None:
    (name,) = bad
    with pytest.raises(TypeError, match=f"Context.{name}"):
        Context(**bad)


def test_describe_shows_the_trap_of_chunk_with_right_context() -> None:
    text = Context.chunked(16, left=64, right=8).describe(num_layers=12, hop_ms=10.0)
    assert "199 frames (1990 ms)" in text.splitlines()[-2]
    assert "add up" in text
    assert "quadratic" in Context.full().describe()
    assert "grows" in Context.causal().describe()
    assert "(12000000 ms)" in Context.causal(100_000).describe(num_layers=12)
    assert describe([], 10.0).splitlines()[-1].startswith("total")


def test_describe_says_what_is_quadratic_and_what_cannot_stream() -> None:
    for stack in ([Context.full()], [Context(3, 1), Context.full()], [Context(None, None, 4)] * 2):
        text = describe(stack)
        assert "quadratic in the number of frames, and cannot stream" in text and "unlimited" in text
    assert "cannot stream: give it a right, or a chunk" in Context(5, None).describe()
    assert len(Context.truncated(5, 2).describe(3).splitlines()) == 5, "nothing to warn of"


def test_describe_tells_how_long_the_frames_of_a_chunk_wait() -> None:
    lines = Context.chunked(16, left=64, right=8).describe(num_layers=2, hop_ms=10.0).splitlines()
    assert "23 frames (230 ms)  80 / 155 / 230 ms " in lines[1]
    assert "39 frames (390 ms)  240 / 315 / 390 ms" in lines[2] and "240 / 315 / 390 ms" in lines[3]
    assert " 0 / 16.7 / 33.3 ms " in Context.chunked(3, left=5).describe(hop_ms=50 / 3)
    assert latency_frames([]) == (0, 0, 0) and latency_frames([Context.full()]) is None


PROBED: dict[str, Any] = {
    "a window": {"context": Context.truncated(3, 2)},
    "chunks": {"context": Context.chunked(5, 3)},
    "chunks and right": {"context": Context.chunked(4, 3, 2)},
    "a context a layer": {"context": (Context.chunked(4, 3, 1), Context.truncated(2, 2), Context.chunked(6, 1))},
    "all that mixes": {
        "context": (Context.chunked(2, 1, 1), Context.chunked(3, 1), Context.truncated(1, 1)),
        "block": "conformer",
        "conv_kernel": 4,
        "conv_lookahead": 1,
        "stack": 2,
        "splice": Context.truncated(1, 2),
    },
}


@pytest.mark.parametrize("name", PROBED)
def test_what_describe_says_is_what_a_gradient_finds(name: Any) -> None:
    """The last input frame that moves output frame i, minus i: for all i of a period, through 1, 2 and 3 layers."""
    wanted: dict[str, Any] = {"num_layers": 3, **PROBED[name]}
    config = EncoderConfig(2, d_model=4, num_heads=1, d_ff=4, **wanted)
    table = Encoder(config).describe(hop_ms=12.5).splitlines()[1:]
    for depth in (1, 2, 3):
        fewer: dict[str, Any] = {**wanted, "num_layers": depth, "context": config.layer_contexts[:depth]}
        encoder = Encoder(EncoderConfig(2, d_model=4, num_heads=1, d_ff=4, **fewer)).double().eval()
        contexts = encoder.config.contexts
        found = probed_waits(encoder, math.lcm(*(context.chunk for context in contexts)))
        assert latency_frames(contexts) == found
        found_text = "  " + " / ".join(f"{round(frames * 12.5, 1):.10g}" for frames in found) + " ms  "
        assert found_text in table[len(contexts) - 1]
    stack = table[len(contexts)]
    assert found_text in stack and stack.startswith("total")


def probed_waits(encoder: Any, period: Any) -> Any:
    """Least, mean and most frames from an output to the last input that has a gradient in it."""
    first = period * -(-40 // period)  # the beginning is out of sight, and so is the end
    input = torch.randn(1, first + 2 * period + 40, 2, dtype=torch.float64, requires_grad=True)
    output, _ = encoder(input)
    waited = []
    for i in range(first, first + period):
        # One feature: the sum of all is that of a LayerNorm, which never changes.
        (grad,) = torch.autograd.grad(output[0, i // encoder.config.stack, 0], input, retain_graph=True)
        waited.append(int(grad[0].abs().sum(1).nonzero()[-1]) - i)
    return min(waited), sum(waited) / period, max(waited)


def test_a_printed_encoder_tells_its_latency() -> None:
    text = repr(Encoder(EncoderConfig(4, d_model=8, num_heads=2, num_layers=2, context=Context.chunked(16, 64, 8))))
    assert "latency 240 / 315 / 390 ms (min / mean / max, frames of 10 ms)" in text
    assert "through 1: 80 / 155 / 230 ms, 2: 240 / 315 / 390 ms" in text
    assert "latency" not in repr(
        Encoder(EncoderConfig(4, d_model=8, num_heads=2, num_layers=1, context=Context.full()))
    )


@pytest.mark.parametrize("num_frames", [0, 1, 5, 12])
def test_a_context_within_the_audio_shows_the_same(num_frames: int) -> None:
    for context in (Context(3, 100), Context.causal(), Context.full(), Context.chunked(50, 7, 2), Context(2, 1, 4)):
        within = context.within(num_frames)
        assert within.limited and within.window <= 3 * max(1, num_frames)  # type: ignore[operator]
        for i in range(num_frames):
            assert within.visible(i, num_frames) == context.visible(i, num_frames)


def test_a_stacked_context_is_the_same_view_in_finer_frames() -> None:
    for context in (Context(3, 1), Context.chunked(4, 2, 1), Context(None, 2)):
        for i in range(30):
            start, stop = context.visible(i // 2)
            assert context.stacked(2).visible(i) == (start * 2, stop * 2)  # type: ignore[operator]


def test_offsets_of_some_frames_end_where_they_do() -> None:
    assert Context.causal().offsets(300) == range(-299, 1) and Context.causal().offsets() == range(-128, 1)
    assert Context(3, 2).offsets(300) == Context(3, 2).offsets() == range(-3, 3)


@given(
    left=st.none() | st.integers(0, 30),
    right=st.none() | st.integers(0, 30),
    chunk=st.integers(1, 12),
    num_frames=st.integers(0, 60),
)
def test_pairs_are_what_frames_see(left: Any, right: Any, chunk: Any, num_frames: int) -> None:
    context = Context(left, right, chunk)
    seen: list[Any] = [context.visible(i, num_frames) for i in range(num_frames)]
    assert context.num_pairs(num_frames) == sum(stop - start for start, stop in seen)


@given(
    chunks=st.permutations([1, 2, 3, 5, 7, 11]) | st.permutations([4, 6, 9, 10, 1, 15]),
    sides=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=3),
)
def test_a_long_period_is_bounded_and_exact_where_chunks_have_no_divisor(chunks: Any, sides: Any) -> None:
    contexts = [Context(left, right, chunk) for (left, right), chunk in zip(sides, chunks, strict=False)]
    exact: list[Any] = [
        lookahead(contexts),
        lookback(contexts),
        latency_frames(contexts),
        max_receptive_field(contexts),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speechattn.receptive_field.MAX_CHUNKS", -1)
        bounds: list[Any] = [
            lookahead(contexts),
            lookback(contexts),
            latency_frames(contexts),
            max_receptive_field(contexts),
        ]
    if all(math.gcd(*pair) == 1 for pair in itertools.combinations((each.chunk for each in contexts), 2)):
        assert bounds[:2] == exact[:2] and bounds[2] == pytest.approx(exact[2])
    assert bounds[0] >= exact[0] and bounds[1] >= exact[1] and bounds[3] >= exact[3] and bounds[2][0] <= exact[2][0]


def test_chunks_without_a_divisor_are_told_at_once() -> None:
    contexts = [Context.chunked(chunk, 10, 1) for chunk in (97, 101, 103, 107, 109, 113)]
    assert lookahead(contexts) == 630 and "6300 ms" in describe(contexts)


@given(
    st.builds(Context, st.integers(0, 9), st.integers(0, 9), st.integers(1, 4)), st.integers(1, 3), st.integers(0, 5)
)
def test_a_block_of_whole_chunks_sees_its_window_from_the_first_unclipped_block_on(
    context: Context, chunks: int, begun: int
) -> None:
    block, first = chunks * context.chunk, begun * context.chunk
    start = context.first_unclipped(block, first)
    assert start >= first and (start - first) % block == 0
    begin, stop = context.span(start)[0], context.span(start + block - 1)[1]
    assert begin is not None and stop is not None
    assert begin >= 0 and stop - begin == context.block_window(block)
    if start > first:
        clipped = context.span(start - block)[0]
        assert clipped is not None and clipped < 0
    assert Context.causal().block_window(block) is None
