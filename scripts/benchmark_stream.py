"""Benchmark a long recording as a stream and as a whole: seconds, times real time, memory, and differences.

    python scripts/benchmark_stream.py chapter.flac
    python scripts/benchmark_stream.py chapter.flac --times 10 --model runs/librispeech/model

Measured, on one thread, float32, from the file to the last label, with the small model that is shipped or --model:

    offline        the whole recording read, and given to the model at once: logits
    encode_long    read, encoded and written in blocks of 30 s: logits in a .npy file
    Stream         pushed as it would come from a microphone, --push-ms at a time: labels with their times
    Stream, 1 s    the same with a second at a time

Method: interleaved rounds and fresh processes, see benchmark_measuring.py; seconds are of the processor, and the least
of the rounds. `extra MB` is what the job adds to the peak memory of a process that has computed one second before. With
--times the recording is played that many times over. `difference`: of encode_long the largest one from offline, over
the largest logit; of Stream the largest one of a probability, with the number of labels that are others. `GFLOP/s` is
the calibration beside that row. The times are printed as soon as they are measured, and again with the rest.

Every job runs --rounds + 2 times, each in a process of its own: a chapter of 17 minutes takes about 5 on an idle
processor. Not here: latency, which `speechattn stream FILE --realtime` reports.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_measuring import (
    elapsed,
    extra_bytes,
    format_machine,
    gemm_speed,
    in_fresh_process,
    machine,
    return_memory,
    write,
)
from tqdm import tqdm

import speechattn as sa
from speechattn.data.audio.files import audio_blocks, audio_samples
from speechattn.data.audio.samples import cut

JOBS = ("offline", "encode_long", "Stream", "Stream, 1 s")
RATE = sa.Framing().sample_rate


def main() -> None:
    """Measure and print."""
    options = parse()
    about = machine()
    print(format_machine(about), flush=True)
    seconds = audio_samples(options.audio) * options.times / RATE
    rows: list[dict[str, Any]] = [
        {"job": job, "audio_s": seconds, "seconds": math.inf, "gemm_gflops": 0.0} for job in JOBS
    ]
    given = (options.audio, options.model, options.push_ms, options.times)
    with tqdm(total=options.rounds * len(JOBS) + 2 * len(JOBS) - 1, leave=False) as bar:
        measure_times(rows, options.rounds, given, bar)
        bar.write(table(rows, options.push_ms))
        measure_the_rest(rows, given, bar)
    print(table(rows, options.push_ms))
    write(rows, about, options.csv, options.json)


def measure_times(rows: list[dict[str, Any]], rounds: int, given: tuple[Any, ...], bar: Any) -> None:
    """Seconds of every job, the least of the rounds, and the fastest calibration beside it."""
    for _ in range(rounds):
        for row in rows:
            bar.set_description(f"{row['job']}: time")
            timed = in_fresh_process(time_job, row["job"], *given)
            row["seconds"] = min(row["seconds"], timed["seconds"])
            row["gemm_gflops"] = max(row["gemm_gflops"], timed["gemm_gflops"])
            bar.update()


def measure_the_rest(rows: list[dict[str, Any]], given: tuple[Any, ...], bar: Any) -> None:
    """Memory of every job, and how far its numbers are from offline."""
    for row in rows:
        bar.set_description(f"{row['job']}: memory")
        row["extra_mb"] = in_fresh_process(extra_of_job, row["job"], *given) / 1e6
        bar.update()
        if row["job"] != "offline":
            bar.set_description(f"{row['job']}: difference")
            row |= in_fresh_process(difference, row["job"], *given)
            bar.update()


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description="A long recording as a stream and as a whole.",
        epilog="About 5 minutes for a chapter of 17 on an idle processor: every job runs --rounds + 2 times.",
    )
    parser.add_argument("audio", type=Path, help="a sound file of some minutes")
    parser.add_argument("--model", type=Path, metavar="DIR", help="a saved model (default: the one that is shipped)")
    parser.add_argument("--push-ms", type=int, default=100)
    parser.add_argument("--times", type=int, default=1, help="play it so many times over")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="and there, with processor, versions and commit")
    options = parser.parse_args()
    if min(options.push_ms, options.times, options.rounds) < 1:
        parser.error("--push-ms, --times and --rounds must be 1 or more.")
    if not options.audio.is_file():
        parser.error(f"{options.audio} does not exist.")
    return options


class Job:
    """One way to process the recording, with a model that has processed a second of silence before."""

    def __init__(self, job: str, audio: Path, model: Path | None, push_ms: int, times: int) -> None:
        self.model = sa.load_pretrained("small-en-phones") if model is None else sa.load(model)
        self.audio, self.times = audio, times
        self.push_ms = 1000 if job == "Stream, 1 s" else push_ms
        self.run = {"offline": self.offline, "encode_long": self.long}.get(job, self.listen)
        with torch.inference_mode():
            self.model(torch.zeros(1, RATE))
        stream = sa.Stream(self.model)
        stream.push(np.zeros(RATE, np.float32))
        stream.flush()

    def blocks(self) -> Iterator[Any]:
        """Yield the samples, `times` times."""
        for _ in range(self.times):
            yield from audio_blocks(self.audio)

    @torch.inference_mode()
    def offline(self) -> torch.Tensor:
        """Return logits [T, C]."""
        waveform = torch.from_numpy(np.concatenate(list(self.blocks())))
        logits: torch.Tensor = self.model(waveform[None])[0][0]
        return logits

    def long(self) -> None:
        """Write logits to a file, which is deleted."""
        with tempfile.TemporaryDirectory() as folder:
            sa.encode_long(self.model, self.blocks(), Path(folder) / "logits.npy", progress=False)

    def listen(self) -> None:
        """Compute the labels and drop them."""
        for _ in self.labels():
            pass

    def labels(self) -> Iterator[sa.FrameLabels]:
        """Yield the labels, push by push."""
        stream = sa.Stream(self.model)
        for push in cut(self.blocks(), RATE * self.push_ms // 1000):
            yield stream.push(push)
        yield stream.flush()


def time_job(*given: Any) -> dict[str, float]:
    """Seconds of one pass, and the speed of the calibration around it."""
    job = Job(*given)
    before = gemm_speed()
    return {"seconds": elapsed(job.run), "gemm_gflops": max(before, gemm_speed()) / 1e9}


def extra_of_job(*given: Any) -> int:
    """Bytes."""
    return_memory()
    return extra_bytes(Job(*given).run)


def difference(*given: Any) -> dict[str, float]:
    """Between a job and offline."""
    job = Job(*given)
    whole = job.offline()
    if given[0] == "encode_long":
        rows = torch.cat(list(sa.encode_long(job.model, job.blocks(), progress=False)))
        return {"difference": float((rows - whole).abs().max() / whole.abs().max())}
    expected, classes = whole.softmax(-1).max(-1)
    names = [job.model.config.classes[c] for c in classes.tolist()]
    others, most, done = 0, 0.0, 0
    for part in job.labels():
        theirs = expected[done : done + len(part)]
        others += sum(one != other for one, other in zip(part.labels, names[done : done + len(part)], strict=True))
        most = max([most, *(torch.tensor(part.probabilities) - theirs).abs().tolist()])
        done += len(part)
    if done != len(names):
        raise RuntimeError(f"the stream gave {done} labels, offline {len(names)}")
    return {"difference": most, "other_labels": others}


def table(rows: list[dict[str, Any]], push_ms: int) -> str:
    """All rows below each other, with what has been measured of them so far."""
    lines = [
        "",
        f"{rows[0]['audio_s'] / 60:.1f} minutes of audio; Stream: pushes of {push_ms} ms",
        f"{'':14}{'seconds':>9}{'x real time':>13}{'RTF':>10}{'extra MB':>10}{'difference':>12}{'GFLOP/s':>9}",
    ]
    for row in rows:
        text = f"{row['job']:14}{row['seconds']:9.2f}{row['audio_s'] / row['seconds']:13.0f}"
        text += f"{row['seconds'] / row['audio_s']:10.5f}"
        text += f"{row['extra_mb']:10.1f}" if "extra_mb" in row else " " * 10
        text += f"{row['difference']:12.1e}" if "difference" in row else " " * 12
        text += f"{row['gemm_gflops']:9.0f}"
        lines.append(text + (f"  {row['other_labels']} other labels" if "other_labels" in row else ""))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
