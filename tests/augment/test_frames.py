"""Augment: the same generator gives the same batch, padding is left alone, and each part does what its name says."""

import math
from typing import Any

import pytest
import torch
from rounding import assert_same

from speechattn.augment.frames import (
    NATS_PER_DB,
    Augment,
    add_noise,
    filter_curve,
    time_stretch,
    warp_frequency,
)
from speechattn.augment.specaugment import draw_frequency_masks, draw_time_masks

OFF = Augment(warp=None, tilt_db=0, curve_db=0, snr_db=None, gain_db=0, frequency_masks=0, time_masks=0)
PARTS = {
    "warp": Augment(tilt_db=0, curve_db=0, snr_db=None, gain_db=0, frequency_masks=0, time_masks=0),
    "filter": Augment(warp=None, snr_db=None, gain_db=0, frequency_masks=0, time_masks=0),
    "noise": Augment(warp=None, tilt_db=0, curve_db=0, gain_db=0, frequency_masks=0, time_masks=0),
    "gain": Augment(warp=None, tilt_db=0, curve_db=0, snr_db=None, frequency_masks=0, time_masks=0),
    "masks": Augment(warp=None, tilt_db=0, curve_db=0, snr_db=None, gain_db=0, time_masks=4, frequency_masks=4),
    "all": Augment(fill=torch.full((80,), -5.0)),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def speech(batch_size: int = 4, num_frames: int = 300) -> torch.Tensor:
    return torch.randn(batch_size, num_frames, 80) * 2 - 6


def test_everything_off_changes_nothing() -> None:
    frames = speech()
    assert torch.equal(OFF(frames, None, generator()), frames)


@pytest.mark.parametrize("part", PARTS)
def test_the_generator_decides_and_nothing_else(part: str) -> None:
    frames, lengths = speech(), torch.tensor([300, 200, 1, 0])
    before, state = frames.clone(), torch.get_rng_state()
    first = PARTS[part](frames, lengths, generator(3))
    torch.rand(5)
    torch.set_rng_state(state)
    assert_same(first, PARTS[part](frames, lengths, generator(3)))
    assert torch.equal(torch.get_rng_state(), state), "the global generator was touched"
    assert torch.equal(frames, before), "the input was changed in place"
    other = PARTS[part](frames, lengths, generator(4))
    assert first.shape == frames.shape and not torch.equal(first, other) and not torch.equal(first, frames)
    assert first.isfinite().all()


@pytest.mark.parametrize("part", PARTS)
def test_padding_is_returned_unchanged_and_never_read(part: str) -> None:
    lengths = torch.tensor([300, 200, 0])
    frames = speech(3)
    quiet = PARTS[part](frames, lengths, generator())
    for junk in (float("nan"), float("inf"), 1e30):
        padded = frames.clone()
        padded[1, 200:] = padded[2] = junk
        result = PARTS[part](padded, lengths, generator())
        assert_same((result[0], result[1, :200]), (quiet[0], quiet[1, :200]))
        torch.testing.assert_close(result[1, 200:], padded[1, 200:], rtol=0, atol=0, equal_nan=True)
        torch.testing.assert_close(result[2], padded[2], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("shape", [(0, 10, 80), (2, 0, 80), (1, 1, 80), (2, 3, 1), (2, 3, 2)])
def test_awkward_sizes_keep_their_shape(shape: tuple[int, int, int]) -> None:
    result = Augment()(torch.zeros(shape), None, generator())
    assert result.shape == shape and result.isfinite().all()


def test_float64_draws_the_same_numbers() -> None:
    frames = speech()
    wide = Augment()(frames.double(), None, generator())
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), Augment()(frames, None, generator()), rtol=0, atol=1e-4)


@pytest.mark.parametrize("factor", [0.88, 1.0, 1.12])
def test_warp_moves_a_ramp_by_its_factor(factor: float) -> None:
    ramp = torch.arange(80.0).expand(2, 3, 80)
    warped = warp_frequency(ramp, generator(), factor, factor)
    below = int(0.8 * 79 * min(1, factor))
    torch.testing.assert_close(warped[0, 0, :below], torch.arange(80.0)[:below] / factor, rtol=0, atol=1e-3)
    torch.testing.assert_close(warped[..., [0, -1]], ramp[..., [0, -1]], rtol=0, atol=1e-3)
    assert (warped.diff(dim=-1) > 0).all()


def test_filter_stays_within_its_slope_and_deviation() -> None:
    frames = torch.zeros(2000, 1, 80)
    slope = filter_curve(frames, generator(), tilt_db=6, curve_db=0) / NATS_PER_DB
    assert slope.abs().max() <= 6 and slope[:, 0].abs().max() > 5.9
    torch.testing.assert_close(slope[:, 0], -slope[:, -1], rtol=0, atol=1e-4)
    curve = filter_curve(frames, generator(), tilt_db=0, curve_db=2) / NATS_PER_DB
    assert curve.square().mean().sqrt().item() == pytest.approx(2, rel=0.05)
    assert curve.diff(dim=1).abs().max() < 2, "a filter curve is smooth from bin to bin"


def test_noise_has_the_ratio_asked_for() -> None:
    frames, lengths = speech(64), torch.full((64,), 300)
    lengths[::2] = 100
    noisy = add_noise(frames, lengths, generator(), 10.0, 10.0).double()
    added = noisy.exp() - frames.double().exp()
    assert (added > -1e-6).all(), "noise only adds power"
    for b in range(64):
        signal, noise = (x[b, : lengths[b]].sum() for x in (frames.double().exp(), added))
        assert 10 * math.log10(signal / noise) == pytest.approx(10, abs=1.0)


def test_noise_fluctuates_like_chi_square_with_four_degrees_of_freedom() -> None:
    silence = torch.full((8, 2000, 80), -60.0)
    silence[:, 0] = 0.0  # one loud frame, so that the level is known and the rest is noise alone
    noise = add_noise(silence, torch.full((8,), 2000), generator(), 0.0, 0.0)[:, 1:]
    assert noise.std(1).mean().item() == pytest.approx(0.80, abs=0.01)


def test_masks_have_the_sizes_allowed_and_stay_inside_the_row() -> None:
    frames, lengths = torch.zeros(500, 60, 80), torch.arange(500) % 61
    hidden = draw_frequency_masks(frames, generator(), 1, 12)
    widths = hidden.sum(1)
    assert widths.min() == 0 and widths.max() == 12 and hidden[:, 0].any() and hidden[:, -1].any()
    assert (hidden.int().diff(dim=1).abs().sum(1) <= 2).all(), "one mask is one span"
    longest = (lengths // 4).clamp(max=9)
    hidden = draw_time_masks(frames, lengths, generator(), 1, longest)
    assert (hidden.sum(1) <= longest).all() and hidden.sum(1).max() == 9
    assert not (hidden & (torch.arange(60) >= lengths[:, None])).any()


def test_masks_are_filled_with_the_mean_of_each_bin() -> None:
    frames, fill = speech(), torch.arange(80.0)
    augment = Augment(warp=None, tilt_db=0, curve_db=0, snr_db=None, gain_db=0, fill=fill)
    result = augment(frames, None, generator(1))
    changed = result != frames
    assert changed.any() and torch.equal(result[changed], fill.expand_as(frames)[changed])


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.0, 1.1, 2.0, 0.001])
def test_time_stretch_keeps_labels_with_their_frames(factor: float) -> None:
    labels = torch.arange(10).repeat_interleave(20)
    labels[:20] = -100
    frames = labels[:, None].float().expand(200, 3)
    longer, moved = time_stretch(frames, labels, factor)
    assert len(longer) == len(moved) == max(1, round(200 * factor)) and moved.dtype == torch.int64
    inside = (longer[:, 0] == longer[:, 0].round()) & (longer[:, 0] != 0)
    assert torch.equal(longer[inside, 0].long(), moved[inside])
    if factor == 1:
        assert torch.equal(longer, frames) and torch.equal(moved, labels)
    if factor > 0.4:
        counts = torch.bincount(moved[moved > 0], minlength=10)[1:]
        assert ((counts - 20 * factor).abs() <= 1).all()


def test_time_stretch_of_nothing_and_of_something_wrong() -> None:
    empty = (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert len(time_stretch(*empty, 1.1)[0]) == 0
    with pytest.raises(ValueError, match="agree"):
        time_stretch(torch.zeros(4, 3), torch.zeros(5), 1.1)
    with pytest.raises(ValueError, match="factor"):
        time_stretch(torch.zeros(4, 3), torch.zeros(4), 0.0)


@pytest.mark.parametrize(
    "wrong",
    [{"warp": (1.1, 0.9)}, {"warp": (0.0, 1.0)}, {"snr_db": (9.0, 1.0)}, {"gain_db": -1.0}, {"time_mask_share": 2.0}],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"Augment.{next(iter(wrong))}"):
        Augment(**wrong)


def test_the_call_is_checked() -> None:
    with pytest.raises(TypeError, match=r"torch\.Generator"):
        Augment()(speech(), None, 7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="B, T, F"):
        Augment()(torch.zeros(3, 80), None, generator())
    with pytest.raises(ValueError, match="lengths"):
        Augment()(speech(1), torch.tensor([301]), generator())
