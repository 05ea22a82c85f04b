"""Time and memory of log-mel over long audio: `python scripts/benchmark_frontend.py [--minutes 60]`.

One thread, float32, noise in place of speech. Extra memory is what the peak resident size grows by in the first pass
once the waveform exists, output included; the time is the least of five passes.
"""

from __future__ import annotations

import argparse
import time

import torch

import speechattn as sa
from speechattn.profiling import peak_memory_bytes, reset_peak_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the audio")
    parser.add_argument("--num-mels", type=int, default=80)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for flavor in ("kaldi", "librosa"):
        frontend = sa.LogMel(options.num_mels, flavor=flavor)
        waveform = torch.empty(1, round(options.minutes * 60 * frontend.framing.sample_rate)).uniform_(-0.1, 0.1)
        frontend(waveform[:, : frontend.framing.sample_rate])  # what is loaded once is not counted
        reset_peak_memory()
        before = peak_memory_bytes()
        seconds = []
        for _ in range(5):
            begin = time.perf_counter()
            frames, _ = frontend(waveform)
            seconds.append(time.perf_counter() - begin)
            if len(seconds) == 1:
                extra = peak_memory_bytes() - before
        size = frames.numel() * frames.element_size()
        print(
            f"{flavor:8} {options.minutes:g} minutes of audio: {min(seconds):.2f} s, "
            f"extra memory {extra / 1e6:.1f} MB for {size / 1e6:.1f} MB of frames ({extra / size:.3f}x)"
        )


if __name__ == "__main__":
    main()
