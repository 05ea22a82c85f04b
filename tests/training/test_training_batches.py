"""The batches of an epoch, kept as arrays, are those that lists of pieces were."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from speechattn.data.batching import Batches
from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.data.labels.segments import Utterance
from speechattn.training.config import TrainConfig
from speechattn.training.dataset import Example, Piece, TrainingBatches

LENGTHS = [0, 1, 59, 60, 61, 400, 3, 123, 0, 1000]


@pytest.fixture
def examples() -> list[Example]:
    found = []
    for i, length in enumerate(LENGTHS):
        utterance = LabelledUtterance(Utterance(f"u{i}", "s", Path(f"u{i}")), length, ())
        frames = torch.arange(length * 2.0).reshape(length, 2) + 10_000 * i
        found.append(Example(utterance, frames, torch.arange(length)))
    return found


def batches_in_a_loop(config: TrainConfig, epoch: int) -> list[list[Piece]]:
    """What an epoch was when its pieces were objects in lists."""
    random = np.random.default_rng([config.seed, epoch])
    crop, stretch = config.crop_frames, config.stretch
    pieces = []
    for item, length in enumerate(LENGTHS):
        first = int(random.integers(1, crop + 1))
        cuts = [0, *range(min(first, length), length, crop), length] if length > crop else [0, length]
        for start, stop in itertools.pairwise(cuts):
            if stop > start:
                pieces.append(Piece(item, start, stop, float(random.uniform(1 - stretch, 1 + stretch))))
    batches = Batches([piece.num_frames for piece in pieces], config.batch_frames, config.seed)
    return [[pieces[i] for i in batch] for batch in batches.batches(epoch)]


@pytest.mark.parametrize("stretch", [0.0, 0.25])
def test_an_epoch_is_what_it_was_as_lists_of_pieces(examples: list[Example], stretch: float) -> None:
    config = TrainConfig(seed=7, crop_frames=60, batch_frames=200, stretch=stretch)
    batches = TrainingBatches(examples, config)
    for epoch in (0, 1, 2, 0):
        got, wanted = batches.epoch(epoch), batches_in_a_loop(config, epoch)
        assert list(got) == wanted and len(got) == len(wanted) and got == wanted
        assert list(got[3:]) == wanted[3:] and list(got[2:5][1:]) == wanted[3:5] and got[-1] == wanted[-1]
    epochs = [batches.epoch(epoch) for epoch in range(6)]
    assert epochs[1][0] == batches_in_a_loop(config, 1)[0], "an earlier epoch can be asked again"


def test_rows_of_a_batch_come_from_where_they_were_cut(examples: list[Example]) -> None:
    batches = TrainingBatches(examples, TrainConfig(crop_frames=60, batch_frames=200))
    for batch in batches.epoch(0):
        frames, lengths, labels = batches.load(batch)
        for row, piece in enumerate(batch):
            count = int(lengths[row])
            assert torch.equal(frames[row, :count], examples[piece.item].frames[piece.start : piece.stop])
            assert torch.equal(labels[row, :count], examples[piece.item].labels[piece.start : piece.stop])
