"""LogMel's edge cases: shapes, errors, dtypes, constants. Its contracts are in tests/contracts/test_frontend.py."""

import copy
import warnings
from typing import Any

import pytest
import torch
from rounding import assert_same

from speechattn.errors import UserError
from speechattn.framing import Framing
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.mel import band_centres_hz, kaldi_filterbank, slaney_filterbank
from speechattn.frontend.mfcc import MFCC

FLAVORS = ("kaldi", "librosa")


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("shape", [(0, 0), (0, 1600), (2, 0), (2, 159), (1, 160), (3, 1600)])
def test_shapes_of_small_and_empty_batches(flavor: str, shape: tuple[int, int]) -> None:
    frames, lengths = LogMel(40, flavor=flavor)(torch.randn(shape))
    num_frames = Framing().num_frames(shape[1])
    assert frames.shape == (shape[0], num_frames, 40)
    assert lengths.dtype == torch.int64 and lengths.tolist() == [num_frames] * shape[0]


@pytest.mark.parametrize("shape", [(0, 1600), (2, 0), (2, 159)])
def test_empty_batches_take_part_in_a_graph(shape: tuple[int, int]) -> None:
    waveform = torch.randn(shape, requires_grad=True)
    frames, _ = LogMel()(waveform)
    assert frames.numel() == 0


@pytest.mark.parametrize("flavor", FLAVORS)
def test_silence_is_the_floor(flavor: str) -> None:
    frames, _ = LogMel(flavor=flavor)(torch.zeros(1, 1600))
    floor = torch.finfo(torch.float32).eps if flavor == "kaldi" else 1e-10
    torch.testing.assert_close(frames, torch.full((1, 10, 80), floor).log())


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_tone_is_loudest_in_the_band_that_holds_it(flavor: str) -> None:
    seconds = torch.arange(16_000) / 16_000
    frames, _ = LogMel(flavor=flavor)(torch.sin(2 * torch.pi * 1000 * seconds)[None])
    build = kaldi_filterbank if flavor == "kaldi" else slaney_filterbank
    n_fft = 512 if flavor == "kaldi" else 400
    weights = build(80, n_fft, 16_000, 20.0 if flavor == "kaldi" else 0.0, 8000.0)
    assert frames[0, 50].argmax() == weights[1000 * n_fft // 16_000].argmax()


def test_causal_frames_are_snip_frames_of_the_padded_signal() -> None:
    waveform = torch.randn(1, 8000)
    padded = torch.nn.functional.pad(waveform, (240, 0))
    causal, _ = LogMel()(waveform)
    snip, _ = LogMel(framing=Framing(align="snip"))(padded)
    assert_same(causal, snip)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_float64_after_double_is_as_exact_as_built_in_float64(flavor: str) -> None:
    waveform = torch.randn(1, 4000, dtype=torch.float64)
    moved, _ = LogMel(flavor=flavor).double()(waveform)
    torch.set_default_dtype(torch.float64)
    try:
        built, _ = LogMel(flavor=flavor)(waveform)
    finally:
        torch.set_default_dtype(torch.float32)
    assert moved.dtype == torch.float64
    assert_same(moved, built)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_half_precision_model_keeps_its_features(flavor: str) -> None:
    waveform = torch.randn(1, 4000)
    module = LogMel(flavor=flavor)
    assert_same(copy.deepcopy(module).half()(waveform)[0], module(waveform)[0])


@pytest.mark.parametrize("flavor", FLAVORS)
def test_autocast_does_not_reach_the_features(flavor: str) -> None:
    waveform, module = torch.randn(1, 4000), LogMel(flavor=flavor)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        frames, _ = module(waveform)
    assert_same(frames, module(waveform)[0])


def test_constants_survive_materialisation_and_are_not_saved() -> None:
    module = LogMel()
    expected, _ = module(waveform := torch.randn(1, 1600))
    assert module.state_dict() == {}
    assert_same(module.to("meta").to_empty(device="cpu")(waveform)[0], expected)


def test_strided_and_expanded_waveforms() -> None:
    base = torch.randn(3200, 2)
    module = LogMel()
    torch.testing.assert_close(module(base.T)[0], module(base.T.contiguous())[0], rtol=0, atol=1e-5)
    expanded, _ = module(base[:, 0].expand(3, -1))
    assert_same(expanded[0], expanded[2])


@pytest.mark.parametrize("flavor", FLAVORS)
def test_other_rates_and_odd_windows(flavor: str) -> None:
    framing = Framing(sample_rate=8000, window=201, hop=80, align="snip")
    module = LogMel(23, framing, flavor)
    assert module.n_fft == (256 if flavor == "kaldi" else 201)
    frames, lengths = module(torch.randn(2, 800), torch.tensor([800, 250]))
    assert frames.shape == (2, 8, 23) and lengths.tolist() == [8, 1] and frames.isfinite().all()


@pytest.mark.parametrize("rate", [8000, 24_000, 44_100, 48_000])
def test_at_every_rate_the_frames_are_those_of_kaldi_and_librosa(rate: int) -> None:
    """Windows, hops, FFT size and the ends of the bands all follow the rate."""
    pytest.importorskip("numba", reason="librosa computes with numba")
    librosa = pytest.importorskip("librosa")
    kaldi = pytest.importorskip("torchaudio.compliance.kaldi", reason="compares with torchaudio", exc_type=ImportError)
    waveform = torch.randn(1, rate // 2) * 0.1
    expected = kaldi.fbank(waveform, num_mel_bins=40, sample_frequency=rate, dither=0.0)
    frames, _ = LogMel(40, Framing(sample_rate=rate, align="snip"))(waveform)
    assert frames.shape[1] == len(expected) == 48
    assert (frames[0] - expected).abs().max() < 1e-4  # 2e-4 of a logarithm is what float32 can do in a quiet band
    window, hop = rate * 25 // 1000, rate // 100
    power = librosa.feature.melspectrogram(
        y=waveform[0].numpy(), sr=rate, n_fft=window, hop_length=hop, n_mels=20, center=False
    )
    frames, _ = LogMel(20, Framing(sample_rate=rate, align="snip"), "librosa")(waveform)
    assert (frames[0].T - torch.from_numpy(power).clamp(min=1e-10).log()).abs().max() < 1e-4
    for flavor, low in (("kaldi", 20.0), ("librosa", 0.0)):  # what figures write at the bands
        edges = librosa.mel_frequencies(42, fmin=low, fmax=rate / 2, htk=flavor == "kaldi")
        found = band_centres_hz(flavor, 40, low, rate / 2)
        torch.testing.assert_close(found, torch.from_numpy(edges[1:-1]).double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_sample_that_is_not_finite_is_named(bad: float) -> None:
    waveform = torch.zeros(3, 1000)
    waveform[1, 320] = waveform[1, 700] = bad
    with pytest.raises(UserError, match=r"row 1 holds -?(nan|inf) at sample 320 \(0\.020 s\).*nan_policy=\"zero\""):
        LogMel()(waveform)


@pytest.mark.parametrize("grad", [False, True])
def test_nan_policy_zero_reads_silence(grad: bool) -> None:
    waveform = torch.randn(2, 1600)
    holed, silent = waveform.clone(), waveform.clone()
    holed[1, 100:200], silent[1, 100:200] = float("nan"), 0.0
    holed.requires_grad_(grad)
    frames, _ = LogMel(nan_policy="zero")(holed)
    assert_same(frames.detach(), LogMel()(silent)[0])
    if grad:
        frames.sum().backward()
        assert holed.grad is not None and holed.grad.isfinite().all()
        assert (holed.grad[1, 100:200] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_up_to_100_pass_and_beyond_2_to_31_are_as_nan(dtype: torch.dtype) -> None:
    waveform = torch.full((1, 1600), -100.0, dtype=dtype)
    assert LogMel()(waveform)[0].shape == (1, 10, 80)
    for value, message in (
        (101, "16-bit"),
        (40_000, "24-bit"),
        (2.0**31, "32-bit"),
        (1e37, r"finite.*nan_policy=.zero"),
    ):
        waveform[0, 500] = value
        with pytest.raises(UserError, match=rf"row 0 holds .* at sample 500 \(0\.031 s\); .*{message}"):
            LogMel()(waveform)
    silent = waveform.clone()
    silent[0, 500] = 0
    assert_same(LogMel(nan_policy="zero")(waveform)[0], LogMel()(silent)[0])
    waveform[0, 700] = 20_000  # a number that were not scaled, among others that are none
    with pytest.raises(UserError, match=r"sample 700 .* divide by 32768: waveform / 32768"):
        LogMel(nan_policy="zero")(waveform)


@pytest.mark.parametrize(
    ("waveform", "error", "message"),
    [
        (torch.zeros(1, 1600, dtype=torch.int16), TypeError, r"got torch.int16: use waveform.float\(\) / 32768\.$"),
        (torch.zeros(1, 1600, dtype=torch.float16), TypeError, "waveform.float()"),
        ([0.0] * 1600, TypeError, "tensor .B, N., got list"),
        (torch.zeros(1600), ValueError, r"got \[1600\]. One recording is waveform\[None\]"),
        (torch.zeros(1, 2, 1600), ValueError, "Average the channels"),
    ],
)
def test_other_inputs_are_refused_with_the_remedy(waveform: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        LogMel()(waveform)


@pytest.mark.parametrize(
    ("lengths", "error"),
    [
        (torch.tensor([0.5]), TypeError),
        (torch.tensor([1601]), ValueError),
        (torch.tensor([-1]), ValueError),
        (torch.tensor([1, 2]), ValueError),
    ],
)
def test_lengths_are_checked(lengths: torch.Tensor, error: type[Exception]) -> None:
    with pytest.raises(error, match="lengths must"):
        LogMel()(torch.zeros(1, 1600), lengths)


@pytest.mark.parametrize(
    "wrong",
    [
        {"flavor": "htk"},
        {"nan_policy": "skip"},
        {"num_mels": 0},
        {"slab_frames": 0},
        {"low_hz": 9000.0},
        {"high_hz": 8001.0},
    ],
)
def test_settings_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LogMel(**wrong)


@pytest.mark.parametrize("frontend", [LogMel, MFCC])
def test_the_old_name_of_nan_policy_fails_with_the_new_one(frontend: type[LogMel]) -> None:
    with pytest.raises(TypeError, match=r"has no argument 'nan': use nan_policy=\.$"):
        frontend(nan="zero")  # type: ignore[call-arg]


def test_bands_without_an_fft_bin_warn_once() -> None:
    with pytest.warns(UserWarning, match="of 200 mel bands hold no FFT bin"):
        module = LogMel(200)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.double()


def test_repr_shows_the_settings() -> None:
    text = repr(LogMel(framing=Framing(align="snip")))
    for part in ("80 mels", "20-8000 Hz", "kaldi", "16000 Hz", "window=400", "hop=160 (10 ms)", "snip", "n_fft=512"):
        assert part in text
