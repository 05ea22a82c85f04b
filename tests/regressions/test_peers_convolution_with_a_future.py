"""A convolution that looks ahead was fed zeros at every end of a chunk: wrong by 0.7 to 0.9 in WeNet's U2++.

A conformer trained with symmetric convolutions hears both sides of a frame. Streamed chunk by chunk, the right side
of a chunk's last frames has not come yet, and zeros were put there, as at the end of the audio; the masks of the
attention could not know. Here a convolution's window is a Context like any other: its last frames wait.
"""

from typing import Any

import pytest
import torch

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.convolution import FramesConvolution
from speechattn.encoder.encoder import Encoder


def conformer(**wanted: Any) -> Any:
    config = EncoderConfig(
        6,
        d_model=8,
        num_heads=2,
        num_layers=2,
        d_ff=16,
        context=Context.chunked(4, 8),
        block="conformer",
        conv_kernel=7,
        **wanted,
    )
    return Encoder(config).double().eval()


@pytest.mark.parametrize("ahead", [0, 1, 3, 6, "symmetric"])
def test_a_symmetric_convolution_streams_and_its_future_is_declared(ahead: Any) -> None:
    encoder, x = conformer(conv_lookahead=ahead), torch.randn(2, 50, 6, dtype=torch.float64)
    state, parts, out = encoder.initial_state(2), [], 0
    # Chunk by chunk: just there it went wrong.
    for push in x.split(4, 1):  # type: ignore[no-untyped-call]
        part, state = encoder.step(push, state)
        parts.append(part)
        out += part.shape[1]
        assert out == 0 or encoder.receptive_field(out - 1)[1] <= state.frames < encoder.receptive_field(out)[1]
    assert (torch.cat([*parts, encoder.flush(state)], 1) - encoder(x)[0]).abs().max() < 1e-10
    assert encoder.lookahead >= 2 * encoder.config.convolution.right


def test_zeros_in_place_of_the_future_would_be_seen() -> None:
    layer = FramesConvolution(8, Context.truncated(3, 3)).double()
    x = torch.randn(1, 48, 8, dtype=torch.float64)
    chunked = torch.cat([layer(torch.cat((before, chunk), 1))[:, -4:] for before, chunk in chunks(x)], 1)
    assert (chunked - layer(x)).abs().max() > 0.1


def chunks(x: Any) -> Any:
    """(the three frames before, the chunk) of chunks of four."""
    for start in range(0, x.shape[1], 4):
        yield x[:, max(0, start - 3) : start], x[:, start : start + 4]
