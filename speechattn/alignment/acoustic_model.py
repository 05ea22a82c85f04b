"""The frame classifier that scores phones for the aligner, and its training: a few hundred steps on frames in memory.

It is smaller than what training/ trains, and stays so: a wide context blurs where one phone ends and the next begins.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from speechattn.augment.frames import Augment
from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.data.batching import Batches, collate
from speechattn.data.labels.classes import PHONES
from speechattn.data.labels.segments import IGNORE
from speechattn.framing import Framing
from speechattn.frontend.normalize import Normalize
from speechattn.model_config import ModelConfig
from speechattn.models.speech_model import SpeechModel
from speechattn.system.progress import progress_bar
from speechattn.system.stop_signal import StopSignal

FRAMING = Framing(align="snip")
"""Windows begin on multiples of 10 ms: those of the aligners whose conventions times.py follows."""
NUM_MELS = 40
SPLICE = Context.truncated(left=5, right=5)
D_MODEL, NUM_LAYERS = 256, 2
PIECE_FRAMES, BATCH_FRAMES = 200, 2000
"""Utterances are cut into pieces of 2 s, each augmented by itself; ten of them are a batch."""
MAX_EPOCHS = 40
"""Most passes over the examples: a model that has learnt the labels of a few recordings by heart only repeats them."""
LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 2e-3, 0.01, 0.1

Example = tuple[Tensor, Tensor]
"""Frames [T, F] float32 of an utterance, and its labels [T] int64, IGNORE where unknown."""


def make_acoustic_model(frames: Iterable[Tensor], seed: int) -> SpeechModel:
    """Return an untrained model of PHONES that normalises by the mean and deviation of `frames`, each [T, F]."""
    encoder = EncoderConfig(NUM_MELS, block="mlp", d_model=D_MODEL, num_layers=NUM_LAYERS, splice=SPLICE, dropout=0.1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = SpeechModel(ModelConfig(PHONES, encoder, num_mels=NUM_MELS, framing=FRAMING))
    model.normalize = Normalize.fit(frames)
    return model.eval()


def train_acoustic_model(
    model: SpeechModel,
    examples: Sequence[Example],
    steps: int,
    seed: int,
    *,
    augment: bool,
    name: str = "training",
    stop: StopSignal | None = None,
) -> None:
    """Train `model` in place for `steps` steps of AdamW on pieces of `examples`, or for MAX_EPOCHS if these are fewer.

    `augment` adds other speakers, rooms and noise: a model of synthetic speech needs them, and one that aligns the
    very recordings that it is trained on is better without.

    Equal arguments give equal weights, on one machine with one number of threads.

    Raises:
        Interrupted: a signal came; the weights are those of an unfinished run.
    """
    num_frames = sum(len(labels) for _, labels in examples)
    steps = min(steps, math.ceil(MAX_EPOCHS * num_frames / BATCH_FRAMES))
    change = Augment(fill=model.normalize.mean)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=WEIGHT_DECAY)
    batches = _batches(examples, seed)
    with torch.random.fork_rng(devices=[]), progress_bar(total=steps, desc=name, unit="step") as bar:
        for step in range(steps):
            if stop is not None:
                stop.poll()
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * _rate(step / steps)
            frames, lengths, labels = next(batches)
            random = int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
            torch.manual_seed(random)
            model.train()
            if augment:
                frames = change(frames, lengths, torch.Generator().manual_seed(random))
            logits, _ = model.classify(frames, lengths)
            loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORE)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
            bar.update()
    model.eval()


def log_prior(labels: Iterable[Tensor]) -> Tensor:
    """Return the logarithm of the share of each of PHONES among `labels`, each counted once more than it occurs."""
    counts = torch.ones(len(PHONES), dtype=torch.float64)
    for row in labels:
        counts += torch.bincount(row[row != IGNORE], minlength=len(PHONES))
    return (counts / counts.sum()).log().float()


def phone_scores(model: SpeechModel, frames: Sequence[Tensor], prior: Tensor) -> list[NDArray[np.float32]]:
    """Return log p(phone | frame) - log p(phone), [T, C] for each of `frames` [T, F]: a scaled log-likelihood."""
    scores = []
    with torch.inference_mode():
        for row in frames:
            logits, _ = model.classify(row[None])
            scores.append((logits[0].log_softmax(-1) - prior).numpy())
    return scores


def _batches(examples: Sequence[Example], seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield batches of pieces for ever, cut elsewhere in every epoch."""
    for epoch in range(2**31):
        random = np.random.default_rng([seed, epoch])
        pieces = []
        for item, (frames, _) in enumerate(examples):
            first = int(random.integers(1, PIECE_FRAMES + 1))
            cuts = [0, *range(min(first, len(frames)), len(frames), PIECE_FRAMES), len(frames)]
            pieces += [(item, start, stop) for start, stop in pairwise(cuts) if stop > start]
        for batch in Batches([stop - start for _, start, stop in pieces], BATCH_FRAMES, seed).batches(epoch):
            chosen = [(examples[pieces[i][0]], slice(*pieces[i][1:])) for i in batch]
            yield collate(
                [example[0][part] for example, part in chosen], [example[1][part] for example, part in chosen]
            )


def _rate(progress: float) -> float:
    """Return the factor of the learning rate: a linear rise, then half a cosine to 0."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))
