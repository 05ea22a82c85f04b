"""Encoders of `build_encoder`: receptive field by autograd, lengths, and the inputs that they refuse."""

import copy
from typing import Any

import pytest
import torch
from rounding import assert_same

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.baselines import build_encoder
from speechattn.encoder.encoder import Encoder
from speechattn.encoder.input import splice
from speechattn.errors import ConfigError

SMALL = {"input_dim": 6, "d_model": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0}


def encoder(**settings: Any) -> Any:
    return build_encoder(EncoderConfig(**{**SMALL, "context": Context.truncated(5, 3), **settings})).double().eval()


def test_lengths_come_back_full_or_as_given() -> None:
    model = encoder()
    output, lengths = model(torch.randn(2, 9, 6, dtype=torch.float64))
    assert output.shape == (2, 9, 8) and lengths.tolist() == [9, 9] and lengths.dtype == torch.int64
    _, lengths = model(torch.randn(2, 9, 6, dtype=torch.float64), torch.tensor([9, 4], dtype=torch.int32))
    assert lengths.tolist() == [9, 4] and lengths.dtype == torch.int64


@pytest.mark.parametrize("settings", [{}, {"block": "mlp"}, {"block": "linear"}], ids=str)
@pytest.mark.parametrize("shape", [(0, 5, 6), (2, 0, 6), (0, 0, 6)])
def test_empty_input_gives_empty_output_and_finite_gradients(shape: Any, settings: Any) -> None:
    model = encoder(**settings)
    output, _ = model(torch.zeros(shape, dtype=torch.float64))
    output.sum().backward()
    assert output.shape == (*shape[:2], 8)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_row_of_length_zero_beside_others() -> None:
    model = encoder()
    output, _ = model(torch.randn(2, 12, 6, dtype=torch.float64), torch.tensor([0, 12]))
    output.square().sum().backward()
    assert torch.all(output[0] == 0)
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_samples_instead_of_frames_are_recognised() -> None:
    with pytest.raises(ValueError, match=r"frames \[B, T, 6\], got \[1, 16000\]. Waveforms go through a frontend"):
        encoder()(torch.zeros(1, 16000))
    with pytest.raises(ValueError, match="Did you pass samples"):
        encoder()(torch.zeros(1, 100, 6, dtype=torch.float64), torch.tensor([16000]))


def test_the_encoder_builds_transformers_and_the_door_builds_all() -> None:
    with pytest.raises(ConfigError, match=r"sa\.build_encoder"):
        Encoder(EncoderConfig(6, block="linear"))


def test_context_can_be_replaced_per_call() -> None:
    x = torch.randn(1, 80, 6, dtype=torch.float64)
    for positions in ("none", "sinusoidal", "rotary", "relative"):
        narrow, wide = (
            encoder(context=context, position_encoding=positions) for context in (Context(5, 3), Context(9, 9))
        )
        if positions != "relative":  # its table is sized by the context it was built for
            wide.load_state_dict(narrow.state_dict())
            assert torch.allclose(narrow(x, context=Context(9, 9))[0], wide(x)[0])
        assert not torch.allclose(narrow(x, context=Context(0, 0))[0], narrow(x)[0])
    for block in ("mlp", "linear"):
        with pytest.raises(ValueError, match="got"):
            encoder(block=block)(x, context=Context(9, 9))


def test_a_context_per_call_is_one_context() -> None:
    for wrong in ((Context(1, 1),), [5, 3], "full"):
        with pytest.raises(TypeError, match=r"one speechattn\.Context for all layers"):
            encoder()(torch.zeros(1, 9, 6, dtype=torch.float64), context=wrong)


def test_one_context_a_layer() -> None:
    stack = (Context(0, 4), Context(6, 0))
    model = encoder(context=stack, splice=Context.truncated(2, 1))
    assert model.receptive_field(50) == (42, 56)
    assert model.lookahead == 5 and model.lookback == 8
    assert [line.split()[0] for line in model.describe().splitlines()] == ["layer", "splice", "1", "2", "total"]
    assert [block.attention.context for block in model.blocks] == list(stack)


def test_extra_repr_tells_reach_lookahead_and_parameters() -> None:
    text = repr(encoder(context=Context.truncated(5, 3)))
    assert "receptive_field=17" in text and "lookahead=6" in text and "parameters=" in text
    assert "receptive_field=88, lookback=79, lookahead=23" in repr(
        encoder(context=Context.chunked(16, 64, 8), num_layers=1)
    )
    assert "lookahead=unlimited" in repr(encoder(context=Context.full()))
    assert "6 frames (60 ms)" in encoder().describe()


def test_splice_puts_neighbours_side_by_side() -> None:
    x = torch.arange(1.0, 5.0).view(1, 4, 1)
    assert splice(x, Context.truncated(1, 2), 4)[0].tolist() == [
        [0.0, 1.0, 2.0, 3.0],
        [1.0, 2.0, 3.0, 4.0],
        [2.0, 3.0, 4.0, 0.0],
        [3.0, 4.0, 0.0, 0.0],
    ]


def test_a_copy_and_other_modes_give_the_same() -> None:
    model = encoder()
    x = torch.randn(1, 40, 6, dtype=torch.float64)
    expected = model(x)[0]
    assert_same(copy.deepcopy(model)(x)[0], expected)
    with torch.no_grad():
        assert_same(model(x)[0], expected.detach())
    with torch.inference_mode():
        assert_same(model(x)[0], expected.detach())
    model(x)[0].sum().backward()


def test_dropout_belongs_to_training() -> None:
    model = encoder(dropout=0.5)
    x = torch.randn(1, 40, 6, dtype=torch.float64)
    assert_same(model(x)[0], model(x)[0])
    model.train()
    assert (model(x)[0] - model(x)[0]).abs().max() > 1e-3


def test_stacked_frames_become_one_and_the_remainder_is_dropped() -> None:
    for block in ("transformer", "conformer", "cnn", "bigru", "mlp", "linear"):
        model = encoder(block=block, stack=4)
        output, lengths = model(torch.randn(3, 15, 6, dtype=torch.float64), torch.tensor([15, 8, 3]))
        assert output.shape == (3, 3, 8) and lengths.tolist() == [3, 2, 0]
        assert model(torch.randn(1, 3, 6, dtype=torch.float64))[1].tolist() == [0]


def test_stack_and_convolution_count_in_reach_and_description() -> None:
    model = encoder(block="conformer", stack=2, conv_kernel=5, conv_lookahead=1, context=Context(4, 0))
    # Per layer 4 + 3 stacked frames back and 1 ahead; two layers, 2 input frames each, and the stack's own second.
    assert model.lookback == 2 * 2 * (4 + 3) + 1
    assert model.lookahead == 2 * 2 * 1 + 1
    names = [line[:12].strip() for line in model.describe().splitlines()]
    assert names == ["layer", "stacking", "1 attention", "1 conv", "2 attention", "2 conv", "total"]


@pytest.mark.parametrize("block", ["transformer", "conformer", "cnn"])
def test_checkpointed_gradients_are_the_same_and_less_is_kept(block: Any) -> None:
    x = torch.randn(2, 60, 6, dtype=torch.float64)
    grads, kept = [], []
    for flag in (False, True):
        torch.manual_seed(0)
        model = encoder(block=block, dropout=0.3, num_layers=4, gradient_checkpointing=flag).train()
        count = 0

        def pack(tensor: Any) -> Any:
            nonlocal count
            count += tensor.numel()
            return tensor

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output, _ = model(x)
        output.square().sum().backward()
        grads.append([output.detach(), *(p.grad for p in model.parameters())])
        kept.append(count)
    assert_same(*grads)
    assert kept[1] < kept[0] / 3


def test_layer_dropout_skips_blocks_in_training_only() -> None:
    model = encoder(num_layers=6, layer_dropout=0.5)
    x = torch.randn(1, 20, 6, dtype=torch.float64)
    assert_same(model(x)[0], model(x)[0])
    calls = []
    for number, block in enumerate(model.blocks):
        block.register_forward_hook(lambda *_, number=number: calls.append(number))
    model.train()
    torch.manual_seed(0)
    for _ in range(200):
        model(x)
    # 1200 draws at one half: a deviation is 17.
    assert 500 < len(calls) < 700 and set(calls) == set(range(6))


def test_learned_positions_are_added_to_the_frames_and_end() -> None:
    model = encoder(position_encoding="learned", max_frames=30)
    x = torch.randn(1, 30, 6, dtype=torch.float64)
    placed = model(x)[0]
    with torch.no_grad():
        expected = model.input(x) + model.positions.table
        for block in model.blocks:
            expected = block(expected)
        expected = model.norm(expected)
    assert torch.allclose(placed, expected)
    with pytest.raises(ValueError, match=r"end at frame 30, .* 31 frames. Use EncoderConfig\(max_frames=31"):
        model(torch.randn(1, 31, 6, dtype=torch.float64))


def test_a_learned_table_counts_frames_and_not_padding() -> None:
    model = encoder(position_encoding="learned", max_frames=10)
    x = torch.randn(2, 25, 6, dtype=torch.float64)
    output, _ = model(x, torch.tensor([10, 7]))
    assert torch.allclose(output[:, :10], model(x[:, :10], torch.tensor([10, 7]))[0])
    with pytest.raises(ValueError, match="audio has 11 frames"):
        model(x, torch.tensor([11, 7]))


def test_what_does_not_stream_says_so() -> None:
    for block in ("bigru", "mlp", "linear"):
        with pytest.raises(ValueError, match=f'block="{block}" does not stream'):
            encoder(block=block).initial_state()


def test_a_push_of_another_shape_or_dtype_is_refused() -> None:
    model = encoder()
    with pytest.raises(ValueError, match=r"frames \[B, T, 6\], got \[100, 6\]"):
        model.step(torch.zeros(100, 6), model.initial_state())
    with pytest.raises(TypeError, match=r"must be torch.float64 as the encoder is, got torch.float16"):
        model.step(torch.zeros(1, 5, 6).half(), model.initial_state())


def test_an_empty_row_among_others_in_a_bigru() -> None:
    model = encoder(block="bigru")
    output, _ = model(torch.randn(3, 12, 6, dtype=torch.float64), torch.tensor([0, 12, 1]))
    assert torch.all(output[0] == 0) and output.isfinite().all()


def frames_of(frames: Any) -> Any:
    return torch.randn(1, frames, 6, dtype=torch.float64)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit")
@pytest.mark.parametrize("position_encoding", ["learned", "sinusoidal", "relative"])
def test_a_traced_encoder_takes_more_frames_than_it_was_traced_with(position_encoding: Any) -> None:
    model = encoder(position_encoding=position_encoding, max_frames=100)
    with torch.no_grad():
        traced = torch.jit.trace(model, (frames_of(40), torch.tensor([40])), check_trace=False)  # type: ignore[no-untyped-call]
        for frames in (57, 23):
            x, lengths = frames_of(frames), torch.tensor([frames - 3])
            assert_same(traced(x, lengths)[0], model(x, lengths)[0])


def test_gradients_of_torch_func_are_those_of_autograd_when_checkpointing_is_set() -> None:
    model = encoder(position_encoding="alibi", gradient_checkpointing=True, backend="dense").train()
    x, weights = frames_of(20), dict(model.named_parameters())
    got = torch.func.grad(lambda w: torch.func.functional_call(model, w, (x,))[0].square().sum())(weights)
    model(x)[0].square().sum().backward()
    assert_same([got[name] for name in weights], [parameter.grad for parameter in weights.values()])
