"""The contracts of the frontend.

Tolerances in log: 1e-5 in float32 against torchaudio and librosa (the same operations in the same order: a few
units in the last place; a quiet band magnifies any other rounding to 3e-4); 1e-9 in float64.
"""

import importlib
from pathlib import Path

import pytest
import torch
from rounding import assert_same

from speechattn.framing import ALIGNMENTS, Framing
from speechattn.frontend.logmel import LogMel

FLAVORS = ("kaldi", "librosa")
FLOAT32, FLOAT64 = 1e-5, 1e-9


def tolerance(dtype: torch.dtype) -> float:
    return FLOAT32 if dtype == torch.float32 else FLOAT64


def noise() -> dict[str, torch.Tensor]:
    """Return difficult signals: loud, with a large offset, at the largest amplitude, constant, a tone after silence."""
    seconds = torch.arange(8000) / 16_000
    return {
        "noise": torch.randn(8000) * 0.1,
        "offset": torch.randn(8000) * 1e-3 + 0.5,
        "clipped": (torch.randn(8000) * 30).round().clamp(-100, 100),
        "constant": torch.full((8000,), 0.5),
        "tone": 0.9 * torch.sin(2 * torch.pi * 3000 * seconds) * (seconds > 0.25),
    }


def real_speech(folder: Path) -> dict[str, torch.Tensor]:
    soundfile = pytest.importorskip("soundfile", reason="soundfile reads the real audio")
    files = sorted(folder.rglob("*.flac"))
    assert files, f"no audio under {folder}"
    return {file.stem: torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files}


def assert_equals_torchaudio(signals: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    try:
        kaldi = importlib.import_module("torchaudio.compliance.kaldi")
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"torchaudio cannot be imported here: {error}")
    for num_mels in (23, 40, 80):
        module = LogMel(num_mels, Framing(align="snip"), "kaldi").to(dtype)
        for name, signal in signals.items():
            expected = kaldi.fbank(signal[None].to(dtype), num_mel_bins=num_mels, dither=0.0)
            frames, lengths = module(signal[None].to(dtype))
            assert lengths.item() == len(expected), name
            torch.testing.assert_close(frames[0], expected, rtol=0, atol=tolerance(dtype), msg=name)


def assert_equals_librosa(signals: dict[str, torch.Tensor], dtype: torch.dtype) -> None:
    pytest.importorskip("numba", reason="librosa computes with numba")
    librosa = pytest.importorskip("librosa")
    wide = "float64" if dtype == torch.float64 else "float32"
    for align in ALIGNMENTS:
        module = LogMel(80, Framing(align=align), "librosa").to(dtype)
        for name, signal in signals.items():
            padded = torch.nn.functional.pad(signal, (240, 0)) if align == "causal" else signal
            mel = librosa.feature.melspectrogram(
                y=padded.to(dtype).numpy(),
                sr=16_000,
                n_fft=400,
                hop_length=160,
                n_mels=80,
                center=align == "center",
                pad_mode="constant",
                dtype=wide,
            )
            expected = torch.from_numpy(mel).clamp(min=1e-10).log().T
            frames, lengths = module(signal[None].to(dtype))
            assert lengths.item() == len(expected), name
            torch.testing.assert_close(frames[0], expected, rtol=0, atol=tolerance(dtype), msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
class TestParity:
    def test_kaldi_flavor_is_torchaudio_fbank(self, dtype: torch.dtype) -> None:
        assert_equals_torchaudio(noise(), dtype)

    def test_kaldi_flavor_is_torchaudio_fbank_on_speech(self, librispeech_tiny: Path, dtype: torch.dtype) -> None:
        assert_equals_torchaudio(real_speech(librispeech_tiny), dtype)

    def test_librosa_flavor_is_melspectrogram(self, dtype: torch.dtype) -> None:
        assert_equals_librosa(noise(), dtype)

    def test_librosa_flavor_is_melspectrogram_on_speech(self, librispeech_tiny: Path, dtype: torch.dtype) -> None:
        assert_equals_librosa(real_speech(librispeech_tiny), dtype)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_padding_and_neighbours_change_nothing(flavor: str, align: str, grad: bool) -> None:
    samples = [5000, 4321, 400, 399, 160, 159, 1, 0]
    module = LogMel(40, Framing(align=align), flavor, slab_frames=7)
    clean = torch.randn(len(samples), 5000) * 0.1
    for junk in (0.0, float("nan"), float("inf"), 1e30):
        waveform = clean.clone()
        for b, n in enumerate(samples):
            waveform[b, n:] = junk
        waveform.requires_grad_(grad)
        frames, lengths = module(waveform, torch.tensor(samples))
        assert lengths.tolist() == [module.framing.num_frames(n) for n in samples]
        assert frames.shape[1] == module.framing.num_frames(5000)
        for b, n in enumerate(samples):
            alone, count = module(clean[b : b + 1, :n])
            torch.testing.assert_close(frames[b : b + 1, : count.item()], alone, rtol=0, atol=FLOAT32)
            assert (frames[b, count.item() :] == 0).all()
        if grad:
            frames.sum().backward()
            assert waveform.grad is not None and waveform.grad.isfinite().all()
            assert all((waveform.grad[b, n:] == 0).all() for b, n in enumerate(samples))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_the_slab_does_not_change_the_frames(flavor: str, align: str, dtype: torch.dtype) -> None:
    waveform = torch.randn(2, 9_000, dtype=dtype) * 0.1
    framing = Framing(align=align)
    whole, _ = LogMel(80, framing, flavor, slab_frames=10_000).to(dtype)(waveform)
    for slab_frames in (1, 2, 13, 55, 56, 57):
        slabs, _ = LogMel(80, framing, flavor, slab_frames=slab_frames).to(dtype)(waveform)
        torch.testing.assert_close(slabs, whole, rtol=0, atol=tolerance(dtype))


@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_less_than_one_hop_is_no_frame(flavor: str, align: str) -> None:
    module = LogMel(40, Framing(align=align), flavor)
    for num_samples in (0, 1, 159):
        frames, lengths = module(torch.randn(2, num_samples))
        assert frames.shape == (2, 0, 40) and lengths.tolist() == [0, 0]
    first, _ = module(torch.randn(1, 160))
    assert first.shape[1] == {"causal": 1, "snip": 0, "center": 2}[align]


@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_frame_depends_on_exactly_the_span_that_framing_declares(flavor: str, align: str) -> None:
    framing = Framing(align=align)
    waveform = (torch.randn(1, 2_000) * 0.1).requires_grad_()
    frames, _ = LogMel(40, framing, flavor, slab_frames=4)(waveform)
    for t in range(frames.shape[1]):
        (grad,) = torch.autograd.grad(frames[0, t].sum(), waveform, retain_graph=True)
        start, stop = framing.span_samples(t)
        samples = grad[0].nonzero().flatten()
        assert max(start, 0) <= samples.min() <= max(start, 0) + 1, "a window may be 0 at its ends, no more"
        assert min(stop, 2_000) - 2 <= samples.max() < min(stop, 2_000)


@pytest.mark.parametrize("align", ALIGNMENTS)
@pytest.mark.parametrize("flavor", FLAVORS)
def test_gradient_to_the_waveform(flavor: str, align: str) -> None:
    framing = Framing(sample_rate=2000, window=20, hop=8, align=align)
    module = LogMel(4, framing, flavor, slab_frames=2).double()
    waveform = torch.randn(2, 45, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([45, 29])
    assert torch.autograd.gradcheck(lambda x: module(x, lengths)[0], (waveform,))


@pytest.mark.parametrize("flavor", FLAVORS)
def test_asking_for_a_gradient_changes_no_value(flavor: str) -> None:
    waveform, module = torch.randn(2, 3_000), LogMel(flavor=flavor, slab_frames=5)
    lengths = torch.tensor([3_000, 1_000])
    frames, _ = module(waveform.clone().requires_grad_(), lengths)
    assert frames.requires_grad
    assert_same(frames.detach(), module(waveform, lengths)[0])
