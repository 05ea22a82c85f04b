"""Lengths and masks: what is refused, and that padding is replaced rather than multiplied."""

from typing import Any

import pytest
import torch

from speechattn.lengths import check_lengths, full_lengths, valid_mask, zero_padding


def test_full_lengths_are_int64() -> None:
    lengths = full_lengths(torch.zeros(3, 7, 2))
    assert lengths.tolist() == [7, 7, 7] and lengths.dtype == torch.int64


def test_none_passes_and_int32_becomes_int64() -> None:
    assert check_lengths(None, 2, 5) is None
    assert check_lengths(torch.tensor([0, 5], dtype=torch.int32), 2, 5).dtype == torch.int64  # type: ignore[union-attr]


@pytest.mark.parametrize("bad", [torch.tensor([1.0, 2.0]), torch.tensor([True, False]), [1, 2]])
def test_lengths_of_another_type_are_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="integer tensor"):
        check_lengths(bad, 2, 5)


@pytest.mark.parametrize("bad", [[1], [1, 2, 3]])
def test_lengths_of_another_shape_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"shape \[2\]"):
        check_lengths(torch.tensor(bad), 2, 5)


def test_samples_instead_of_frames_are_recognised() -> None:
    with pytest.raises(ValueError, match=r"\[0, 120\], got 16000. Did you pass samples"):
        check_lengths(torch.tensor([16000]), 1, 120)
    with pytest.raises(ValueError, match="got -1"):
        check_lengths(torch.tensor([-1]), 1, 120)


def test_zero_padding_replaces_nan_and_stops_its_gradient() -> None:
    x = torch.tensor([[[1.0], [float("nan")]], [[2.0], [3.0]]], requires_grad=True)
    y = zero_padding(x, torch.tensor([1, 2]))
    assert y.flatten().tolist() == [1.0, 0.0, 2.0, 3.0]
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad.flatten().tolist() == [1.0, 0.0, 1.0, 1.0]  # type: ignore[union-attr]
    assert zero_padding(x, None) is x
    assert valid_mask(torch.tensor([0, 2]), 2).tolist() == [[False, False], [True, True]]
