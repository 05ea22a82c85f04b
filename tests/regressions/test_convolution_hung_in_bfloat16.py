"""A conformer in bfloat16, or under autocast, never came back: oneDNN 3.10 (torch 2.11) loops for ever.

It does on processors with AVX512_BF16, in a depthwise convolution with channels last, 31 taps and 50 frames out.
"""

import copy

import torch

from speechattn.context import Context
from speechattn.encoder.convolution import FramesConvolution

ROUNDING = 0.05
"""bfloat16 has 8 bits, of outputs about 1."""


@torch.no_grad()
def test_a_wide_convolution_in_bfloat16_comes_back_and_is_near_float32() -> None:
    layer, frames = FramesConvolution(16, Context.truncated(15, 15)), torch.randn(1, 50, 16)
    expected = layer(frames)
    with torch.autocast("cpu", torch.bfloat16):
        assert (layer(frames) - expected).abs().max() < ROUNDING
    assert (copy.deepcopy(layer).bfloat16()(frames.bfloat16()) - expected).abs().max() < ROUNDING
