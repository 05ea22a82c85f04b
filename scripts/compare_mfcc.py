"""Compare MFCC with torchaudio's and librosa's: `python scripts/compare_mfcc.py FOLDER [--minutes 60]`.

Prints the largest difference on the sound files below FOLDER, as a part of the largest value; then time and extra
memory for noise of that many minutes, one thread, float32: the smallest processor time of three passes, which a busy
machine changes little, and the growth of the peak resident size in the first pass, output included.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import librosa
import torch
import torchaudio
from torch import Tensor
from torchaudio.compliance import kaldi
from torchaudio.functional import compute_deltas

import speechattn as sa
from speechattn.frontend.mfcc import MFCC
from speechattn.system.process_memory import peak_memory_bytes, reset_peak_memory

SNIP = sa.Framing(align="snip")


def with_deltas(cepstra: Tensor, orders: int = 2) -> Tensor:
    """Return cepstra [T, C] with torchaudio's deltas, [T, C * (1 + orders)]."""
    parts = [cepstra.T]
    for _ in range(orders):
        parts.append(compute_deltas(parts[-1]))
    return torch.cat(parts).T


def torchaudio_features(waveform: Tensor, num_ceps: int = 13, num_mels: int = 23) -> Tensor:
    """Return the features [T, 3 * num_ceps] of a waveform [1, N]."""
    return with_deltas(kaldi.mfcc(waveform, num_ceps=num_ceps, num_mel_bins=num_mels))


def librosa_features(waveform: Tensor, num_ceps: int = 13, num_mels: int = 80) -> Tensor:
    """Return the features [T, 3 * num_ceps] of a waveform [1, N], without top_db, which needs the loudest frame."""
    mel = librosa.feature.melspectrogram(
        y=waveform[0].numpy(), sr=16_000, n_fft=400, hop_length=160, n_mels=num_mels, center=False
    )
    cepstra = librosa.feature.mfcc(S=librosa.power_to_db(mel, top_db=None), n_mfcc=num_ceps)
    return with_deltas(torch.from_numpy(cepstra).T)


def recordings(folder: Path) -> Iterator[Tensor]:
    """Yield the sound files below `folder`, [1, N]."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".flac", ".wav", ".ogg"))
    if not files:
        sys.exit(f"{folder} holds no .flac, .wav or .ogg: give a folder of recordings.")
    for file in files:
        yield sa.load_audio(file, SNIP.sample_rate)[0][None]


def compare(waveforms: list[Tensor]) -> None:
    """Print the largest differences."""
    rows: list[tuple[str, MFCC, Callable[..., Tensor]]] = [
        (f"torchaudio, {ceps} of {mels}", MFCC(ceps, mels, SNIP), torchaudio_features)
        for ceps, mels in ((13, 23), (13, 40), (40, 40))
    ]
    rows.append(("librosa, 13 of 80", MFCC(13, 80, SNIP, "librosa"), librosa_features))
    print(f"{'against':22} {'cepstra':>9} {'slopes':>9} {'curvature':>9}")
    for name, module, reference in rows:
        worst = torch.zeros(3)
        for waveform in waveforms:
            expected = reference(waveform, module.num_ceps, module.num_mels).unflatten(1, (3, -1))
            difference = (module(waveform)[0][0].unflatten(1, (3, -1)) - expected).abs().amax((0, 2))
            worst = torch.maximum(worst, difference / expected.abs().amax((0, 2)))
        print(f"{name:22} " + " ".join(f"{part:9.1e}" for part in worst.tolist()))


def measure(minutes: float) -> None:
    """Print time and memory."""
    waveform = torch.empty(1, round(minutes * 60 * SNIP.sample_rate)).uniform_(-0.1, 0.1)
    module = MFCC(13, 23, SNIP)
    for name, compute in (("speechattn", lambda x: module(x)[0][0]), ("torchaudio", torchaudio_features)):
        compute(waveform[:, : SNIP.sample_rate])  # what is loaded once is not counted
        seconds, extra = [], []
        for _ in range(3):
            reset_peak_memory()
            before, begin = peak_memory_bytes(), time.process_time()
            frames = compute(waveform)
            seconds.append(time.process_time() - begin)
            extra.append(peak_memory_bytes() - before)
            size = frames.numel() * frames.element_size()
            del frames  # before the next pass measures
        print(
            f"{name} {minutes:g} minutes of audio: {min(seconds):.2f} s of processor time, "
            f"extra memory {extra[0] / 1e6:.1f} MB for {size / 1e6:.1f} MB of frames"
        )


def main() -> None:
    """Print differences, then time and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="recordings, read at 16 kHz")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the noise that is timed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    waveforms = list(recordings(options.folder))
    print(f"torch {torch.__version__}, torchaudio {torchaudio.__version__}, librosa {librosa.__version__}")
    print(f"{len(waveforms)} recordings, {sum(x.shape[1] for x in waveforms) / SNIP.sample_rate / 60:.1f} minutes")
    compare(waveforms)
    measure(options.minutes)


if __name__ == "__main__":
    main()
