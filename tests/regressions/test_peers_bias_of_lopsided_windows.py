"""Relative positions of a window with left != right were read from the wrong place: wrong by 1.4 to 1.95 in NeMo.

Its local attention lays the scores of a window in a row and adds a table of biases to it. With left = right the
middle of both is the frame itself. With another right side the row begins elsewhere, the table does not, and every
score gets the bias of another distance. Here a table has the offsets of its context, and both ends are written out.
"""

from typing import Any

import pytest
import torch

from speechattn.context import Context
from speechattn.encoder.self_attention import SelfAttention

LOPSIDED = [Context.truncated(5, 1), Context.truncated(1, 5), Context.truncated(0, 4), Context.chunked(3, 4, 1)]


def by_hand(layer: Any, x: Any, shift: Any = 0) -> Any:
    """Each pair by itself: q k / sqrt(d) plus the bias of key minus query; `shift` misplaces the table."""
    q, k, v = layer.project(x)
    table, offsets = layer.relative_bias.table, layer.relative_bias.offsets
    rows = []
    for i in range(x.shape[1]):
        start, stop = layer.context.visible(i, x.shape[1])
        scores = (q[0, :, i, None] * k[0, :, start:stop]).sum(-1) * q.shape[-1] ** -0.5
        for j in range(start, stop):
            at = min(max(offsets.index(j - i) + shift, 0), len(offsets) - 1)
            scores[:, j - start] += table[:, at]
        rows.append((scores.softmax(-1)[..., None] * v[0, :, start:stop]).sum(1))
    return layer.output(torch.stack(rows).flatten(1))[None]


def layer_of(context: Any) -> Any:
    layer = SelfAttention(8, 2, context, "relative").double().eval()
    layer.relative_bias.table.data.normal_()  # type: ignore[union-attr]
    return layer


@pytest.mark.parametrize("context", LOPSIDED, ids=str)
@torch.no_grad()
def test_every_score_gets_the_bias_of_its_own_distance(context: Any) -> None:
    layer, x = layer_of(context), torch.randn(1, 40, 8, dtype=torch.float64)
    expected = by_hand(layer, x)
    for backend in ("dense", "banded", "auto"):
        assert (layer(x, backend=backend) - expected).abs().max() < 1e-10
    for size in (1, 3, 7, 40):
        state, parts = layer.initial_state(), []
        for push in x.split(size, 1):  # type: ignore[no-untyped-call]
            part, state = layer.step(push, state)
            parts.append(part)
        parts.append(layer.step(x[:, :0], state, final=True)[0])
        assert (torch.cat(parts, 1) - expected).abs().max() < 1e-10


@torch.no_grad()
def test_a_misplaced_table_would_be_seen() -> None:
    for context in LOPSIDED:
        layer, x = layer_of(context), torch.randn(1, 40, 8, dtype=torch.float64)
        assert (by_hand(layer, x, shift=1) - layer(x)).abs().max() > 1e-2
