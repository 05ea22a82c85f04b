"""P1 at every level by itself, frontend, attention, convolution, block, encoder and model: `step` and `flush` give what
its own `forward` gives, for any split, every frame as soon as it is ready.

Tolerance 1e-10 in float64: a stream sums the same numbers, in products of other shapes. Normalisation keeps nothing: a
stream calls it on the frames of each push.
"""

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_same

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.blocks import ConformerBlock, ConvolutionBlock, TransformerBlock
from speechattn.encoder.convolution import FramesConvolution
from speechattn.encoder.encoder import Encoder
from speechattn.encoder.self_attention import LAYER_POSITION_ENCODINGS, SelfAttention
from speechattn.framing import Framing
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.mfcc import MFCC
from speechattn.frontend.normalize import Normalize
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel

FRAMING = Framing(1000, 25, 10)
BLOCKS = {"transformer": TransformerBlock, "conformer": ConformerBlock, "cnn": ConvolutionBlock}
LEVELS = ("log-mel", "mfcc", "attention", "convolution", *BLOCKS, "encoder", "model")
WIDTH = 8


def level_of(name: Any, context: Any, kernel: Any, position_encoding: Any) -> Any:
    """(module, contexts through which a frame waits): samples go into frontends and models, frames [B, n, 8] else."""
    config = EncoderConfig(
        WIDTH,
        d_model=WIDTH,
        num_heads=2,
        num_layers=1,
        d_ff=12,
        context=context,
        block=name if name in BLOCKS else "conformer",
        position_encoding=position_encoding,
        conv_kernel=kernel.window,
        conv_lookahead=kernel.right,
    )
    if name in BLOCKS:
        return BLOCKS[name](config, context), config.contexts
    if name == "encoder":
        return Encoder(config), config.contexts
    if name == "model":
        model = ModelConfig(("A", "B", "C"), config, WIDTH, framing=FRAMING)
        return SpeechModel(model), model.contexts
    if name == "attention":
        return SelfAttention(WIDTH, 2, context, position_encoding), (context,)
    if name == "convolution":
        return FramesConvolution(WIDTH, kernel), (kernel,)
    frontend = LogMel(6, FRAMING) if name == "log-mel" else MFCC(4, 6, FRAMING, deltas=2)
    return frontend, frontend.contexts


def ready(name: Any, contexts: Any, count: Any) -> Any:
    """Outputs that depend on no input after the first `count`, computed from the contexts."""
    if name in ("log-mel", "mfcc", "model"):
        count = FRAMING.num_frames(count)
    for context in contexts:
        count = context.ready(count)
    return count


def input_of(name: Any, batch: Any, count: Any, dtype: Any = torch.float64) -> Any:
    if name in ("log-mel", "mfcc", "model"):
        return torch.rand(batch, count, dtype=dtype) - 0.5
    return torch.randn(batch, count, WIDTH, dtype=dtype)


def whole(module: Any, x: Any) -> Any:
    output = module(x)
    return output[0] if isinstance(output, tuple) else output


@settings(max_examples=90, deadline=None)
@given(
    name=st.sampled_from(LEVELS),
    context=st.builds(Context, st.none() | st.integers(0, 9), st.integers(0, 6), st.integers(1, 5)),
    kernel=st.builds(Context, st.integers(0, 4), st.integers(0, 4)),
    position_encoding=st.sampled_from(LAYER_POSITION_ENCODINGS),
    batch=st.integers(1, 3),
    count=st.integers(0, 300),
    cuts=st.lists(st.integers(0, 300), max_size=9),
    seed=st.integers(0, 2**31),
)
def test_every_level_alone_gives_its_own_forward(
    name: Any, context: Any, kernel: Any, position_encoding: Any, batch: Any, count: Any, cuts: Any, seed: int
) -> None:
    torch.manual_seed(seed)
    module, contexts = level_of(name, context, kernel, position_encoding)
    module, x = module.double().eval(), input_of(name, batch, count)
    state, parts = module.initial_state(batch), []
    for start, stop in pairwise([0, *sorted(min(cut, count) for cut in cuts), count]):
        part, state = module.step(x[:, start:stop], state)
        parts.append(part)
        assert sum(part.shape[1] for part in parts) == ready(name, contexts, stop)
        assert not part.requires_grad
    found, expected = torch.cat([*parts, module.flush(state)], 1), whole(module, x)
    assert found.shape == expected.shape and found.dtype == torch.float64
    assert found.numel() == 0 or (found - expected).abs().max() < 1e-10


@pytest.mark.parametrize("name", LEVELS)
def test_a_step_and_a_flush_leave_the_state_as_it_was(name: Any) -> None:
    module, _ = level_of(name, Context.chunked(3, 5, 2), Context(3, 1), "rotary")
    module, x = module.double().eval(), input_of(name, 2, 250)
    _, state = module.step(x[:, :101], module.initial_state(2))
    first, pending = module.step(x[:, 101:], state)[0], module.flush(state)
    assert_same((module.step(x[:, 101:], state)[0], module.flush(state)), (first, pending))


@pytest.mark.parametrize("name", LEVELS)
def test_a_state_of_another_batch_or_dtype_is_refused(name: Any) -> None:
    module, _ = level_of(name, Context.chunked(3, 5, 2), Context(3, 1), "none")
    state = module.eval().initial_state()
    with pytest.raises(ValueError, match=r"state is of 1 streams in lock-step, input has 2 rows|stream is .* \[1, n\]"):
        module.step(input_of(name, 2, 20, torch.float32), state)
    with pytest.raises(ValueError, match=r"(state|stream) is torch.float32 .*on cpu"):
        module.double().step(input_of(name, 1, 20), state)


def test_normalisation_keeps_nothing() -> None:
    normalize = Normalize.fit([torch.randn(50, 6)]).double()
    x = torch.randn(2, 40, 6, dtype=torch.float64)
    assert_same(torch.cat([normalize(part) for part in x.split([0, 1, 7, 32], 1)], 1), normalize(x))  # type: ignore[no-untyped-call]
    assert not hasattr(normalize, "initial_state")
