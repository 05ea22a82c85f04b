"""Measure what docs/lecture.md states about neighbouring frames and about small data: two tables of frame accuracies.

    python scripts/train_lecture.py --data DIR/LibriSpeech --alignments DIR/alignments

Short trainings of small encoders on phones: enough to rank them, far from what they can reach. The recipe
frame_classifier trains them properly. One seed; one thread by default, so that a second run prints the same numbers on
the same machine. Held-out speakers are the same in both tables.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

import speechattn as sa
from speechattn.data.batching import Batches, collate
from speechattn.data.labelled_corpus import load_corpus
from speechattn.data.labels.classes import PHONES
from speechattn.data.speaker_split import split_by_speaker
from speechattn.training.dataset import Example, make_examples
from speechattn.training.metrics import ClassScores
from speechattn.training.tasks.frames import FrameTask

NUM_MELS = 40
BATCH_FRAMES = 2000
LEARNING_RATE = 2e-3
HELD_OUT = 0.1
"""Share of the speakers that the accuracies are measured on."""
FEW = 16
"""Utterances of the small training set of the second table."""
WINDOW = sa.Context.truncated(15, 15)
ELEVEN = sa.Context.truncated(5, 5)
TRUNCATED = "attention, 15 frames to each side"
"""The encoder that is in both tables; it is trained once."""

NEIGHBOURS: dict[str, dict[str, object]] = {
    "linear, 1 frame": {"block": "linear"},
    "MLP, 1 frame": {"block": "mlp", "num_layers": 2, "d_model": 256},
    "MLP, 11 frames": {"block": "mlp", "num_layers": 2, "d_model": 256, "splice": ELEVEN},
    TRUNCATED: {"context": WINDOW},
}
AMOUNTS: dict[str, dict[str, object]] = {
    "convolution, 7 taps": {"block": "cnn", "conv_kernel": 7, "conv_lookahead": "symmetric"},
    TRUNCATED: {"context": WINDOW},
    "the same with sinusoidal positions": {"context": WINDOW, "position_encoding": "sinusoidal"},
}
"""Encoders by name, as the settings that differ from `encoder_config`."""


def main() -> None:
    """Train, measure and print both tables."""
    parser = argparse.ArgumentParser(description="Print the two tables of trained encoders of docs/lecture.md.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="a folder in LibriSpeech layout")
    parser.add_argument(
        "--alignments", type=Path, required=True, metavar="DIR", help="a folder with <subset>.phones.ctm"
    )
    parser.add_argument("--subset", default="train-clean-100", help="the subset to train on (%(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="training steps of each encoder (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (%(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start = time.monotonic()
    train, held_out = load_examples(options.data, options.subset, options.alignments)
    few = train[:: max(1, len(train) // FEW)][:FEW]
    print(
        f"{len(train)} utterances to train on, {len(held_out)} of other speakers to measure on, {options.steps} steps"
    )
    always = most_frequent_share(held_out)
    print(f"\n{'frame sees':38} accuracy  parameters\n{'nothing: always silence':38} {always:8.3f}")
    found: dict[str, tuple[float, int]] = {}
    for name, settings in NEIGHBOURS.items():
        found[name] = accuracy, parameters = train_and_score(settings, train, held_out, options.steps)
        print(f"{name:38} {accuracy:8.3f}  {parameters:10,}", flush=True)
    print(f"\n{'encoder':38} {f'{len(few)} utterances':>15} {f'{len(train)} utterances':>15}  parameters")
    for name, settings in AMOUNTS.items():
        small, _ = train_and_score(settings, few, held_out, options.steps)
        large, parameters = found.get(name) or train_and_score(settings, train, held_out, options.steps)
        print(f"{name:38} {small:15.3f} {large:15.3f}  {parameters:10,}", flush=True)
    print(f"\n{time.monotonic() - start:.0f} s")


def load_examples(data: Path, subset: str, alignments: Path) -> tuple[list[Example], list[Example]]:
    """Return normalised frames and labels of the speakers to train on and of the held-out speakers."""
    corpus = load_corpus(data, subset, alignments)
    examples = make_examples(corpus, sa.LogMel(num_mels=NUM_MELS), FrameTask(PHONES))
    speakers = split_by_speaker([example.utterance for example in examples], HELD_OUT)[1]
    names = {utterance.speaker for utterance in speakers}
    train = [example for example in examples if example.utterance.speaker not in names]
    held_out = [example for example in examples if example.utterance.speaker in names]
    normalize = sa.Normalize.fit([example.frames for example in train])
    for example in examples:
        example.frames.copy_(normalize(example.frames[None])[0])
    return train, held_out


def encoder_config(settings: dict[str, object]) -> sa.EncoderConfig:
    """Return a small encoder, three layers of 64 features, with `settings` changed."""
    common: dict[str, object] = {"d_model": 64, "num_heads": 4, "num_layers": 3, "d_ff": 128, "dropout": 0.0}
    return sa.EncoderConfig(input_dim=NUM_MELS, **(common | settings))  # type: ignore[arg-type]


def train_and_score(
    settings: dict[str, object], train: Sequence[Example], held_out: Sequence[Example], steps: int
) -> tuple[float, int]:
    """Train an encoder with a frame classifier; return the accuracy on `held_out` and the number of parameters."""
    torch.manual_seed(0)
    encoder = sa.build_encoder(encoder_config(settings))
    head = sa.FrameClassifier(encoder.config.d_model, len(PHONES))
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.15)
    batches = Batches([len(example.frames) for example in train], BATCH_FRAMES, seed=0)
    stream = itertools.chain.from_iterable(batches.batches(epoch) for epoch in itertools.count())
    for indices in itertools.islice(stream, steps):
        chosen = [train[i] for i in indices]
        frames, lengths, labels = collate([one.frames for one in chosen], [one.labels for one in chosen])
        loss = head.loss(head(*encoder(frames, lengths)), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    scores = ClassScores(len(PHONES))
    with torch.no_grad():
        for example in held_out:
            scores.update(head(*encoder.eval()(example.frames[None])), example.labels[None])
    return scores.accuracy, sum(weight.numel() for weight in parameters)


def most_frequent_share(examples: Sequence[Example]) -> float:
    """Return the share of labelled frames that are silence, class 0."""
    labels = torch.cat([example.labels for example in examples])
    return float((labels == 0).sum() / (labels >= 0).sum())


if __name__ == "__main__":
    main()
