"""The attention outside a window: exactly 0 inside the band, and what leaks otherwise."""

import math

import numpy as np
import pytest
import torch

from speechattn.analysis.outside_window import mass_outside
from speechattn.context import Context

CONTEXTS = [
    Context.truncated(3, 2),
    Context.truncated(0, 0),
    Context.chunked(4, left=3, right=2),
    Context.causal(5),
    Context.causal(),
    Context.full(),
]


def uniform(context: Context, num_frames: int, heads: int = 2) -> np.ndarray:
    """Weights [H, T, T], equal for all keys that a frame may attend to."""
    weights = np.zeros((heads, num_frames, num_frames))
    for i in range(num_frames):
        start, stop = context.visible(i, num_frames)
        assert stop is not None
        weights[:, i, start:stop] = 1 / (stop - start)
    return weights


@pytest.mark.parametrize("context", CONTEXTS, ids=str)
@pytest.mark.parametrize("num_frames", [1, 2, 17])
def test_mass_outside_is_exactly_zero_inside_the_band(context: Context, num_frames: int) -> None:
    assert mass_outside(uniform(context, num_frames), context) == 0.0


def test_mass_outside_is_what_leaks() -> None:
    context = Context.truncated(2, 1)
    weights = uniform(context, 20)
    leaking = weights.copy()
    leaking[1, 10, 14] += 0.5
    assert mass_outside(leaking, context) == pytest.approx(0.5 / (weights.sum() + 0.5))
    leaking[1, 10, 14] = 1e-12
    assert mass_outside(leaking, context) > 0
    assert mass_outside(uniform(Context.truncated(3, 1), 20), context) > 0.1
    assert mass_outside(uniform(Context.full(), 20), Context.causal()) > 0.1


def test_mass_outside_hides_neither_signs_nor_nan() -> None:
    context = Context.truncated(0, 0)
    weights = np.eye(4)
    weights[0, 3], weights[3, 0] = 1.0, -1.0
    assert mass_outside(weights, context) == pytest.approx(2 / 6)
    weights[0, 3] = math.nan
    assert math.isnan(mass_outside(weights, context))


def test_mass_outside_of_nothing_and_of_padding_is_zero() -> None:
    assert mass_outside(np.zeros((2, 0, 0)), Context.full()) == 0.0
    assert mass_outside(np.zeros((2, 5, 5)), Context.causal()) == 0.0
    half = torch.tensor(uniform(Context.causal(2), 6), dtype=torch.bfloat16, requires_grad=True)
    assert mass_outside(half, Context.causal(2)) == 0.0
    with pytest.raises(ValueError, match="as many keys as queries"):
        mass_outside(np.zeros((2, 5, 6)), Context.causal())
