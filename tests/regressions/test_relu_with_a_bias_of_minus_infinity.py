"""Banded attention marks what lies outside the context by -inf, and took a bias of -inf for the same.

Relu divides by the number of visible keys, so the two backends disagreed.
"""

import math

import torch

from speechattn.attention.functional import attention
from speechattn.context import Context


def test_dense_and_banded_agree() -> None:
    context = Context.truncated(2, 2)
    q, k, v = torch.randn(3, 1, 1, 40, 4, dtype=torch.float64)
    for bias in (torch.zeros(1, 5, dtype=torch.float64), torch.full((1, 5), -math.inf, dtype=torch.float64)):
        bias[0, 0] = -math.inf
        dense, banded = (
            attention(q, k, v, context, activation="relu", relative_bias=bias, backend=backend)
            for backend in ("dense", "banded")
        )
        assert banded.isfinite().all() and (dense - banded).abs().max() < 1e-10
