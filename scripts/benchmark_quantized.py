"""The shipped small model, or --model, with int8 linear layers beside float32: size, speed and frame accuracy.

    python scripts/benchmark_quantized.py --data DIR/LibriSpeech --subset test-clean --alignments DIR/alignments

int8 is torch.ao.quantization.quantize_dynamic of every nn.Linear: weights are rounded once, inputs in every call. The
model takes each recording at once (offline), and in pushes of --push-ms (stream).

    MB          of all weights, as torch.save writes them
    x faster    float32 seconds by int8 seconds, on one thread: interleaved rounds, the least of each
    accuracy    share of labelled frames
    agreement   share of all frames that have the label of float32 offline

Not here: ONNX, whose runtimes quantise by themselves.
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable
from typing import Any

import torch
from benchmark_measuring import elapsed, format_machine, machine
from torch import Tensor

import speechattn as sa
from speechattn.data.audio.files import load_audio
from speechattn.data.labelled_corpus import load_corpus
from speechattn.models.speech_model import SpeechModel
from speechattn.training.dataset import make_examples
from speechattn.training.tasks.frames import FrameTask

Labels = list[Tensor]


def main() -> None:
    """Measure and print."""
    options = parse()
    torch.set_num_threads(1)
    plain = sa.load(options.model) if options.model else sa.load_pretrained("small-en-phones")
    models = {"float32": plain, "int8": quantized(plain)}
    config = plain.config
    corpus = load_corpus(
        options.data, options.subset, options.alignments, config.classes, sample_rate=config.framing.sample_rate
    )
    examples = make_examples(corpus, plain.frontend, FrameTask(config.classes))
    waveforms = [load_audio(example.utterance.utterance.path, config.framing.sample_rate)[0] for example in examples]
    push = options.push_ms * config.framing.sample_rate // 1000
    jobs: dict[str, Callable[[SpeechModel], Labels]] = {
        "offline": lambda model: [offline(model, waveform) for waveform in waveforms],
        "stream": lambda model: [stream(model, waveform, push) for waveform in waveforms],
    }
    print(format_machine(machine()))
    seconds = sum(map(len, waveforms)) / config.framing.sample_rate
    print(f"{len(waveforms)} recordings, {seconds:.0f} s; pushes of {options.push_ms} ms, {options.rounds} rounds\n")
    print(f"{'':<18}{'MB':>6}{'x faster':>10}{'accuracy':>10}{'agreement':>11}")
    reference = jobs["offline"](plain)
    for job, labels_of in jobs.items():
        times = dict.fromkeys(models, math.inf)
        for _ in range(options.rounds):
            for name, model in models.items():
                times[name] = min(times[name], elapsed(lambda run=labels_of, model=model: run(model)))
        for name, model in models.items():
            labels = labels_of(model)
            right = accuracy(labels, [example.labels for example in examples])
            same = accuracy(labels, reference)
            faster = times["float32"] / times[name]
            print(f"{job:<9}{name:<9}{megabytes(model):>6.2f}{faster:>10.2f}{right:>10.4f}{same:>11.4f}")


def quantized(model: SpeechModel) -> SpeechModel:
    """Return a copy of a model with int8 linear layers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torchao replaces it, one day
        copy: SpeechModel = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    return copy


@torch.no_grad()
def offline(model: SpeechModel, waveform: Tensor) -> Tensor:
    """Return the classes [T] of samples [N]."""
    return model(waveform[None])[0][0].argmax(-1)


@torch.no_grad()
def stream(model: SpeechModel, waveform: Tensor, push: int) -> Tensor:
    """Return the classes [T] of samples [N] that come `push` at a time."""
    state, parts = model.initial_state(), []
    for piece in waveform[None].split(push, 1):
        logits, state = model.step(piece, state)
        parts.append(logits)
    return torch.cat([*parts, model.flush(state)], 1)[0].argmax(-1)


def accuracy(labels: Labels, wanted: Labels) -> float:
    """Return the share of frames that are as wanted, of those that have a label."""
    found, expected = torch.cat(labels), torch.cat(wanted)
    return float((found == expected)[expected >= 0].double().mean())


def megabytes(model: SpeechModel) -> float:
    """Return the size of a model's weights."""
    return sum(map(num_bytes, model.state_dict().values())) / 1e6


def num_bytes(entry: Any) -> int:
    """Return the size of an entry of a state_dict: a tensor, or a tuple of them as packed int8 weights are."""
    if isinstance(entry, tuple):
        return sum(map(num_bytes, entry))
    return entry.numel() * entry.element_size() if isinstance(entry, Tensor) else 0


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="LibriSpeech's folder")
    parser.add_argument("--subset", default="test-clean")
    parser.add_argument("--alignments", required=True, help="folder with <subset>.phones.ctm or another form")
    parser.add_argument("--model", help="a saved model with a frame classifier; else the shipped one")
    parser.add_argument("--push-ms", type=int, default=100, dest="push_ms")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
