"""Streams one recording through onnxruntime and through eager torch: the largest difference, and the speed of both.

    OMP_NUM_THREADS=1 python scripts/benchmark_export.py --audio FILE [--model DIR] [--push 10 25 100]

Every push goes through both, one after the other, so that they share whatever else the machine does; one thread each.
Without --model it is the small one that is shipped.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from tqdm import tqdm

import speechattn as sa
from speechattn.export.export import export, runner, streamed
from speechattn.export.streaming_step import StreamingStep


def compare(model: sa.SpeechModel, waveform: torch.Tensor, push_frames: int) -> str:
    """Return a row of the table for pushes of so many frames."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export(model, push_frames, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path.read_bytes(), options)
        size = path.stat().st_size
    step = StreamingStep(model, push_frames)
    pushes = streamed(runner(session), step, waveform)
    state, worst, largest, agreed, count, seconds, slowest = model.initial_state(), 0.0, 0.0, 0, 0, [0.0, 0.0], 0.0
    whole = waveform.shape[1] // step.num_inputs
    for index in tqdm(range(whole + 1), desc=f"pushes of {push_frames}", leave=False):
        begun = time.thread_time()
        ours = next(pushes)
        taken = time.thread_time() - begun
        if index == whole:
            ours = torch.cat([ours, *pushes], 1)
        begun = time.thread_time()
        eager, state = model.step(waveform[:, index * step.num_inputs :][:, : step.num_inputs], state)
        seconds[1] += time.thread_time() - begun
        seconds[0], slowest = seconds[0] + taken, max(slowest, taken)
        if index == whole:
            eager = torch.cat([eager, model.flush(state)], 1)
        assert ours.shape == eager.shape
        if eager.numel():
            worst, largest = max(worst, float((ours - eager).abs().max())), max(largest, float(eager.abs().max()))
        agreed, count = agreed + int((ours.argmax(2) == eager.argmax(2)).sum()), count + eager.shape[1]
    audio_s = waveform.shape[1] / model.config.framing.sample_rate
    speeds = "  ".join(f"{audio_s / taken:11.0f}" for taken in seconds)
    return (
        f"{push_frames:6d}  {count:7d}  {worst:10.1e}  {largest:11.3g}  {agreed / count:8.4%}  {speeds}  "
        f"{1000 * slowest:10.2f}  {size / 1e6:6.1f}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, required=True, help="a sound file")
    parser.add_argument("--model", type=Path, help="a folder that SpeechModel.save wrote (default: the shipped one)")
    parser.add_argument("--push", type=int, nargs="+", default=[10, 25, 100], help="frames of a push")
    arguments = parser.parse_args()
    model = sa.load_pretrained("small-en-phones") if arguments.model is None else sa.load(arguments.model)
    torch.set_num_threads(1)
    waveform, rate = sa.load_audio(arguments.audio, model.config.framing.sample_rate)
    print(
        f"{len(waveform) / rate / 60:.1f} minutes, {model.encoder.num_parameters / 1e6:.2f} million weights, 1 thread"
    )
    print("                    largest      largest    labels      times real time:   slowest    file")
    print("  push   frames  difference       logit     equal  onnxruntime        eager    push ms      MB")
    for push_frames in arguments.push:
        print(compare(model, waveform[None], push_frames), flush=True)


if __name__ == "__main__":
    main()
