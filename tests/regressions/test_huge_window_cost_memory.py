"""A huge but finite window asked for its whole mask: left=10**9 meant 64 GB for half a second of audio.

People write a large number where they mean "everything before". The mask of one whole block is made once for all
blocks, which is waste when the audio is shorter than the window and every block is clipped.
"""

from __future__ import annotations

import pytest
import torch

from speechattn import Context, attention


@pytest.mark.parametrize(
    ("huge", "unlimited"),
    [
        (Context.truncated(10**9, 0), Context.causal()),
        (Context.truncated(3, 10**9), Context.truncated(3, None)),
        (Context.chunked(16, left=10**9, right=2), Context.chunked(16, left=None, right=2)),
    ],
    ids=str,
)
def test_a_window_beyond_the_audio_costs_what_an_unlimited_one_costs(huge: Context, unlimited: Context) -> None:
    q, k, v = torch.randn(3, 2, 2, 50, 8, dtype=torch.float64)
    lengths = torch.tensor([50, 17])
    expected = attention(q, k, v, unlimited, lengths=lengths, backend="dense")
    torch.testing.assert_close(attention(q, k, v, huge, lengths=lengths, backend="banded"), expected)


@pytest.mark.parametrize("context", [Context.truncated(1500, 20), Context.chunked(16, left=1500, right=2)], ids=str)
def test_a_long_window_is_right_in_short_and_in_long_audio(context: Context) -> None:
    bias = torch.randn(1, len(context.offsets()), dtype=torch.float64)
    for num_frames in (30, 1700):
        q, k, v = torch.randn(3, 1, 1, num_frames, 4, dtype=torch.float64)
        expected = attention(q, k, v, context, relative_bias=bias, backend="dense")
        torch.testing.assert_close(attention(q, k, v, context, relative_bias=bias, backend="banded"), expected)
