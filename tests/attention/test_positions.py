"""Positions: absolute indices in, distances out, and the table that no context can outgrow."""

from typing import Any

import pytest
import torch

from speechattn.attention.functional import attention
from speechattn.attention.positions import LearnedPositions, RelativeBias, alibi, angles, rotary, sinusoidal
from speechattn.context import Context
from speechattn.encoder.self_attention import SelfAttention


def test_rotary_scores_depend_on_the_distance_alone_after_ten_hours() -> Any:
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)

    def score(query_frame: Any, key_frame: Any) -> Any:
        return (rotary(q, torch.tensor([query_frame])) * rotary(k, torch.tensor([key_frame]))).sum()

    # An angle near 3.6e6 radians carries 3.6e6 * 2**-53 = 4e-10 of rounding in float64.
    assert (score(17, 12) - score(3_600_017, 3_600_012)).abs() < 1e-8
    assert (score(17, 12) - score(12, 17)).abs() > 1e-3


def test_rotary_keeps_lengths_and_float32_stays_accurate_far_out() -> None:
    x = torch.randn(1, 2, 5, 8)
    frames = torch.arange(5) + 3_600_000
    turned = rotary(x, frames)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert (turned.double() - rotary(x.double(), frames)).abs().max() < 1e-5


def test_sinusoidal_is_bounded_distinct_and_takes_odd_widths() -> None:
    table = sinusoidal(torch.arange(500), 33)
    assert table.shape == (500, 33) and table.abs().max() <= 1
    assert torch.cdist(table, table).add(torch.eye(500) * 9).min() > 1e-2
    assert angles(torch.tensor([2]), 3)[0, 0] == 2.0


@pytest.mark.parametrize(
    ("context", "peaks"),
    [(Context.truncated(9, 9), [0, -1, 1, -2, 2, -4]), (Context.causal(3), [0, -1, 0, -2, 0, -3])],
)
def test_heads_start_as_the_taps_of_a_convolution(context: Context, peaks: Any) -> None:
    table = RelativeBias(7, context).table
    assert [context.offsets()[i] for i in table.argmax(1).tolist()[:-1]] == peaks
    assert table[-1].max() - table[-1].min() < 1  # the last head starts out nearly even


def test_another_context_shares_the_ends_of_the_table() -> None:
    bias = RelativeBias(2, Context.truncated(2, 1))
    torch.nn.init.normal_(bias.table)
    wide = bias(Context.truncated(5, 3))
    assert wide.shape == (2, 9)
    assert torch.equal(wide[:, 3:7], bias.table)
    assert torch.all(wide[:, :3] == bias.table[:, :1]) and torch.all(wide[:, 7:] == bias.table[:, -1:])
    assert torch.equal(bias(Context.truncated(1, 0)), bias.table[:, 1:3])
    assert bias(Context.truncated(2, 1)) is bias.table


@pytest.mark.parametrize("position_encoding", ["none", "rotary", "relative", "alibi"])
@pytest.mark.parametrize("context", [Context.truncated(7, 2), Context.chunked(4, 9, 1), Context(None, 1)], ids=str)
def test_every_position_in_every_execution(position_encoding: str, context: Context) -> None:
    layer = SelfAttention(16, 2, context, position_encoding).double()
    x = torch.randn(2, 60, 16, dtype=torch.float64)
    lengths = torch.tensor([60, 22])
    results = []
    for backend in ("dense", "banded"):
        layer.zero_grad()
        output = layer(x, lengths, backend=backend)
        output.square().sum().backward()
        results.append([output, *(p.grad.clone() for p in layer.parameters())])  # type: ignore[union-attr]
    for dense, banded in zip(*results, strict=True):
        assert (dense - banded).abs().max() < 1e-10


def test_impossible_layers_are_refused() -> None:
    with pytest.raises(ValueError, match="divisible by num_heads"):
        SelfAttention(16, 3, Context.full())
    with pytest.raises(ValueError, match="one of none, rotary, relative, alibi, got 'relatve'"):
        SelfAttention(16, 2, Context.full(), "relatve")
    with pytest.raises(ValueError, match="one of softmax, relu"):
        SelfAttention(16, 2, Context.full(), activation="sofmax")
    with pytest.raises(ValueError, match="even head"):
        SelfAttention(6, 2, Context.full(), "rotary")


def test_alibi_has_the_slopes_of_the_paper() -> None:
    table = alibi(8, range(-3, 3))
    assert torch.equal(table[:, 3], torch.zeros(8))
    assert torch.allclose(-table[:, 2], torch.tensor([2.0**-n for n in range(1, 9)]))
    assert torch.equal(table[:, 0], 3 * table[:, 2]) and torch.equal(table[:, 4], table[:, 2])


@pytest.mark.parametrize("context", [Context.causal(), Context.full(), Context(None, 3, 4), Context(2, None)], ids=str)
@pytest.mark.parametrize("backend", ["dense", "banded", "auto"])
def test_alibi_falls_on_where_a_learned_table_ends(context: Context, backend: str) -> None:
    """300 frames of a side without limit: a table of 128 distances would hold the rest at its end."""
    num_frames = 300
    layer = SelfAttention(8, 2, context, "alibi").double()
    q, k, v = layer.project(torch.randn(1, num_frames, 8, dtype=torch.float64))
    bias = layer.bias(context, num_frames)
    output = attention(q, k, v, context, relative_bias=bias, backend=backend)
    frames = torch.arange(num_frames)
    distance = (frames - frames[:, None]).abs()
    raw = q @ k.transpose(2, 3) * 4**-0.5 - torch.tensor([1 / 16, 1 / 256])[:, None, None] * distance
    for i in frames.tolist():
        start, stop = context.visible(i, num_frames)
        raw[..., i, :start] = raw[..., i, stop:] = -torch.inf
    assert (output - raw.softmax(-1) @ v).abs().max() < 1e-10


def test_learned_positions_are_rows_and_end() -> None:
    positions = LearnedPositions(10, 4)
    assert torch.equal(positions(3, 7), positions.table[3:])
    with pytest.raises(ValueError, match="end at frame 10, and the audio has 11 frames"):
        positions(3, 8)
