"""A limit on memory refuses what would not fit before anything is allocated, and nothing else."""

from __future__ import annotations

import pytest
import torch

import speechattn as sa
from speechattn.attention.native.attention import native_unavailable
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder
from speechattn.errors import ConfigError, MemoryLimitError
from speechattn.planning import memory_limit as guard
from speechattn.planning.estimate import estimate
from speechattn.system.process_memory import available_bytes, resident_bytes
from speechattn.system.units import format_bytes

CONFIG = EncoderConfig(input_dim=8, d_model=16, num_heads=2, num_layers=2, context=Context.truncated(4, 4))


@pytest.fixture(autouse=True)
def no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(guard.SWITCH, raising=False)
    monkeypatch.setattr(guard, "resident_bytes", lambda: 500_000_000)


def hours(count: float) -> torch.Tensor:
    """Frames that take no memory."""
    return torch.zeros(1, 1, 8).expand(1, int(360_000 * count), 8)


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    encoder = Encoder(CONFIG).eval()
    with torch.no_grad(), sa.memory_limit("1GB"), pytest.raises(MemoryLimitError) as refused:
        encoder(hours(5))
    message = str(refused.value)
    native = native_unavailable() is None
    needed = format_bytes(estimate(CONFIG, 1_800_000, native=native).peak_bytes)
    assert f"encoding 1 x 5 h (1800000 frames a row) at once takes {needed}" in message
    assert "holds 500 MB, and 1 GB are allowed" in message and "sa.encode_long" in message
    assert isinstance(refused.value, MemoryError) and isinstance(refused.value, sa.UserError)
    most = int(message.partition("At once fit ")[2].split()[0])
    with sa.memory_limit("1GB"):
        guard.check(CONFIG, most, 1, False, "float32", native)
        with pytest.raises(MemoryLimitError):
            guard.check(CONFIG, most + 1, 1, False, "float32", native)


def test_the_hours_of_a_refusal_are_those_of_the_models_frames() -> None:
    config = sa.ModelConfig(("SIL", "AA"), CONFIG, num_mels=8, framing=sa.Framing(hop=320))
    encoder = sa.SpeechModel(config).eval().encoder
    with torch.no_grad(), sa.memory_limit("1GB"), pytest.raises(MemoryLimitError, match=r"1 x 10 h \(1800000 frames"):
        encoder(hours(5))


def test_gradients_are_named_where_they_are_the_reason() -> None:
    with sa.memory_limit("1GB"), pytest.raises(MemoryLimitError, match=r"torch\.no_grad\(\), where no gradient"):
        Encoder(CONFIG)(hours(1))


def test_the_context_of_a_call_counts() -> None:
    with sa.memory_limit(700_000_000):
        guard.check(CONFIG, 200_000, batch_size=1, training=False, dtype="float32", native=True)
        with pytest.raises(MemoryLimitError, match=r"Context\.truncated\(64, 64\)"), torch.no_grad():
            Encoder(CONFIG).eval()(hours(200_000 / 360_000), context=Context.full())


def test_the_environment_holds_for_all_calls_and_the_nearest_limit_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, frames = Encoder(CONFIG).eval(), torch.zeros(1, 100, 8)
    monkeypatch.setenv(guard.SWITCH, "500MB")
    with torch.no_grad():
        with pytest.raises(MemoryLimitError):
            encoder(frames)
        with sa.memory_limit("900MB"):
            encoder(frames)
            with sa.memory_limit("1MB"), pytest.raises(MemoryLimitError):
                encoder(frames)
            encoder(frames)
        monkeypatch.delenv(guard.SWITCH)
        encoder(frames)


def test_auto_is_what_the_machine_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "available_bytes", lambda: 100_000_000)
    with sa.memory_limit("auto"), torch.no_grad():
        assert guard.limit_bytes() == 600_000_000
        Encoder(CONFIG).eval()(torch.zeros(1, 100, 8))
        with pytest.raises(MemoryLimitError):
            Encoder(CONFIG).eval()(hours(5))
    monkeypatch.setattr(guard, "available_bytes", lambda: None)
    with sa.memory_limit("auto"):
        assert guard.limit_bytes() is None


def test_this_machine_tells_what_it_holds_and_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    available = available_bytes()
    if available is None:
        pytest.skip("no /proc/meminfo here")
    assert resident_bytes() > 10**7 and available > 10**7


@pytest.mark.parametrize("limit", ["8GX", "", "-1GB", "0", "nan"])
def test_limits_that_are_none(limit: str) -> None:
    with pytest.raises(ConfigError, match='a size as "8GB"'), sa.memory_limit(limit):
        pass


def test_scores_of_dense_attention_are_refused() -> None:
    q = torch.zeros(1, 1, 1, 8).expand(2, 4, 50_000, 8)
    with sa.memory_limit("8GB"), pytest.raises(MemoryLimitError, match=r"50000 x 50000 scores .* takes 175 GB"):
        sa.attention(q, q, q, Context.truncated(4, 4), backend="dense")


def test_a_stream_and_a_compiled_graph_are_not_checked() -> None:
    encoder = Encoder(CONFIG).eval()
    with sa.memory_limit("500MB"):
        encoder.step(torch.zeros(1, 100, 8), encoder.initial_state())
