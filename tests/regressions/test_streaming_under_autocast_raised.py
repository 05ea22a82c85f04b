"""`attention` switches autocast off around its products, and the streaming call beside it forgot to.

And a depthwise convolution in bfloat16 never returned on a CPU with AVX512_BF16, where its channels lay last.
"""

from typing import Any

import pytest
import torch

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder


@pytest.mark.parametrize("block", ["transformer", "conformer", "cnn"])
def test_a_stream_under_autocast_is_near_the_offline_pass(block: Any) -> None:
    encoder = Encoder(
        EncoderConfig(
            8, d_model=16, num_heads=2, num_layers=2, context=Context.chunked(4, left=8, right=2), block=block
        )
    ).eval()
    x, parts = torch.randn(1, 100, 8), []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        offline, _ = encoder(x)
        state = encoder.initial_state()
        for push in x.split(7, dim=1):  # type: ignore[no-untyped-call]
            part, state = encoder.step(push, state)
            parts.append(part)
        parts.append(encoder.flush(state))
    # bfloat16 has 8 bits: outputs of unit size are right to a few hundredths.
    assert (torch.cat(parts, 1).float() - offline.float()).abs().max() < 0.1
