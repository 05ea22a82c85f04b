"""The bias of full attention was shaped with -1 for the heads, and no frames leave nothing to infer them from.

The conformance suite found it: an empty recording stopped an encoder with relative positions.
"""

from typing import Any

import pytest
import torch

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder


@pytest.mark.parametrize("position_encoding", ["relative", "alibi"])
def test_no_frames_give_no_frames(position_encoding: Any) -> None:
    encoder = Encoder(
        EncoderConfig(
            4, d_model=8, num_heads=2, num_layers=1, context=Context.full(), position_encoding=position_encoding
        )
    )
    output, lengths = encoder(torch.zeros(2, 0, 4))
    assert output.shape == (2, 0, 8) and lengths.tolist() == [0, 0]
