"""One table of backends, whose names are those of a config; old argument names fail with the new ones."""

import pytest
import torch

import speechattn as sa
from speechattn.attention.call import AttentionCall
from speechattn.attention.dispatch import BACKENDS, choose, cuda_backends, unsupported_reason
from speechattn.attention.masks import context_mask
from speechattn.attention.native.attention import native_unavailable
from speechattn.attention.qkv import QKV, from_parts, unpack
from speechattn.config import BACKENDS as NAMES
from speechattn.context import Context
from speechattn.encoder.self_attention import SelfAttention

WINDOW = Context.truncated(5, 3)


def test_every_backend_of_a_config_is_in_the_table() -> None:
    assert ["auto", *BACKENDS, *cuda_backends()] == list(NAMES)


def test_auto_takes_only_what_takes_the_call_and_streams_where_the_context_does() -> None:
    for dtype in (torch.float32, torch.float64):
        for context in (WINDOW, Context.full(), Context.causal(), Context.chunked(4, 8, 2)):
            for activation in ("softmax", "relu"):
                qkv, call = unpack(torch.zeros(1, 600, 3, 2, 8, dtype=dtype)), AttentionCall(context, None, activation)
                chosen = choose(qkv, call)
                assert unsupported_reason(chosen, qkv, call) is None
                assert BACKENDS[chosen].step is not None or context == Context.full()


def test_backends_get_features_side_by_side_and_gradients_return_to_any_layout() -> None:
    strided = torch.randn(2, 40, 3, 2, 16, 2)[..., 1].requires_grad_()
    assert strided.stride(-1) == 2 and from_parts(unpack(strided).with_unit_stride().parts).q.stride(-1) == 1
    expanded = torch.randn(1, 2, 40, 1).expand(1, 2, 40, 16)
    assert QKV(expanded, expanded, expanded).with_unit_stride().k.stride(-1) == 1
    results = []
    for backend in ("dense", "banded", "windows", *(["native"] if native_unavailable() is None else [])):
        output = sa.packed_attention(strided, WINDOW, backend=backend)
        grad = torch.ones(2, 2, 40, 1).expand_as(output)  # a last stride of 0
        results.append((output, *torch.autograd.grad(output, strided, grad)))
    for found in results[1:]:
        for x, y in zip(found, results[0], strict=True):
            assert (x - y).abs().max() < 1e-5  # float32


def test_old_argument_names_fail_with_the_new_ones() -> None:
    q = torch.zeros(1, 1, 4, 8)
    for old, new in (("execution", "backend"), ("scores", "activation")):
        with pytest.raises(TypeError, match=rf"^attention\(\) has no argument '{old}': use {new}=\.$"):
            sa.attention(q, q, q, WINDOW, **{old: "dense"})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=rf"^packed_attention\(\) has no argument '{old}': use {new}=\.$"):
            sa.packed_attention(torch.zeros(1, 4, 3, 1, 8), WINDOW, **{old: "dense"})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=rf"^SelfAttention\(\) has no argument '{old}': use {new}=\.$"):
            SelfAttention(8, 2, WINDOW, **{old: "relu"})
    with pytest.raises(TypeError, match=r"^SelfAttention\(\) has no argument 'positions': use position_encoding=\.$"):
        SelfAttention(8, 2, WINDOW, positions="relative")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^attention_weights\(\) has no argument 'scores': use activation=\.$"):
        sa.attention_weights(q, q, WINDOW, scores="relu")  # type: ignore[call-arg]


def test_the_windows_of_other_libraries_translate_as_documented() -> None:
    # A decoder's sliding_window of 3 in transformers: key > query - 3, causal.
    query, key = torch.arange(9)[:, None], torch.arange(9)
    assert torch.equal(context_mask(Context.causal(3 - 1), 9), (key > query - 3) & (key <= query))
    # window_size=(4, 1) of flash-attention and varlen_attn: inclusive on both sides.
    assert torch.equal(context_mask(Context.truncated(4, 1), 9), (key >= query - 4) & (key <= query + 1))
