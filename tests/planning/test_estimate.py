"""The planner against what it plans: weights, states and pairs exactly, memory by tensors that are really alive."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechattn.attention.native.attention import native_unavailable
from speechattn.config import BLOCKS, EncoderConfig
from speechattn.context import Context
from speechattn.encoder.baselines import build_encoder
from speechattn.encoder.encoder import Encoder
from speechattn.errors import ConfigError
from speechattn.planning import memory
from speechattn.planning.estimate import estimate, max_frames
from speechattn.planning.flops import num_parameters, work
from speechattn.planning.format import format_estimate
from speechattn.planning.machine_speed import Machine, Rates, load_machine
from speechattn.planning.shapes import Shapes
from speechattn.planning.suggestions import suggest
from speechattn.profiling.tensor_memory import PeakTensors

SMALL = EncoderConfig(input_dim=24, d_model=32, num_heads=2, num_layers=3, context=Context.truncated(9, 4))
MACHINE = Machine("test", 1, Rates(1e-12, 2e-12, 1e-9, 1e-10, 0.0), Rates(3e-12, 6e-12, 0.0, 3e-10, 1e-12), 1e-4)


@pytest.mark.parametrize("position_encoding", ["none", "learned", "relative", "rotary"])
@pytest.mark.parametrize("block", BLOCKS)
def test_weights_are_counted_exactly(block: str, position_encoding: str) -> None:
    contexts = (Context.truncated(5, 3), Context.chunked(4, 8), Context.causal(2))
    config = replace(
        SMALL, block=block, position_encoding=position_encoding, context=contexts, stack=2, splice=Context(1, 2)
    )
    assert num_parameters(config) == build_encoder(config).num_parameters


contexts = st.builds(Context, st.integers(0, 12), st.integers(0, 12), st.integers(1, 6))


@settings(max_examples=25, deadline=None)
@given(
    layers=st.lists(contexts, min_size=1, max_size=3),
    block=st.sampled_from(["transformer", "conformer", "cnn"]),
    ahead=st.integers(0, 4),
    stack=st.sampled_from([1, 2, 4]),
    rows=st.integers(1, 3),
    pushes=st.lists(st.integers(0, 40), min_size=1, max_size=8),
)
def test_no_state_is_larger_than_planned(
    layers: Any, block: Any, ahead: Any, stack: Any, rows: Any, pushes: Any
) -> None:
    config = replace(SMALL, block=block, num_layers=len(layers), context=tuple(layers), conv_kernel=5)
    config = replace(config, conv_lookahead=ahead, stack=stack, splice=Context(1, 1))
    bound = memory.state_bytes(Shapes(config, 0, rows))
    encoder = Encoder(config).eval()
    state = encoder.initial_state(rows)
    for push in pushes:
        _, state = encoder.step(torch.zeros(rows, push, config.input_dim), state)
        assert state.num_bytes <= bound


def test_a_state_is_as_large_as_planned() -> None:
    for config in (SMALL, replace(SMALL, block="conformer", conv_lookahead=3), replace(SMALL, block="cnn")):
        state = Encoder(config).eval().initial_state(2)
        _, state = Encoder(config).eval().step(torch.zeros(2, 300, 24), state)
        assert state.num_bytes == memory.state_bytes(Shapes(config, 300, 2))


CONFIGS = {
    "transformer": (SMALL, 5000, 1),
    "two rows": (SMALL, 3000, 2),
    "short": (SMALL, 700, 1),
    "no positions": (replace(SMALL, position_encoding="none"), 5000, 1),
    "rotary": (replace(SMALL, position_encoding="rotary"), 5000, 1),
    "conformer": (replace(SMALL, block="conformer"), 5000, 1),
    "chunked, wide": (replace(SMALL, d_ff=512, context=Context.chunked(16, 32, 8)), 5000, 1),
    "stacked": (replace(SMALL, stack=2), 9000, 1),
    "dropout": (replace(SMALL, dropout=0.2), 5000, 1),
}


def work_on(config: EncoderConfig, frames: int, rows: int, training: bool, dtype: torch.dtype) -> int:
    """Most bytes that tensors take in a call, beside weights, their gradients and the input."""
    encoder = Encoder(config).to(dtype).train(training)
    x = torch.randn(rows, frames, config.input_dim, dtype=dtype)
    lengths = torch.full((rows,), frames) if rows > 1 else None
    for parameter in encoder.parameters():
        parameter.grad = torch.zeros_like(parameter)
    grads = [parameter.grad for parameter in encoder.parameters() if parameter.grad is not None]
    known = [x, *encoder.parameters(), *grads]
    with PeakTensors(known) as counted, torch.set_grad_enabled(training):
        hidden, _ = encoder(x, lengths)
        if training:
            hidden.backward(torch.ones_like(hidden))
    peak: int = counted.peak_bytes
    return peak


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", CONFIGS)
def test_peak_memory_is_that_of_the_tensors(name: str, training: bool) -> None:
    config, frames, rows = CONFIGS[name]
    native = native_unavailable() is None
    planned = estimate(config, frames, rows, training, native=native).peak_bytes
    assert planned == pytest.approx(work_on(config, frames, rows, training, torch.float32), rel=0.1)


def test_lengths_of_one_row_count() -> None:
    native = native_unavailable() is None
    encoder, x = Encoder(SMALL).eval(), torch.randn(1, 5000, 24)
    with PeakTensors([x, *encoder.parameters()]) as counted, torch.no_grad():
        encoder(x, torch.tensor([4000]))
    planned = estimate(SMALL, 5000, native=native, lengths=True).peak_bytes
    assert planned > estimate(SMALL, 5000, native=native).peak_bytes
    assert planned == pytest.approx(counted.peak_bytes, rel=0.1)
    latency_ms = estimate(SMALL, 5000).latency_ms
    assert latency_ms is not None and estimate(SMALL, 5000, hop_ms=20.0).latency_ms == 2 * latency_ms


DENSE = replace(SMALL, num_layers=2, backend="dense")
FULL = replace(SMALL, context=Context.full())
WINDOWS = replace(SMALL, num_layers=2, backend="windows")
EDGES = {
    "dense": (DENSE, 400, 1, torch.float32),
    "dense of two rows": (DENSE, 300, 2, torch.float32),
    "dense without bias": (replace(DENSE, position_encoding="none"), 400, 1, torch.float32),
    "dense relu": (replace(DENSE, activation="relu"), 400, 1, torch.float32),
    "dense in half precision": (DENSE, 400, 1, torch.bfloat16),
    "auto: full context in double precision": (FULL, 300, 2, torch.float64),
    "auto: full context, heads of 20 features": (replace(FULL, d_model=40), 300, 2, torch.float32),
    "windows": (WINDOWS, 3000, 1, torch.float32),
    "windows without bias": (replace(WINDOWS, position_encoding="none"), 3000, 1, torch.float32),
    "windows in half precision": (WINDOWS, 3000, 1, torch.bfloat16),
    "windows of short rows": (WINDOWS, 51, 16, torch.float32),
    "long windows": (replace(WINDOWS, context=Context(300, 100, 64)), 1200, 2, torch.float32),
    "splice, and a remainder of the stack": (replace(SMALL, splice=Context(2, 2), stack=4), 4001, 4, torch.float32),
    "a remainder of the stack": (replace(SMALL, stack=4), 4003, 2, torch.float32),
}


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", EDGES)
def test_no_call_takes_more_than_planned(name: str, training: bool) -> None:
    config, frames, rows, dtype = EDGES[name]
    dtype_name, native = str(dtype).removeprefix("torch."), native_unavailable() is None
    planned = estimate(config, frames, rows, training, dtype=dtype_name, native=native).peak_bytes
    counted = work_on(config, frames, rows, training, dtype)
    assert 0.95 * counted < planned < 1.3 * counted


def test_stacked_frames_of_several_rows_are_a_copy() -> None:
    config = replace(SMALL, input_dim=240, stack=4, num_layers=1)
    encoder, x = Encoder(config).eval(), torch.randn(2, 2001, 240)
    with PeakTensors([x, *encoder.parameters()]) as counted, torch.no_grad():
        encoder(x)
    planned = estimate(config, 2001, 2, native=native_unavailable() is None, lengths=False).peak_bytes
    assert planned > 0.95 * counted.peak_bytes


def test_checkpointing_and_double_precision() -> None:
    config = replace(SMALL, gradient_checkpointing=True, num_layers=6)
    planned = estimate(config, 4000, training=True, native=native_unavailable() is None).peak_bytes
    assert planned == pytest.approx(work_on(config, 4000, 1, True, torch.float32), rel=0.1)
    planned = estimate(SMALL, 4000, dtype="float64").peak_bytes
    assert planned == pytest.approx(work_on(SMALL, 4000, 1, False, torch.float64), rel=0.1)


def test_memory_grows_with_the_frames_and_a_stream_does_not() -> None:
    assert estimate(SMALL, 40_000).peak_bytes == pytest.approx(10 * estimate(SMALL, 4000).peak_bytes, rel=0.1)
    assert estimate(SMALL, 40_000, streaming=True).peak_bytes == estimate(SMALL, 400, streaming=True).peak_bytes
    lookahead = Encoder(SMALL).lookahead
    assert lookahead is not None and estimate(SMALL, 400, streaming=True).latency_ms == 10 * lookahead


@settings(max_examples=30, deadline=None)
@given(size=st.integers(0, 20_000_000_000), rows=st.integers(1, 5), training=st.booleans())
def test_the_longest_is_the_longest(size: int, rows: int, training: bool) -> None:
    most = max_frames(SMALL, size, rows, training)
    assert most == 0 or estimate(SMALL, most, rows, training).total_bytes <= size
    assert estimate(SMALL, most + 1, rows, training).total_bytes > size


def test_operations_are_the_products_and_the_pairs() -> None:
    wanted = work(replace(SMALL, d_ff=64), 100)
    linear = 2 * 100 * (24 * 32 + 3 * (4 * 32 * 32 + 2 * 32 * 64))
    assert wanted.flops == linear + 3 * 4 * 32 * SMALL.layer_contexts[0].num_pairs(100)
    assert estimate(SMALL, 100, training=True).flops == 3 * estimate(SMALL, 100).flops
    assert sum(estimate(SMALL, 100).flops_by_part.values()) == estimate(SMALL, 100).flops


def test_time_follows_the_rates() -> None:
    def seconds(config: EncoderConfig, **arguments: Any) -> float:
        found = estimate(config, 1000, machine=MACHINE, **arguments).seconds
        assert found is not None
        return found

    assert estimate(SMALL, 1000).seconds is None
    inference = seconds(SMALL)
    assert inference == pytest.approx(MACHINE.inference.seconds(work(SMALL, 1000))) and inference > 0
    assert seconds(SMALL, streaming=True, push=10) == pytest.approx(inference + 100 * 3 * MACHINE.step_s)
    again = replace(SMALL, gradient_checkpointing=True)
    assert seconds(again, training=True) > seconds(SMALL, training=True) > inference


def test_a_calibration_is_read_back_or_ignored(tmp_path: Path) -> None:
    MACHINE.save(tmp_path / "new" / "machine.json")
    assert load_machine(tmp_path / "new" / "machine.json") == MACHINE
    for text in ("", "[]", "{}", '{"format": 0}', '{"format": 1, "name": "x"}'):
        (tmp_path / "machine.json").write_text(text)
        assert load_machine(tmp_path / "machine.json") is None
    assert load_machine(tmp_path / "none.json") is None
    assert json.loads((tmp_path / "new" / "machine.json").read_text())["threads"] == 1


def test_advice_names_what_takes_less() -> None:
    message = " ".join(suggest(estimate(SMALL, 100_000)))
    assert "encode_long" in message and "gradient_checkpointing" not in message
    message = " ".join(suggest(estimate(SMALL, 100_000, 4, True)))
    assert "gradient_checkpointing=True" in message and "2 rows a batch" in message
    assert "Context.truncated(64, 64)" in suggest(estimate(replace(SMALL, context=Context.full()), 100_000))[0]
    assert suggest(estimate(SMALL, 100_000, streaming=True)) == []


def test_a_sheet_has_all_of_it() -> None:
    text = format_estimate(estimate(SMALL, 360_000, machine=MACHINE), total=2 * 10**9)
    for part in ("queries, keys and values", "times real time", ", fits into 2 GB", "look-ahead", "attention"):
        assert part in text
    assert "does not fit" in format_estimate(estimate(SMALL, 36_000_000), total=10**9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": -1}, "frames must be a whole number from 0"),
        ({"frames": 1.5}, "frames must be"),
        ({"frames": 10, "batch_size": 0}, "batch_size must be"),
        ({"frames": 10, "dtype": "int8"}, "dtype must be one of float32"),
        ({"frames": 10, "streaming": True, "push": 0}, "push must be"),
        ({"frames": 10, "streaming": True, "training": True}, "not both"),
    ],
)
def test_what_cannot_be_planned(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        estimate(SMALL, **arguments)


def test_configs_that_cannot_be_planned() -> None:
    with pytest.raises(ConfigError, match="got str; of a model"):
        estimate("small", 10)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot be estimated"):
        estimate(replace(SMALL, block="bigru"), 10)
    with pytest.raises(ConfigError, match="cannot stream"):
        estimate(replace(SMALL, context=Context(4, None)), 10, streaming=True)
    with pytest.raises(ConfigError, match="grows without end"):
        estimate(replace(SMALL, context=Context.causal()), 10, streaming=True)
