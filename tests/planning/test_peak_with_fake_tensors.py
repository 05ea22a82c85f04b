"""Estimates for minutes of audio against the tensors of a pass on fake tensors, which take no memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from speechattn.attention.native.attention import native_unavailable
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder
from speechattn.planning import memory
from speechattn.planning.shapes import Shapes
from speechattn.profiling.tensor_memory import PeakTensors

CONFIG = EncoderConfig(input_dim=80, d_model=256, num_heads=4, num_layers=2)
CASES = {
    "ten minutes": (CONFIG, 60_000, "float32"),
    "ten minutes, no positions": (replace(CONFIG, position_encoding="none"), 60_000, "float32"),
    "ten minutes, rotary": (replace(CONFIG, position_encoding="rotary"), 60_000, "float32"),
    "ten minutes, conformer": (replace(CONFIG, block="conformer"), 60_000, "float32"),
    "ten minutes, chunked and wide": (
        replace(CONFIG, d_ff=4096, context=Context.chunked(16, 32, 8)),
        60_000,
        "float32",
    ),
    "ten minutes, stacked": (replace(CONFIG, stack=4), 60_000, "float32"),
    "ten minutes, dropout": (replace(CONFIG, dropout=0.2), 60_000, "float32"),
    "half a minute, dense": (replace(CONFIG, backend="dense"), 3000, "float32"),
    "half a minute, dense, relu": (replace(CONFIG, backend="dense", activation="relu"), 3000, "float32"),
}


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def peak_bytes(config: EncoderConfig, frames: int, training: bool, dtype: str = "float32", fake: bool = True) -> int:
    """Return the peak of the tensors of a pass, beside weights, their gradients and the input."""
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else torch.no_grad(), default_dtype(getattr(torch, dtype)):
        encoder = Encoder(config).train(training)
        x = torch.zeros(1, frames, config.input_dim)
        known: list[Tensor] = [x]
        for parameter in encoder.parameters():
            parameter.grad = torch.zeros_like(parameter)
            known += [parameter, parameter.grad]
        with PeakTensors(known) as counted, torch.set_grad_enabled(training):
            hidden, _ = encoder(x)
            if training:
                hidden.backward(torch.ones_like(hidden))
    peak: int = counted.peak_bytes
    return peak


def estimated(config: EncoderConfig, frames: int, training: bool, dtype: str = "float32") -> int:
    """Return the estimate of the tensors alone, without what glibc and MKL keep of freed ones."""
    shapes = Shapes(config, frames, dtype=dtype, native=native_unavailable() is None)
    moments = memory.training(shapes) if training else memory.inference(shapes)
    return max(
        sum(size for name, size in moment.alive.items() if not name.startswith("kept by libraries"))
        for moment in moments
    )


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("name", CASES)
def test_ten_minutes_take_the_tensors_of_the_estimate(name: str, training: bool) -> None:
    config, frames, dtype = CASES[name]
    counted = peak_bytes(config, frames, training, dtype)
    assert counted <= 1.001 * estimated(config, frames, training, dtype)
    assert estimated(config, frames, training, dtype) <= 1.1 * counted


def test_checkpointing_is_estimated_for_ten_minutes() -> None:
    config = replace(CONFIG, num_layers=6, gradient_checkpointing=True)
    counted = peak_bytes(config, 60_000, training=True)
    assert estimated(config, 60_000, training=True) == pytest.approx(counted, rel=0.1)
    assert counted < 0.5 * peak_bytes(replace(CONFIG, num_layers=6), 60_000, training=True)


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_fake_tensors_are_counted_as_real_ones(training: bool) -> None:
    small = replace(CONFIG, d_model=32, num_heads=2, num_layers=2, context=Context.truncated(9, 4))
    assert peak_bytes(small, 3000, training) == peak_bytes(small, 3000, training, fake=False)
