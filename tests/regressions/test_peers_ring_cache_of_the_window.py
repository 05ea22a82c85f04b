"""A cache of exactly the window is too small for a push of two frames: streaming was wrong by 1.3 to 2.9 in moshi.

A ring that holds as many keys as one frame sees is right as long as one frame comes at a time. When n come, writing
their keys first overwrites the n - 1 oldest, which the first of the new frames still had to see; so pushes of 80 ms
gave other numbers than pushes of 10 ms. Here keys are let go only when no frame needs them any more.
"""

from typing import Any

import pytest
import torch

from speechattn.attention.functional import attention
from speechattn.context import Context
from speechattn.encoder.self_attention import SelfAttention


def streamed(layer: Any, x: Any, size: Any) -> Any:
    """(all outputs, the most frames kept after any push) of pushes of `size` frames."""
    state, parts, kept = layer.initial_state(), [], []
    for push in x.split(size, 1):
        part, state = layer.step(push, state)
        parts.append(part)
        kept.append(state.keys.shape[2])
    return torch.cat([*parts, layer.step(x[:, :0], state, final=True)[0]], 1), max(kept)


@pytest.mark.parametrize("context", [Context.causal(9), Context.truncated(9, 3), Context.chunked(4, 9, 2)], ids=str)
@pytest.mark.parametrize("size", [1, 2, 8, 10, 64])
def test_any_number_of_frames_at_once(context: Any, size: Any) -> None:
    layer = SelfAttention(8, 2, context, "rotary").double().eval()
    x = torch.randn(1, 64, 8, dtype=torch.float64)
    found, kept = streamed(layer, x, size)
    assert (found - layer(x)).abs().max() < 1e-10
    assert kept <= context.kept_frames


@torch.no_grad()
def test_a_ring_of_the_window_would_be_seen() -> None:
    """Their cache, in eight lines: right frame by frame, wrong by far more than any tolerance two at a time."""
    context, x = Context.causal(9), torch.randn(1, 64, 8, dtype=torch.float64)
    layer = SelfAttention(8, 2, context).double().eval()
    q, k, v = layer.project(x)
    whole, worst = attention(q, k, v, context), {}
    for size in (1, 2, 8):
        errors = []
        for stop in range(size, 65, size):
            ring = slice(max(0, stop - context.window), stop)  # type: ignore[operator]
            for i in range(stop - size, stop):
                scores = q[:, :, i : i + 1] @ k[:, :, ring].mT / 2  # 4 features a head
                ahead = torch.arange(ring.start, stop) > i
                weights = scores.masked_fill(ahead, -torch.inf).softmax(-1)
                errors.append((weights @ v[:, :, ring] - whole[:, :, i : i + 1]).abs().max())
        worst[size] = float(max(errors))
    assert worst[1] < 1e-10 and worst[2] > 1e-2 and worst[8] > 1e-2
