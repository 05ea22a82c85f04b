"""P1: streaming equals offline for every split, whatever the context, block, positions, stack and batch.

Tolerance 1e-10 in float64: a stream sums the same numbers, in products of other shapes.
"""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_same

from speechattn.config import POSITION_ENCODINGS, EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder
from speechattn.encoder.self_attention import AttentionState

BLOCKS = ("transformer", "conformer", "cnn")
contexts = st.builds(Context, st.none() | st.integers(0, 12), st.integers(0, 6), st.integers(1, 7))


def stream(encoder: Any, x: Any, splits: Any) -> Any:
    """Every output of pushes of the given sizes and of the flush, and the state before it."""
    state, position, parts = encoder.initial_state(len(x)), 0, []
    for size in splits:
        part, state = encoder.step(x[:, position : position + size], state)
        position = min(x.shape[1], position + size)
        parts.append(part)
    part, state = encoder.step(x[:, position:], state)
    return [*parts, part, encoder.flush(state)], state


def tensors(state: Any) -> Any:
    """All tensors of a state, in order."""
    found, rest = [], [state.entry, state.blocks]
    while rest:
        part = rest.pop()
        found += [part] if isinstance(part, torch.Tensor) else []
        rest += list(part) if isinstance(part, tuple) else []
    return found


@settings(max_examples=60, deadline=None)
@given(
    layers=st.lists(contexts, min_size=1, max_size=3),
    block=st.sampled_from(BLOCKS),
    position_encoding=st.sampled_from(POSITION_ENCODINGS),
    activation=st.sampled_from(("softmax", "relu")),
    stack=st.sampled_from((1, 2, 4)),
    kernel=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    splice=st.builds(Context, st.integers(0, 2), st.integers(0, 2)),
    batch=st.integers(1, 3),
    num_frames=st.integers(0, 90),
    splits=st.lists(st.sampled_from((0, 1, 2, 7, 40, 1000)), max_size=12),
    seed=st.integers(0, 2**31),
)
def test_any_split_equals_offline(
    layers: Any,
    block: Any,
    position_encoding: Any,
    activation: Any,
    stack: Any,
    kernel: Any,
    splice: Any,
    batch: Any,
    num_frames: int,
    splits: Any,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    left, right = kernel
    config = EncoderConfig(
        3,
        d_model=8,
        num_heads=2,
        num_layers=len(layers),
        d_ff=12,
        context=tuple(layers),
        block=block,
        position_encoding=position_encoding,
        activation=activation,
        stack=stack,
        conv_kernel=left + 1 + right,
        conv_lookahead=right,
        splice=splice,
        max_frames=90,
    )
    encoder = Encoder(config).double().eval()
    x = torch.randn(batch, num_frames, 3, dtype=torch.float64)
    offline, _ = encoder(x)
    parts, _ = stream(encoder, x, splits)
    streamed = torch.cat(parts, 1)
    assert streamed.shape == offline.shape
    if offline.numel():
        assert (streamed - offline).abs().max() < 1e-10


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("stack", [1, 2])
def test_frames_come_out_as_soon_as_they_are_ready_and_the_state_is_bounded(block: Any, stack: Any) -> None:
    contexts = (Context.chunked(4, 9, 2), Context.truncated(5, 3))
    config = EncoderConfig(
        3,
        d_model=8,
        num_heads=2,
        num_layers=2,
        d_ff=12,
        context=contexts,
        block=block,
        stack=stack,
        conv_kernel=5,
        conv_lookahead=1,
        splice=Context(1, 1),
    )
    encoder = Encoder(config).eval()
    state, emitted, sizes = encoder.initial_state(), 0, []
    for seen in range(1, 200):
        part, state = encoder.step(torch.randn(1, 1, 3), state)
        emitted += part.shape[1]
        # What is out needs nothing that has not come in, and the next frame needs something that has not.
        assert emitted == 0 or encoder.receptive_field(emitted - 1)[1] <= seen  # type: ignore[operator]
        assert encoder.receptive_field(emitted)[1] > seen  # type: ignore[operator]
        sizes.append(state.num_bytes)
    assert max(sizes[:100]) == max(sizes[100:])


def test_step_is_pure() -> None:
    encoder = Encoder(
        EncoderConfig(
            3, d_model=8, num_heads=2, num_layers=2, d_ff=12, context=Context.chunked(4, 9, 2), block="conformer"
        )
    ).eval()
    x = torch.randn(2, 50, 3)
    _, state = encoder.step(x[:, :21], encoder.initial_state(2))
    before = copy.deepcopy(state)
    first, _ = encoder.step(x[:, 21:], state)
    again, _ = encoder.step(x[:, 21:], state)
    assert_same((first, encoder.flush(state)), (again, encoder.flush(before)))
    assert all(torch.equal(a, b) for a, b in zip(tensors(before), tensors(state), strict=True))


def test_a_right_context_longer_than_the_stream() -> None:
    encoder = (
        Encoder(EncoderConfig(3, d_model=8, num_heads=2, num_layers=2, d_ff=12, context=Context.truncated(4, 100)))
        .double()
        .eval()
    )
    x = torch.randn(1, 30, 3, dtype=torch.float64)
    part, state = encoder.step(x, encoder.initial_state())
    assert part.shape[1] == 0
    assert (encoder.flush(state) - encoder(x)[0]).abs().max() < 1e-10


def test_rotary_positions_lose_nothing_in_ten_hours() -> None:
    """The same history and the same frames, 10 s and 10 h into a stream: only distances count."""
    encoder = (
        Encoder(
            EncoderConfig(
                3,
                d_model=8,
                num_heads=2,
                num_layers=2,
                d_ff=12,
                context=Context.truncated(20, 5),
                position_encoding="rotary",
            )
        )
        .double()
        .eval()
    )
    x, history = torch.randn(1, 80, 3, dtype=torch.float64), torch.randn(1, 20, 8, dtype=torch.float64)
    outputs = []
    for now in (1_000, 3_600_000):
        state = encoder.initial_state()
        layers = []
        for block, old in zip(encoder.blocks, state.blocks, strict=True):
            _, keys, values = block.attention.project(history, now - 20)  # type: ignore[operator, union-attr]
            layers.append(old._replace(attention=AttentionState(old.attention.queries, keys, values, now, now)))
        part, state = encoder.step(x, replace(state, frames=now, blocks=tuple(layers)))
        outputs.append(torch.cat((part, encoder.flush(state)), 1))
    # 3.6 million radians in float64 are known to 5e-10.
    assert (outputs[0] - outputs[1]).abs().max() < 1e-8


def test_infer_is_the_streaming_triple() -> None:
    encoder = Encoder(
        EncoderConfig(3, d_model=8, num_heads=2, num_layers=2, d_ff=12, context=Context.chunked(4, 8))
    ).eval()
    x = torch.randn(2, 40, 3)
    outputs, states = [], None
    for start in range(0, 40, 8):
        part, lengths, states = encoder.infer(x[:, start : start + 8], torch.tensor([8, 8]), states)
        assert lengths.tolist() == [part.shape[1]] * 2
        outputs.append(part)
    assert (torch.cat(outputs, 1) - encoder(x)[0]).abs().max() < 1e-5
    with pytest.raises(ValueError, match=r"lock-step must be equal, got \[7, 8\]"):
        encoder.infer(x[:, :8], torch.tensor([8, 7]))


def test_what_cannot_stream_says_so() -> None:
    for context in (Context.full(), Context(5, None)):
        with pytest.raises(ValueError, match="unlimited right context cannot stream"):
            Encoder(EncoderConfig(3, d_model=8, num_heads=2, num_layers=1, context=context)).initial_state()
    encoder = Encoder(
        EncoderConfig(
            3,
            d_model=8,
            num_heads=2,
            num_layers=1,
            d_ff=12,
            context=Context(5, 1),
            position_encoding="learned",
            max_frames=20,
        )
    ).eval()
    _, state = encoder.step(torch.zeros(1, 20, 3), encoder.initial_state())
    with pytest.raises(ValueError, match="learned positions end at frame 20, and the audio has 21"):
        encoder.step(torch.zeros(1, 1, 3), state)


def test_a_foreign_state_is_refused() -> None:
    one, other = (
        Encoder(EncoderConfig(3, d_model=8, num_heads=2, num_layers=1, d_ff=12, context=Context(left, 1))).eval()
        for left in (5, 6)
    )
    x, state = torch.zeros(1, 4, 3), one.initial_state()
    with pytest.raises(ValueError, match="another config"):
        other.step(x, state)
    older = replace(state, encoder=state.encoder.replace("1-", "0-"))
    with pytest.raises(ValueError, match=f"another config or version .{older.encoder}, this is {state.encoder}"):
        one.step(x, older)
    with pytest.raises(ValueError, match="of 1 streams in lock-step, input has 2 rows"):
        one.step(x.expand(2, -1, -1), state)
    with pytest.raises(ValueError, match=r"torch.float32 on cpu, the encoder torch.float64"):
        one.double().step(x.double(), state)
    one.step(x.double(), state.to(torch.float64))
    with pytest.raises(TypeError, match="must come from initial_state"):
        one.step(x.double(), None)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="dropout is active") as caught:
        one.train().step(x.double(), one.initial_state())
    assert caught[0].filename == __file__
