"""Muon: orthogonal updates of the size of AdamW's, and a loss that goes down."""

import pytest
import torch

from speechattn.training.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(8, 8), (5, 40), (40, 5), (1, 7)])
def test_singular_values_are_near_one(shape: tuple[int, int]) -> None:
    # Jordan's coefficients settle between 0.7 and 1.2; singular values 1000 times smaller than the largest lag behind.
    update = torch.randn(*shape, dtype=torch.float64)
    values = torch.linalg.svdvals(orthogonalize(update))
    assert values.min() > 0.6 and values.max() < 1.3


def test_the_directions_stay() -> None:
    u, _, v = torch.linalg.svd(torch.randn(6, 9, dtype=torch.float64), full_matrices=False)
    moved = orthogonalize(u @ torch.diag(torch.linspace(1, 2, 6, dtype=torch.float64)) @ v)
    inside = u.T @ moved @ v.T
    assert (inside - torch.diag(inside.diagonal())).abs().max() < 1e-10
    assert inside.diagonal().min() > 0


def test_a_step_is_as_large_as_the_learning_rate_says() -> None:
    weight = torch.nn.Parameter(torch.zeros(64, 256))
    optimizer = Muon([weight], lr=0.1)
    weight.grad = torch.randn(64, 256) * 1e-6  # the size of the gradient does not matter
    optimizer.step()
    # An orthogonal [m, n] with m <= n has root mean square 1 / sqrt(n).
    assert weight.detach().square().mean().sqrt() == pytest.approx(0.1 * 0.2, rel=0.2)


def test_weight_decay_is_decoupled_and_missing_gradients_are_skipped() -> None:
    weight, frozen = torch.nn.Parameter(torch.ones(3, 3)), torch.nn.Parameter(torch.ones(3, 3))
    optimizer = Muon([weight, frozen], lr=0.5, weight_decay=0.1)
    weight.grad = torch.zeros(3, 3)
    optimizer.step()
    assert torch.allclose(weight.detach(), torch.full((3, 3), 0.95))
    assert torch.all(frozen == 1)


def test_muon_solves_a_least_squares_problem() -> None:
    x, wanted = torch.randn(200, 6), torch.randn(6, 4)
    weight = torch.nn.Parameter(torch.zeros(6, 4))
    optimizer = Muon([weight], lr=0.5)
    losses = []
    for step in range(60):
        optimizer.param_groups[0]["lr"] = 0.5 * (1 - step / 60)
        loss = (x @ weight - x @ wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.02 * losses[0]


def test_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[3\]"):
        Muon([torch.nn.Parameter(torch.zeros(3))])
