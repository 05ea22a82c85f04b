"""The last chunk moved by 0.11 to 0.38 when it was not whole and the context had a right side: torchaudio's Emformer.

It cuts right contexts out of the padded batch: the frames that a row's last, partial segment takes for its future are
the padding behind its end, zeros or whatever lies there, and how much of it there is depends on the longest row. So
an utterance gave one result alone and another in a batch, and NaN in the padding took the row with it. Here what is
visible ends with the row, wherever that is in its chunk.
"""

from typing import Any

import pytest
import torch

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder

CHUNK = 4
LENGTHS = [1, 3, 5, 13, 16, 17]


def encoder_of(block: Any, position_encoding: Any) -> Any:
    config = EncoderConfig(
        6,
        d_model=8,
        num_heads=2,
        num_layers=3,
        d_ff=16,
        context=Context.chunked(CHUNK, 8, 3),
        block=block,
        position_encoding=position_encoding,
        conv_kernel=5,
        conv_lookahead=2,
    )
    return Encoder(config).double().eval()


@pytest.mark.parametrize("padding", [1e30, torch.nan])
@pytest.mark.parametrize(("block", "position_encoding"), [("transformer", "relative"), ("conformer", "rotary")])
def test_alone_in_a_batch_and_streamed_are_the_same(block: Any, position_encoding: Any, padding: Any) -> None:
    encoder = encoder_of(block, position_encoding)
    x = torch.full((len(LENGTHS), 30, 6), padding, dtype=torch.float64)
    for row, length in zip(x, LENGTHS, strict=True):
        row[:length] = torch.randn(length, 6, dtype=torch.float64)
    together, _ = encoder(x, torch.tensor(LENGTHS))
    for row, length, batched in zip(x, LENGTHS, together, strict=True):
        alone = encoder(row[None, :length])[0][0]
        assert (alone - batched[:length]).abs().max() < 1e-10
        for size in (CHUNK, 7, 30):
            state, parts = encoder.initial_state(), []
            for push in row[None, :length].split(size, 1):
                part, state = encoder.step(push, state)
                parts.append(part)
            assert (torch.cat([*parts, encoder.flush(state)], 1)[0] - alone).abs().max() < 1e-10


def test_zeros_taken_for_the_future_would_be_seen() -> None:
    encoder = encoder_of("transformer", "relative")
    x = torch.randn(1, 13, 6, dtype=torch.float64)
    alone = encoder(x)[0]
    followed = encoder(torch.cat((x, torch.zeros(1, 17, 6, dtype=torch.float64)), 1))[0][:, :13]
    assert (alone - followed).abs().max() > 1e-2
