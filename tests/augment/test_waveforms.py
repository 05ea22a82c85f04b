"""Speed and noise on waveforms: torchaudio's numbers, exact lengths, and padding that is neither read nor kept."""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechattn.augment.waveforms import change_speed, mix_noise, samples_at_speed, speed_ratio
from speechattn.errors import UserError
from speechattn.system.optional_imports import require_torchaudio

try:
    require_torchaudio("This test")
    missing = ""
except UserError as error:
    missing = str(error)
needs_torchaudio = pytest.mark.skipif(bool(missing), reason=missing)
speeds = st.sampled_from([0.5, 0.9, 0.95, 1.0, 1.1, 1.25, 1.33, 2.0])


@needs_torchaudio
@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1, 0.85, 1.37])
def test_speed_is_torchaudio_s(torchaudio: ModuleType, speed: float) -> None:
    waveform, lengths = torch.randn(3, 16_000), torch.tensor([16_000, 9_001, 1])
    faster, new_lengths = change_speed(waveform, speed)
    expected, _ = torchaudio.functional.speed(waveform, 16_000, speed)
    torch.testing.assert_close(faster, expected, rtol=0, atol=1e-6)
    assert new_lengths.tolist() == [faster.shape[1]] * 3
    _, new_lengths = change_speed(waveform, speed, lengths)
    assert torch.equal(new_lengths, torchaudio.functional.speed(waveform, 16_000, speed, lengths)[1])


@needs_torchaudio
@given(data=st.data(), speed=speeds, wide=st.booleans())
@settings(max_examples=40, deadline=None)
def test_speed_reads_no_padding_and_leaves_zeros(data: st.DataObject, speed: float, wide: bool) -> None:
    samples = data.draw(st.lists(st.integers(0, 400), min_size=1, max_size=4))
    clean = torch.randn(len(samples), max(samples) + 7, dtype=torch.float64 if wide else torch.float32)
    junk = data.draw(st.sampled_from([0.0, math.nan, math.inf, 1e30]))
    waveform = clean.clone()
    for b, n in enumerate(samples):
        waveform[b, n:] = junk
    faster, lengths = change_speed(waveform, speed, torch.tensor(samples))
    assert faster.dtype == clean.dtype and faster.shape == (len(samples), samples_at_speed(clean.shape[1], speed))
    for b, n in enumerate(samples):
        count = int(lengths[b])
        assert count == samples_at_speed(n, speed) == math.ceil(n / speed_ratio(speed))
        assert (faster[b, count:] == 0).all()
        alone, _ = change_speed(clean[b : b + 1, :n], speed)
        torch.testing.assert_close(faster[b : b + 1, :count], alone, rtol=0, atol=1e-10 if wide else 1e-5)


@needs_torchaudio
@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_a_tone_moves_by_the_factor(speed: float) -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16_000) / 16_000)[None]
    faster, _ = change_speed(tone, speed)
    spectrum = torch.fft.rfft(faster[0] * torch.hann_window(faster.shape[1])).abs()
    assert spectrum.argmax().item() * 16_000 / faster.shape[1] == pytest.approx(1000 * speed, abs=2)


@needs_torchaudio
@pytest.mark.parametrize(("speed", "samples"), [(1.37, 192_111), (0.9, 1_888_003)])
def test_lengths_of_long_rows_are_whole_numbers(torchaudio: ModuleType, speed: float, samples: int) -> None:
    """torchaudio reckons them in float32 and drops the last sample here."""
    waveform = torch.zeros(1, samples)
    waveform[0, -1] = 1.0
    exact = math.ceil(samples / speed_ratio(speed))
    assert torchaudio.functional.speed(waveform, 16_000, speed)[0].shape[1] == exact - 1
    for row_lengths in (None, torch.tensor([samples])):
        faster, lengths = change_speed(waveform, speed, row_lengths)
        assert faster.shape[1] == lengths.item() == exact
        assert faster[0].abs().argmax() >= exact - 2, "the end is where it belongs"


@needs_torchaudio
def test_the_gradient_of_speed_stays_inside_the_row() -> None:
    waveform = torch.randn(2, 300, requires_grad=True)
    change_speed(waveform, 1.1, torch.tensor([300, 100]))[0].square().sum().backward()  # type: ignore[no-untyped-call]
    assert waveform.grad is not None and waveform.grad.isfinite().all()
    assert (waveform.grad[1, 100:] == 0).all() and (waveform.grad[1, :100] != 0).any()


def test_a_speed_of_one_and_no_samples_need_no_torchaudio() -> None:
    waveform = torch.randn(2, 30)
    same, lengths = change_speed(waveform, 1.0, torch.tensor([30, 10]))
    assert torch.equal(same[0], waveform[0]) and (same[1, 10:] == 0).all() and lengths.tolist() == [30, 10]
    for shape in ((0, 30), (2, 0)):
        empty, lengths = change_speed(torch.zeros(shape), 0.5)
        assert empty.shape == (shape[0], 2 * shape[1]) and lengths.tolist() == [2 * shape[1]] * shape[0]
        assert mix_noise(torch.zeros(shape), torch.zeros(shape), 10.0).shape == shape


@pytest.mark.parametrize(
    ("speed", "message"),
    [
        (0.0, "speed must be 0.1 to 10"),
        (-1.0, "speed must be"),
        (math.nan, "speed must be"),
        (11.0, "speed must be"),
        (1.0101, "at most two decimals, got 1.0101: use 1.01"),
    ],
)
def test_speeds_are_checked(speed: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change_speed(torch.zeros(1, 10), speed)


@pytest.mark.parametrize("call", [lambda x, n: change_speed(x, 1.1, n), lambda x, n: mix_noise(x, x, 5.0, n)])
def test_waveforms_and_lengths_are_checked(call: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"torch\.int16"):
        call(torch.zeros(1, 10, dtype=torch.int16), None)
    with pytest.raises(ValueError, match=r"waveform\[None\]"):
        call(torch.zeros(10), None)
    with pytest.raises(ValueError, match="valid sample counts"):
        call(torch.zeros(1, 10), torch.tensor([11]))
    holed = torch.zeros(2, 10)
    holed[1, 3] = math.nan
    with pytest.raises(UserError, match="row 1 holds nan at sample 3"):
        call(holed, None)
    holed[1, 3] = -20_000
    with pytest.raises(UserError, match=r"row 1 holds -20000 at sample 3; .* divide by 32768: waveform / 32768\.$"):
        call(holed, None)


@needs_torchaudio
@given(data=st.data(), wide=st.booleans())
@settings(max_examples=40, deadline=None)
def test_noise_has_the_ratio_asked_for_over_the_valid_samples(data: st.DataObject, wide: bool) -> None:
    samples = data.draw(st.lists(st.integers(0, 300), min_size=1, max_size=4))
    snr = torch.tensor(data.draw(st.lists(st.floats(-20, 40), min_size=len(samples), max_size=len(samples))))
    junk = data.draw(st.sampled_from([0.0, math.nan, math.inf, 1e30]))
    dtype = torch.float64 if wide else torch.float32
    clean, noise = torch.randn(2, len(samples), max(samples) + 5, dtype=dtype)
    waveform, hiss = clean.clone(), noise.clone()
    for b, n in enumerate(samples):
        waveform[b, n:] = hiss[b, n:] = junk
    mixed = mix_noise(waveform, hiss, snr, torch.tensor(samples))
    assert mixed.dtype == dtype and mixed.shape == clean.shape
    for b, n in enumerate(samples):
        assert (mixed[b, n:] == 0).all()
        added = mixed[b, :n].double() - clean[b, :n].double()
        if n:
            ratio = 10 * torch.log10(clean[b, :n].double().square().sum() / added.square().sum())
            assert ratio.item() == pytest.approx(snr[b].item(), abs=0.01)
            torch.testing.assert_close(
                added / added.norm(), noise[b, :n].double() / noise[b, :n].double().norm(), rtol=0, atol=1e-3
            )


@needs_torchaudio
def test_noise_is_torchaudio_s(torchaudio: ModuleType) -> None:
    waveform, noise, snr = torch.randn(3, 500), torch.randn(3, 500), torch.tensor([0.0, 10.0, -5.0])
    lengths = torch.tensor([500, 200, 1])
    expected = torchaudio.functional.add_noise(waveform, noise, snr, lengths)
    for b, (mixed, n) in enumerate(zip(mix_noise(waveform, noise, snr, lengths), lengths.tolist(), strict=True)):
        torch.testing.assert_close(mixed[:n], expected[b, :n], rtol=0, atol=1e-5)


@needs_torchaudio
def test_silence_has_no_ratio() -> None:
    waveform, noise = torch.randn(3, 100), torch.randn(3, 100)
    waveform[0] = noise[1] = 0.0
    waveform[2] = noise[2] = 0.0
    assert torch.equal(mix_noise(waveform, noise, 5.0), waveform)


@pytest.mark.parametrize("snr", [math.nan, math.inf, torch.zeros(3), torch.zeros(2, 1)])
def test_ratios_and_noise_are_checked(snr: Any) -> None:
    with pytest.raises(ValueError, match="snr_db must be one finite number"):
        mix_noise(torch.ones(2, 10), torch.ones(2, 10), snr)
    with pytest.raises(ValueError, match=r"shape \[2, 10\], got \[1, 10\]"):
        mix_noise(torch.ones(2, 10), torch.ones(1, 10), 5.0)


def test_without_torchaudio_one_line_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchaudio", None)
    with pytest.raises(UserError, match="Changing the speed of a waveform needs torchaudio"):
        change_speed(torch.ones(1, 10), 1.1)
    with pytest.raises(UserError, match="Mixing noise into a waveform needs torchaudio"):
        mix_noise(torch.ones(1, 10), torch.ones(1, 10), 5.0)
