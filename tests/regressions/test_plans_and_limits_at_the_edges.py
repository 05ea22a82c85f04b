"""Found by trying odd things on plans and limits: each raised, or reported less memory than the call took."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import speechattn as sa
from speechattn.attention.native.attention import native_unavailable
from speechattn.cli.main import main
from speechattn.planning.machine_speed import Machine, Rates, load_machine
from speechattn.profiling.tensor_memory import PeakTensors

CONFIG = sa.EncoderConfig(input_dim=80, d_model=32, num_heads=2, num_layers=2, context=sa.Context.truncated(9, 4))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("native", ["", "0"], ids=["native", "banded"])
def test_an_encoder_is_traced_under_a_limit_and_takes_other_audio(native: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without native attention torch raised "unordered_map::at": it cannot trace an autograd.Function."""
    monkeypatch.setenv("SPEECHATTN_NATIVE", native)
    encoder = sa.Encoder(CONFIG).eval()
    with sa.memory_limit("100GB"), torch.no_grad():
        traced = torch.jit.trace(encoder, (torch.randn(2, 20, 80), torch.tensor([20, 13])), check_trace=False)  # type: ignore[no-untyped-call]
        frames, lengths = torch.randn(2, 35, 80), torch.tensor([21, 35])
        torch.testing.assert_close(traced(frames, lengths), encoder(frames, lengths), rtol=0, atol=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, "12", None])
def test_a_damaged_calibration_is_none(tmp_path: Path, bad: Any) -> None:
    rates = Rates(1e-12, 1e-12, 1e-9, 1e-10, 0.0)
    path = tmp_path / "machine.json"
    Machine("test", 1, rates, rates, 1e-4).save(path)
    assert load_machine(path) is not None
    data = json.loads(path.read_text())
    data["training"]["taps"] = bad
    path.write_text(json.dumps(data))
    assert load_machine(path) is None


def test_a_window_beyond_every_audio_is_planned() -> None:
    assert sa.estimate(replace(CONFIG, context=sa.Context(10**25, 0)), frames=100).weight_bytes > 10**25


def test_integers_of_numpy_are_whole_numbers() -> None:
    assert sa.estimate(CONFIG, frames=np.int32(4000), batch_size=np.int64(3)) == sa.estimate(CONFIG, 4000, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "rows"),
    [
        (replace(CONFIG, splice=sa.Context(5, 5), stack=4), 1),
        (replace(CONFIG, splice=sa.Context(3, 3), stack=2), 2),
        (replace(CONFIG, activation="relu"), 1),
        (replace(CONFIG, num_heads=8, context=sa.Context.truncated(300, 300)), 1),
    ],
    ids=["splice and stack", "splice of two rows", "parts of frames", "heads that native does not take"],
)
@pytest.mark.parametrize("switch", ["", "0"], ids=["native", "banded"])
def test_memory_is_not_underestimated(config: Any, rows: Any, switch: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without native attention nothing counted the scores that relu of a small encoder has at a time."""
    monkeypatch.setenv("SPEECHATTN_NATIVE", switch)
    encoder, frames = sa.Encoder(config).eval(), torch.zeros(rows, 3000, 80)
    lengths = torch.full((rows,), 3000) if rows > 1 else None
    with PeakTensors([frames, *encoder.parameters()]) as counted, torch.no_grad():
        encoder(frames, lengths)
    planned = sa.estimate(config, 3000, rows, native=native_unavailable() is None).peak_bytes
    assert planned == pytest.approx(counted.peak_bytes, rel=0.1) and planned > 0.95 * counted.peak_bytes


def test_a_stream_shorter_than_its_push_keeps_its_length(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--duration", "3.6", "--mode", "streaming", "--push", "100000"]) == 0
    assert capsys.readouterr().out.startswith("3.6 s of audio, 360 frames")
