"""A table of relative biases has the size of its window, and a fine-tune with a wider one could not begin from it.

torch named two shapes, without a way to come from one to the other.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch

import speechattn as sa

CONFIG = sa.EncoderConfig(6, d_model=8, num_heads=2, num_layers=2, context=sa.Context(3, 1))


def encoder_of(context: Any) -> Any:
    torch.manual_seed(0)
    encoder = sa.Encoder(replace(CONFIG, context=context)).double().eval()
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return encoder


@pytest.mark.parametrize(
    "new",
    [sa.Context(9, 5), sa.Context(1, 0), sa.Context.chunked(4, 2, 1), sa.Context.causal(), sa.Context.full()],
    ids=str,
)
def test_an_encoder_with_another_window_begins_as_the_old_one_with_that_window_in_the_call(new: Any) -> None:
    old = encoder_of(CONFIG.context)
    other = encoder_of(new)
    other.load_state_dict(sa.resize_relative_bias(old.state_dict(), CONFIG.context, new))
    frames = torch.randn(2, 40, 6, dtype=torch.float64)
    torch.testing.assert_close(other(frames)[0], old(frames, context=new)[0], atol=1e-10, rtol=0)


def test_a_wider_encoder_computes_what_the_old_one_does_for_the_old_window() -> None:
    old, wide = encoder_of(CONFIG.context), encoder_of(sa.Context(9, 5))
    wide.load_state_dict(sa.resize_relative_bias(old.state_dict(), CONFIG.context, sa.Context(9, 5)))
    frames = torch.randn(2, 40, 6, dtype=torch.float64)
    torch.testing.assert_close(wide(frames, context=CONFIG.context)[0], old(frames)[0], atol=1e-10, rtol=0)


def test_contexts_of_layers_are_matched_by_number_though_files_list_names_by_letter() -> None:
    old = [sa.Context(layer, 1) for layer in range(11)]
    weights = {f"blocks.{layer}.attention.relative_bias.table": torch.randn(2, 2 + layer) for layer in range(11)}
    resized = sa.resize_relative_bias(dict(sorted(weights.items())), old, sa.Context(12, 1))
    for layer in range(11):
        name = f"blocks.{layer}.attention.relative_bias.table"
        expected = torch.cat((weights[name][:, :1].expand(2, 12 - layer), weights[name]), 1)
        assert torch.equal(resized[name], expected)


def test_loading_without_it_names_it_and_wrong_arguments_are_explained() -> None:
    old, wide = encoder_of(CONFIG.context), encoder_of(sa.Context(9, 5))
    with pytest.raises(RuntimeError, match=r"blocks.1.*\[2, 5\], not \[2, 15\].*sa.resize_relative_bias"):
        wide.load_state_dict(old.state_dict())
    with pytest.raises(ValueError, match=r"has 5 distances, and old=\(left 2, right 1\) has 4"):
        sa.resize_relative_bias(old.state_dict(), sa.Context(2, 1), sa.Context(9, 5))
    with pytest.raises(ValueError, match="new must be one Context, or one for each of 2 tables, got 3"):
        sa.resize_relative_bias(old.state_dict(), CONFIG.context, [sa.Context(9, 5)] * 3)
    with pytest.raises(ValueError, match=r"no relative_bias\.table"):
        sa.resize_relative_bias({}, CONFIG.context, sa.Context(9, 5))
