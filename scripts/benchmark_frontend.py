"""Time and memory of log-mel over long audio: ours, librosa's and torchaudio's, and their differences.

    python scripts/benchmark_frontend.py
    python scripts/benchmark_frontend.py --minutes 2

Measured on noise, with one thread, float32, 16 kHz, 25 ms windows every 10 ms, 80 bands, natural logarithm included:
both flavors of `speechattn.LogMel`, and the references that they equal:

    torchaudio kaldi.fbank      without dither, else its defaults: our kaldi
    librosa melspectrogram      its defaults: our librosa
    torchaudio MelSpectrogram   with Slaney's bands and norm: our librosa

Rounds are interleaved, in new processes: see benchmark_measuring.py. Times are processor times, the smallest of the
rounds. `extra MB` is the growth of the peak memory in one pass, `of output` its ratio to the size of the frames.
`difference` is the largest difference from ours in ten seconds, over the largest value of ours. `GFLOP/s` is the
calibration next to that row.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmark_measuring import (
    extra_bytes,
    format_machine,
    in_fresh_process,
    machine,
    return_memory,
    time_jobs,
    write,
)
from torch import Tensor

import speechattn as sa

SNIP = sa.Framing(align="snip")
RATE, WINDOW, HOP = SNIP.sample_rate, SNIP.window, SNIP.hop
FLOOR = 1e-10
"""Smallest energy, of librosa and of ours."""
CHECKED_S = 10
Extract = Callable[[Tensor], Tensor]


def ours(flavor: str, num_mels: int) -> Extract:
    """Return our extractor, [1, N] -> [T, M]."""
    frontend = sa.LogMel(num_mels, SNIP, flavor)
    return lambda waveform: frontend(waveform)[0][0]


def torchaudio_kaldi(num_mels: int) -> Extract:
    """Return the extractor of torchaudio.compliance.kaldi."""
    from torchaudio.compliance import kaldi

    return lambda waveform: kaldi.fbank(waveform, num_mel_bins=num_mels, dither=0.0)


def torchaudio_mel(num_mels: int) -> Extract:
    """Return the extractor of torchaudio.transforms.MelSpectrogram."""
    from torchaudio.transforms import MelSpectrogram

    mel = MelSpectrogram(
        RATE, n_fft=WINDOW, hop_length=HOP, n_mels=num_mels, center=False, norm="slaney", mel_scale="slaney"
    )
    return lambda waveform: mel(waveform)[0].clamp_(min=FLOOR).log_().T


def librosa_mel(num_mels: int) -> Extract:
    """Return the extractor of librosa.feature.melspectrogram."""
    import librosa
    import numpy as np

    def extract(waveform: Tensor) -> Tensor:
        mel = librosa.feature.melspectrogram(
            y=waveform[0].numpy(), sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=num_mels, center=False
        )
        return torch.from_numpy(np.log(np.maximum(mel, FLOOR, out=mel), out=mel).T)

    return extract


EXTRACTORS: dict[str, Callable[[int], Extract]] = {
    "speechattn kaldi": lambda num_mels: ours("kaldi", num_mels),
    "speechattn librosa": lambda num_mels: ours("librosa", num_mels),
    "torchaudio kaldi.fbank": torchaudio_kaldi,
    "librosa melspectrogram": librosa_mel,
    "torchaudio MelSpectrogram": torchaudio_mel,
}
EQUALS = {
    "torchaudio kaldi.fbank": "speechattn kaldi",
    "librosa melspectrogram": "speechattn librosa",
    "torchaudio MelSpectrogram": "speechattn librosa",
}
"""The flavor of ours that each reference equals."""


def main() -> None:
    """Print a table of time and memory."""
    parser = argparse.ArgumentParser(description="Time and memory of log-mel, ours and others'.")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the audio")
    parser.add_argument("--num-mels", type=int, default=80)
    parser.add_argument("--extractors", nargs="+", choices=EXTRACTORS, default=list(EXTRACTORS), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="and there, with processor, versions and commit")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    about = machine()
    print(format_machine(about))
    rows = measure(options)
    print(f"\n{options.minutes:g} minutes of audio")
    print(f"{'':26}{'seconds':>8}{'extra MB':>10}{'of output':>11}{'difference':>12}{'GFLOP/s':>9}{'runs':>6}")
    for row in rows:
        text = f"{row['seconds']:8.2f}{row['extra_mb']:10.1f}{row['of_output']:10.3f}x"
        difference = "" if row["difference"] is None else f"{row['difference']:.1e}"
        print(f"{row['by']:26}{text}{difference:>12}{row['gemm_gflops']:9.0f}{row['runs']:6}")
    write(rows, about, options.csv, options.json)


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each extractor."""
    audio = noise(options.minutes * 60)
    extractors = {name: EXTRACTORS[name](options.num_mels) for name in options.extractors}
    short = noise(CHECKED_S)
    for extract in extractors.values():
        extract(short)  # what is loaded once is not counted
    jobs = {name: lambda extract=extract: extract(audio) for name, extract in extractors.items()}
    timings = time_jobs(jobs, rounds=options.rounds, seconds=float("inf"), title="time")
    frames = extractors[options.extractors[0]](short[:, : RATE + WINDOW - HOP])
    assert frames.shape == (100, options.num_mels), "a second must be 100 frames for all"
    output = 4 * options.num_mels * SNIP.num_frames(audio.shape[1])
    rows = []
    for name, extract in extractors.items():
        extra = in_fresh_process(extra_of_pass, name, options.num_mels, options.minutes)
        equals = EQUALS.get(name)
        difference = None
        if equals:
            expected = EXTRACTORS[equals](options.num_mels)(short)
            difference = float((extract(short) - expected).abs().max() / expected.abs().max())
        timing = timings[name, 1]
        row = {"by": name, "minutes": options.minutes, "seconds": timing.seconds, "extra_mb": extra / 1e6}
        row |= {"of_output": extra / output, "difference": difference, "equals": equals}
        rows.append(row | {"gemm_gflops": timing.gemm / 1e9, "runs": timing.runs})
    return rows


def noise(seconds: float) -> Tensor:
    """Return noise [1, N] within 0.1."""
    return torch.empty(1, round(seconds * RATE)).uniform_(-0.1, 0.1)


def extra_of_pass(name: str, num_mels: int, minutes: float) -> int:
    """Return the extra bytes of one pass in this process."""
    return_memory()
    extract, audio = EXTRACTORS[name](num_mels), noise(60 * minutes)
    extract(audio[:, :RATE])
    return extra_bytes(lambda: extract(audio))


if __name__ == "__main__":
    main()
