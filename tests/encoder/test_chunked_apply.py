"""Frames at a time == all at once, and only where no gradient needs what lies between."""

from typing import Any

import pytest
import torch

from speechattn import heuristics
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.chunked_apply import framewise
from speechattn.encoder.encoder import Encoder


@pytest.mark.parametrize("num_frames", [0, 1, 15, 16, 17, 64])
def test_frames_at_a_time_are_all_of_them(num_frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heuristics, "CPU_FRAMES", 24)
    sizes = []

    def doubled(x: Any, y: Any) -> Any:
        sizes.append(x.shape[1])
        return torch.cat((x, y), 2)

    x, y = torch.randn(3, num_frames, 2), torch.randn(3, num_frames, 5)
    with torch.no_grad():
        output = framewise(doubled, x, y)
    assert torch.equal(output, torch.cat((x, y), 2))
    assert max(sizes) <= 15 and sum(sizes) == num_frames  # 24 frames are 8 of each row; up to twice that go in one

    sizes.clear()
    framewise(doubled, x, y)
    assert sizes == [num_frames]


@pytest.mark.parametrize("block", ["transformer", "conformer"])
def test_an_encoder_gives_the_same_with_and_without_gradients(block: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heuristics, "CPU_FRAMES", 32)
    config = EncoderConfig(input_dim=6, d_model=16, num_heads=2, num_layers=2, block=block, context=Context.causal(5))
    encoder = Encoder(config).double().eval()
    frames, lengths = torch.randn(2, 333, 6, dtype=torch.float64), torch.tensor([333, 70])
    frames[1, 70:] = torch.nan
    expected, _ = encoder(frames, lengths)
    with torch.inference_mode():
        found, _ = encoder(frames, lengths)
    assert (found - expected).abs().max() < 1e-12
