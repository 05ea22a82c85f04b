"""SpecAugment's masks have torchaudio's widths, lie inside their own row, and depend on the generator alone."""

import math
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechattn.augment.specaugment import SpecAugment, draw_frequency_masks


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_generator_decides_and_the_global_generator_is_untouched() -> None:
    augment, frames, lengths = SpecAugment(), torch.randn(3, 200, 40), torch.tensor([200, 120, 0])
    before, state = frames.clone(), torch.get_rng_state()
    first = augment(frames, lengths, generator(3))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    assert torch.equal(first, augment(frames, lengths, generator(3)))
    assert not torch.equal(first, augment(frames, lengths, generator(4))) and not torch.equal(first, frames)
    assert torch.equal(frames, before), "the input was changed in place"


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_padding_is_returned_unchanged_and_neighbours_change_nothing(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 60), min_size=1, max_size=4))
    junk = data.draw(st.sampled_from([0.0, math.nan, math.inf]))
    share = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    augment = SpecAugment(time_mask_frames=data.draw(st.integers(0, 90)), time_mask_share=share, fill=-9.0)
    frames = torch.rand(len(lengths), max(lengths) + 5, 8)
    for b, n in enumerate(lengths):
        frames[b, n:] = junk
    masked = augment(frames, torch.tensor(lengths), generator())
    for b, n in enumerate(lengths):
        torch.testing.assert_close(masked[b, n:], frames[b, n:], rtol=0, atol=0, equal_nan=True)
        hidden = masked[b, :n] != frames[b, :n]
        assert (masked[b, :n][hidden] == -9.0).all()
        others = torch.rand(len(lengths), n, 8)
        others[b] = frames[b, :n]
        alone = augment(others, torch.tensor([n if row == b else 0 for row in range(len(lengths))]), generator())
        assert torch.equal(alone[b], masked[b, :n])


def test_masks_have_torchaudio_s_widths(torchaudio: ModuleType) -> None:
    rows = 20_000
    for num_bins, widest in ((30, 5), (30, 29), (8, 7)):
        masked = draw_frequency_masks(torch.zeros(rows, 1, num_bins), generator(), 1, widest)
        spectrogram = torch.ones(rows, 1, num_bins, 1)  # mask_param is the first width that does not occur
        expected = torchaudio.functional.mask_along_axis_iid(spectrogram, widest + 1, 0.0, axis=2)[:, 0, :, 0] == 0
        ours, theirs = (torch.bincount(mask.sum(1), minlength=num_bins + 1) / rows for mask in (masked, expected))
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)  # five standard deviations of the difference


def test_masks_have_the_sizes_allowed() -> None:
    frames, lengths = torch.ones(400, 60, 10), torch.arange(400) % 61
    narrow = SpecAugment(frequency_masks=1, frequency_mask_bins=4, time_masks=0)(frames, lengths, generator()) == 0
    widths = narrow.any(1).sum(1)
    assert widths.max() == 4 and widths.min() == 0
    assert (narrow.any(1).int().diff(dim=1).abs().sum(1) <= 2).all(), "one mask is one span"
    augment = SpecAugment(frequency_masks=0, time_masks=1, time_mask_frames=12, time_mask_share=0.25)
    times = (augment(frames, lengths, generator()) == 0).all(2).sum(1)
    assert (times <= lengths // 4).all() and times.max() == 12


def test_masks_are_filled_with_the_mean_of_each_bin() -> None:
    frames, fill = torch.randn(2, 50, 8), torch.arange(8.0)
    masked = SpecAugment(fill=fill)(frames, None, generator())
    changed = masked != frames
    assert changed.any() and torch.equal(masked[changed], fill.expand_as(frames)[changed])


@pytest.mark.parametrize("shape", [(0, 10, 8), (2, 0, 8), (1, 1, 8), (2, 3, 1), (2, 3, 0)])
def test_awkward_sizes_keep_their_shape(shape: tuple[int, int, int]) -> None:
    masked = SpecAugment(time_mask_share=1.0)(torch.ones(shape, dtype=torch.float64), None, generator())
    assert masked.shape == shape and masked.dtype == torch.float64


@pytest.mark.parametrize("wrong", [{"frequency_masks": -1}, {"time_mask_frames": -1}, {"time_mask_share": 1.5}])
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SpecAugment(**wrong)


def test_the_call_is_checked() -> None:
    with pytest.raises(TypeError, match=r"torch\.Generator"):
        SpecAugment()(torch.zeros(1, 10, 8), None, 7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="B, T, F"):
        SpecAugment()(torch.zeros(10, 8), None, generator())
    with pytest.raises(ValueError, match="lengths"):
        SpecAugment()(torch.zeros(1, 10, 8), torch.tensor([11]), generator())
