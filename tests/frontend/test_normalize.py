"""Normalize equals the statistics of all frames at once (1e-6: its buffers are float32), and padding stays zero."""

import pytest
import torch
from rounding import assert_same

from speechattn.errors import UserError
from speechattn.frontend.normalize import Normalize


def corpus() -> list[torch.Tensor]:
    deviation, offset = torch.tensor([0.5, 3.0, 1.0]), torch.tensor([1000.0, -10.0, 0.0])
    return [torch.randn(t, 3) * deviation + offset for t in (1, 0, 7, 500, 33)]


def test_normalize_is_the_identity_until_fitted() -> None:
    frames = torch.randn(2, 5, 3)
    assert torch.equal(Normalize(3)(frames), frames)


def test_fit_equals_all_frames_at_once() -> None:
    everything = corpus()
    together = torch.cat(everything).double()
    normalize = Normalize.fit(iter(everything))
    torch.testing.assert_close(normalize.mean.double(), together.mean(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(normalize.std.double(), together.std(0, correction=0), rtol=1e-6, atol=0)
    result = normalize(together.float()[None])[0]
    torch.testing.assert_close(result.mean(0), torch.zeros(3), rtol=0, atol=1e-3)
    torch.testing.assert_close(result.std(0, correction=0), torch.ones(3), rtol=0, atol=1e-3)


def test_a_large_mean_costs_no_digits() -> None:
    frames = torch.randn(1000, 1, dtype=torch.float64) + 1e8
    normalize = Normalize.fit(torch.chunk(frames, 100))
    torch.testing.assert_close(normalize.std.double(), frames.std(0, correction=0), rtol=1e-5, atol=0)


def test_a_constant_feature_is_floored() -> None:
    normalize = Normalize.fit([torch.full((10, 2), 4.0)], min_std=0.5)
    assert normalize.std.tolist() == [0.5, 0.5]
    assert (normalize(torch.full((1, 1, 2), 4.0)) == 0).all()


@pytest.mark.parametrize("grad", [False, True])
def test_padding_is_zero_whatever_it_holds(grad: bool) -> None:
    normalize = Normalize.fit(corpus())
    frames = torch.randn(2, 6, 3)
    frames[1, 2:] = float("nan")
    frames.requires_grad_(grad)
    result = normalize(frames, torch.tensor([6, 2]))
    assert (result[1, 2:] == 0).all()
    assert_same(result[1:, :2], normalize(frames[1:, :2]))
    if grad:
        result.sum().backward()
        assert frames.grad is not None and frames.grad.isfinite().all() and (frames.grad[1, 2:] == 0).all()


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3)])
def test_empty_batches_stay_empty(shape: tuple[int, ...]) -> None:
    assert Normalize(3)(torch.zeros(shape)).shape == shape


def test_it_is_saved_with_the_model_and_follows_the_dtype() -> None:
    fitted, fresh = Normalize.fit(corpus()), Normalize(3)
    assert sorted(fitted.state_dict()) == ["mean", "std"]
    fresh.load_state_dict(fitted.state_dict())
    frames = torch.randn(1, 4, 3)
    assert_same(fresh(frames), fitted(frames))
    assert fitted(frames.double()).dtype == torch.float64


@pytest.mark.parametrize("empty", [[], [torch.zeros(0, 3)]])
def test_an_empty_corpus_is_refused(empty: list[torch.Tensor]) -> None:
    with pytest.raises(UserError, match="no frames"):
        Normalize.fit(empty)


def test_frames_that_are_not_finite_are_named() -> None:
    with pytest.raises(UserError, match="item 1 "):
        Normalize.fit([torch.zeros(2, 3), torch.full((2, 3), float("nan"))])


@pytest.mark.parametrize("item", [torch.zeros(3), torch.zeros(1, 2, 3), torch.zeros(2, 4)])
def test_a_wrong_shape_is_refused(item: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"item 1 of the corpus must be frames \[T, 3\]"):
        Normalize.fit([torch.zeros(2, 3), item])


@pytest.mark.parametrize("frames", [torch.zeros(3), torch.zeros(2, 3), torch.zeros(1, 2, 4)])
def test_a_wrong_batch_is_refused(frames: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"frames must be \[B, T, 3\], got"):
        Normalize(3)(frames)


def test_no_features_is_refused() -> None:
    with pytest.raises(ValueError, match="num_features"):
        Normalize(0)
