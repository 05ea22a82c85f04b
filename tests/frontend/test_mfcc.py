"""MFCC equals torchaudio's and librosa's, its deltas end where a row does, and it depends on the frames it declares.

Tolerances, as parts of the largest cepstrum: 1e-5 against torchaudio, whose cosines are float32; 2e-6 against librosa
(float32 sums in another order); 1e-10 in float64.
"""

import copy
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_same

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.errors import ConfigError, UserError
from speechattn.framing import ALIGNMENTS, Framing
from speechattn.frontend.deltas import append_deltas
from speechattn.frontend.factory import build_frontend
from speechattn.frontend.logmel import LogMel
from speechattn.frontend.mfcc import MFCC
from speechattn.model_config import DELTA, ModelConfig
from speechattn.receptive_field import lookahead, receptive_field

FLAVORS = ("kaldi", "librosa")
SNIP = Framing(align="snip")
SMALL = Framing(sample_rate=1000, window=20, hop=8)


def speech(folder: Path) -> list[torch.Tensor]:
    soundfile = pytest.importorskip("soundfile", reason="soundfile reads the real audio")
    files = sorted(folder.rglob("*.flac"))
    assert files, f"no audio under {folder}"
    return [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files]


def assert_close(found: torch.Tensor, expected: torch.Tensor, part: float) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=part * expected.abs().max().item())


def reference(torchaudio: ModuleType, waveform: torch.Tensor, deltas: int, **options: float) -> torch.Tensor:
    """torchaudio's cepstra, and its deltas of them, [T, F]."""
    kaldi = import_module("torchaudio.compliance.kaldi")
    orders = [kaldi.mfcc(waveform[None], **options).T]
    for _ in range(deltas):
        orders.append(torchaudio.functional.compute_deltas(orders[-1]))
    return torch.cat(orders).T


def plain_deltas(frames: torch.Tensor) -> torch.Tensor:
    """The formula, one frame at a time: [T, C] -> [T, C]."""
    last = len(frames) - 1
    slopes = []
    for t in range(len(frames)):
        past, future = ([frames[min(max(t + s * k, 0), last)] for k in (1, 2)] for s in (-1, 1))
        slopes.append((future[0] - past[0] + 2 * (future[1] - past[1])) / 10)
    return torch.stack(slopes)


class TestParity:
    @pytest.mark.parametrize(("num_ceps", "num_mels", "deltas"), [(13, 23, 2), (13, 40, 2), (20, 80, 1), (40, 40, 0)])
    def test_kaldi_flavor_is_torchaudio_on_speech(
        self, torchaudio: ModuleType, librispeech_tiny: Path, num_ceps: int, num_mels: int, deltas: int
    ) -> None:
        module = MFCC(num_ceps, num_mels, SNIP, deltas=deltas)
        for waveform in speech(librispeech_tiny):
            expected = reference(torchaudio, waveform, deltas, num_ceps=num_ceps, num_mel_bins=num_mels)
            frames, lengths = module(waveform[None])
            assert lengths.item() == len(expected)
            for order in range(1 + deltas):
                columns = slice(order * num_ceps, (order + 1) * num_ceps)
                assert_close(frames[0, :, columns], expected[:, columns], 1e-5)

    def test_other_bands_and_lifters_are_torchaudio_s_too(self, torchaudio: ModuleType) -> None:
        waveform = torch.randn(8000) * 0.1
        for lifter in (0.0, 10.0):
            options = {"cepstral_lifter": lifter, "low_freq": 100.0, "high_freq": 7000.0, "num_ceps": 9}
            module = MFCC(9, 23, SNIP, deltas=0, lifter=lifter, low_hz=100, high_hz=7000)
            assert_close(module(waveform[None])[0][0], reference(torchaudio, waveform, 0, **options), 1e-5)

    @pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 9, 257])
    def test_deltas_are_torchaudio_s_for_any_length(self, torchaudio: ModuleType, num_frames: int) -> None:
        waveform = torch.randn(400 + 160 * (num_frames - 1)) * 0.1
        frames, _ = MFCC(num_mels=23, framing=SNIP)(waveform[None])
        assert_close(frames[0], reference(torchaudio, waveform, 2), 1e-5)

    @pytest.mark.parametrize("lifter", [None, 22])
    def test_librosa_flavor_is_librosa_on_speech(self, librispeech_tiny: Path, lifter: float | None) -> None:
        pytest.importorskip("numba", reason="librosa computes with numba")
        librosa = pytest.importorskip("librosa")
        module = MFCC(20, 80, SNIP, "librosa", deltas=0, lifter=lifter)
        for waveform in speech(librispeech_tiny):
            mel = librosa.feature.melspectrogram(
                y=waveform.numpy(), sr=16_000, n_fft=400, hop_length=160, n_mels=80, center=False
            )
            power_db = librosa.power_to_db(mel, top_db=None)
            expected = torch.from_numpy(librosa.feature.mfcc(S=power_db, n_mfcc=20, lifter=lifter or 0))
            assert_close(module(waveform[None])[0][0], expected.T, 2e-6)

    def test_cosines_are_exact_in_float64(self) -> None:
        scipy = pytest.importorskip("scipy.fft")
        waveform = torch.randn(1, 4000, dtype=torch.float64)
        log_mel, _ = LogMel(23).double()(waveform)
        expected = torch.from_numpy(scipy.dct(log_mel[0].numpy(), type=2, norm="ortho"))[:, :13]
        assert_close(MFCC(num_mels=23, deltas=0, lifter=0).double()(waveform)[0][0], expected, 1e-12)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_row_depends_on_neither_padding_nor_neighbours_nor_slabs(data: st.DataObject) -> None:
    align, flavor = data.draw(st.sampled_from(ALIGNMENTS)), data.draw(st.sampled_from(FLAVORS))
    framing = Framing(SMALL.sample_rate, SMALL.window, SMALL.hop, align)
    deltas, slab_frames = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 9))
    samples = data.draw(st.lists(st.integers(0, 150), min_size=1, max_size=4))
    junk = data.draw(st.sampled_from([0.0, float("nan"), float("inf"), 1e30]))
    module = MFCC(3, 5, framing, flavor, deltas=deltas, slab_frames=slab_frames).double()
    plain = MFCC(3, 5, framing, flavor, deltas=0, slab_frames=1000).double()
    clean = torch.randn(len(samples), max(samples) + 11, dtype=torch.float64) * 0.1
    waveform = clean.clone()
    for b, n in enumerate(samples):
        waveform[b, n:] = junk
    frames, lengths = module(waveform, torch.tensor(samples))
    assert frames.shape == (len(samples), framing.num_frames(clean.shape[1]), 3 * (1 + deltas))
    assert lengths.tolist() == [framing.num_frames(n) for n in samples]
    for b, n in enumerate(samples):
        count = int(lengths[b])
        assert (frames[b, count:] == 0).all()
        orders = [plain(clean[b : b + 1, :n])[0][0]]
        while count and len(orders) < 1 + deltas:
            orders.append(plain_deltas(orders[-1]))
        if count:
            torch.testing.assert_close(frames[b, :count], torch.cat(orders, 1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("num_samples", [0, 159, 160, 320, 480])
@pytest.mark.parametrize("grad", [False, True])
def test_no_frame_one_frame_two_frames(num_samples: int, grad: bool) -> None:
    waveform = (torch.randn(2, num_samples) * 0.1).requires_grad_(grad)
    frames, lengths = MFCC()(waveform)
    assert frames.shape == (2, num_samples // 160, 39) and lengths.tolist() == [num_samples // 160] * 2
    if num_samples == 160:
        assert (frames[:, :, 13:] == 0).all(), "one frame has no slope"
    if num_samples == 320:
        step = frames[:, 1, :13] - frames[:, 0, :13]
        torch.testing.assert_close(frames[:, 0, 13:26], step * 0.3)
        torch.testing.assert_close(frames[:, 1, 13:26], step * 0.3)
    assert MFCC()(torch.zeros(0, 1600))[0].shape == (0, 10, 39)


def test_a_ramp_has_its_slope_and_no_curvature_away_from_its_ends() -> None:
    ramp = 3 * torch.arange(20.0, dtype=torch.float64)[:, None]
    for size in (1, 2, 3, 20):
        slabs = append_deltas(append_deltas(iter(torch.split(ramp, size)), 1), 1)
        frames = torch.cat(list(slabs))
        assert torch.equal(frames[:, :1], ramp)
        torch.testing.assert_close(frames[2:-2, 1], torch.full((16,), 3.0, dtype=torch.float64))
        torch.testing.assert_close(frames[4:-4, 2], torch.zeros(12, dtype=torch.float64))


@pytest.mark.parametrize("deltas", [0, 1, 2])
def test_a_frame_depends_on_what_its_contexts_declare(deltas: int) -> None:
    module = MFCC(deltas=deltas, slab_frames=4)
    assert module.contexts == (DELTA,) * deltas and module.lookahead == 2 * deltas
    waveform = (torch.randn(1, 4000) * 0.1).requires_grad_()
    frames, _ = module(waveform)
    for t in (0, 1, 7, 12, 23, 24):
        (grad,) = torch.autograd.grad(frames[0, t].sum(), waveform, retain_graph=True)
        samples = grad[0].nonzero().flatten()
        first, stop = receptive_field(module.contexts, t, frames.shape[1])
        assert stop is not None
        span = module.framing.span_samples(first)[0], module.framing.span_samples(stop - 1)[1]
        assert max(span[0], 0) <= samples.min() <= max(span[0], 0) + 1
        assert span[1] - 2 <= samples.max() < span[1]


@pytest.mark.parametrize("flavor", FLAVORS)
def test_gradient_to_the_waveform(flavor: str) -> None:
    module = MFCC(3, 4, Framing(sample_rate=2000, window=20, hop=8), flavor, slab_frames=2).double()
    waveform = torch.randn(2, 45, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([45, 29])
    assert torch.autograd.gradcheck(lambda x: module(x, lengths)[0], (waveform,))


def test_with_and_without_gradient_the_same_frames() -> None:
    waveform, lengths = torch.randn(3, 9000), torch.tensor([9000, 700, 0])
    module = MFCC(slab_frames=13)
    with_gradient, _ = module(waveform.clone().requires_grad_(), lengths)
    assert_same(with_gradient.detach(), module(waveform, lengths)[0])


def test_mfcc_has_no_weights_and_follows_the_dtype() -> None:
    waveform, module = torch.randn(1, 4000), MFCC()
    expected, _ = module(waveform)
    assert module.state_dict() == {} and module.num_features == 39
    assert_same(copy.deepcopy(module).half()(waveform)[0], expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same(module(waveform)[0], expected)
    assert_same(copy.deepcopy(module).to("meta").to_empty(device="cpu")(waveform)[0], expected)
    wide = copy.deepcopy(module).double()(waveform.double())[0]
    assert wide.dtype == torch.float64
    torch.testing.assert_close(wide.float(), expected, rtol=0, atol=1e-3)
    for part in ("13 cepstra", "lifter 22", "2 deltas (look-ahead 4 frames (40 ms))", "80 mels", "kaldi"):
        assert part in repr(module)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_all_cepstra_give_the_log_mel_back_and_few_a_smooth_one(flavor: str) -> None:
    waveform = torch.randn(1, 4000, dtype=torch.float64) * 0.1
    expected, _ = LogMel(20, flavor=flavor).double()(waveform)
    every = MFCC(20, 20, flavor=flavor).double()
    torch.testing.assert_close(every.to_log_mel(every(waveform)[0]), expected, rtol=0, atol=1e-9)
    few = MFCC(5, 20, flavor=flavor).double()
    smooth = few.to_log_mel(few(waveform)[0])
    torch.testing.assert_close(smooth.mean(2), expected.mean(2))
    assert smooth.diff(dim=2).abs().mean() < expected.diff(dim=2).abs().mean()


def test_nan_is_refused_or_silent_as_in_log_mel() -> None:
    holed = torch.randn(1, 1600)
    silent = holed.clone()
    holed[0, 320:330], silent[0, 320:330] = float("nan"), 0.0
    with pytest.raises(UserError, match="row 0 holds nan at sample 320"):
        MFCC()(holed)
    assert_same(MFCC(nan_policy="zero")(holed)[0], MFCC()(silent)[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_ceps": 0}, "num_ceps must be a whole number from 1"),
        ({"num_ceps": 81}, "got 81 cepstra of 80 mel bands"),
        ({"deltas": -1}, "deltas must be a whole number from 0"),
        ({"lifter": -1.0}, "lifter"),
        ({"lifter": float("nan")}, "lifter"),
        ({"flavor": "htk"}, "flavor"),
    ],
)
def test_settings_are_checked(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MFCC(**wrong)


def test_the_factory_builds_the_frontend_of_a_config() -> None:
    assert type(build_frontend("logmel", 40)) is LogMel
    built = build_frontend("mfcc", 40, SNIP, "librosa", num_ceps=20, deltas=1)
    assert isinstance(built, MFCC) and built.num_features == 40 and built.framing == SNIP
    with pytest.raises(ValueError, match="logmel or mfcc, got 'plp'"):
        build_frontend("plp", 40)
    encoder = EncoderConfig(input_dim=39, num_layers=2, context=Context(4, 1))
    config = ModelConfig(("SIL", "AA"), encoder, 23, features="mfcc")
    assert config.contexts == (*MFCC().contexts, *encoder.contexts) and lookahead(config.contexts) == 6
    assert config.context_names == ("delta 1", "delta 2", "1", "2")
    assert ModelConfig.from_dict(config.to_dict()) == config


def test_a_config_must_fit_its_features_and_older_ones_are_log_mel() -> None:
    with pytest.raises(ConfigError, match=r"input_dim must equal num_ceps \* \(1 \+ deltas\) of MFCC = 39, got 40"):
        ModelConfig(("SIL", "AA"), EncoderConfig(40), 40, features="mfcc")
    with pytest.raises(ConfigError, match="num_ceps must be 1 to num_mels = 12, got 13"):
        ModelConfig(("SIL", "AA"), EncoderConfig(39), 12, features="mfcc")
    older = ModelConfig(("SIL", "AA"), EncoderConfig(40), 40).to_dict()
    for name in ("features", "num_ceps", "deltas"):
        del older[name]
    assert ModelConfig.from_dict(older).num_features == 40
