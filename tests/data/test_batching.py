"""Batches are a pure function of lengths, seed, epoch and k; collate never hides a difference in length."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechattn.data.batching import Batches, collate
from speechattn.data.labels.segments import IGNORE

LENGTHS = np.random.default_rng(0).integers(100, 3500, 400).tolist()


def padded_size(batch: list[int], lengths: list[int]) -> int:
    return max(lengths[i] for i in batch) * len(batch)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 500), max_size=60), st.integers(1, 1000), st.integers(0, 9), st.integers(0, 9))
def test_each_item_once_and_no_batch_too_large(lengths: list[int], max_frames: int, seed: int, epoch: int) -> None:
    got = Batches(lengths, max_frames, seed).batches(epoch)
    assert sorted(itertools.chain(*got)) == list(range(len(lengths)))
    assert all(len(batch) == 1 or padded_size(batch, lengths) <= max_frames for batch in got)


def test_batch_k_depends_on_lengths_seed_and_epoch_alone() -> None:
    first = Batches(LENGTHS, 20_000, seed=3)
    wanted = first.batches(5)
    np.random.seed(123)
    torch.manual_seed(123)
    first.batches(0)
    assert first.batches(5) == wanted
    assert Batches(tuple(LENGTHS), 20_000, seed=3).batches(5) == wanted


def test_epochs_and_seeds_differ_in_content_and_order() -> None:
    sampler = Batches(LENGTHS, 20_000, seed=3)
    contents = [{frozenset(batch) for batch in sampler.batches(epoch)} for epoch in range(3)]
    assert len(contents[0] & contents[1]) < len(contents[0]) / 2
    assert sampler.batches(0) != Batches(LENGTHS, 20_000, seed=4).batches(0)
    means = [np.mean([LENGTHS[i] for i in batch]) for batch in sampler.batches(0)]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5  # not from short to long


def test_similar_lengths_meet_so_little_is_padding() -> None:
    got = Batches(LENGTHS, 20_000, seed=0).batches(0)
    assert sum(LENGTHS) / sum(padded_size(batch, LENGTHS) for batch in got) > 0.9


def test_an_item_that_is_too_long_is_alone() -> None:
    got = Batches([10, 5000, 10], 100, seed=0).batches(0)
    assert sorted(map(sorted, got)) == [[0, 2], [1]]


def test_no_items_give_no_batches() -> None:
    assert Batches([], 100, seed=0).batches(0) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(([-1], 10, 0), "lengths"), (([1], 0, 0), "max_frames"), (([1], 10, -1), "seed")],
)
def test_bad_arguments_are_refused(arguments: tuple[list[int], int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Batches(*arguments)


def test_collate_pads_frames_with_zero_and_labels_with_ignore() -> None:
    lengths = [3, 0, 5, 1]
    frames = [torch.randn(length, 4, dtype=torch.float64) for length in lengths]
    labels = [torch.arange(length, dtype=torch.int32) for length in lengths]
    padded, got_lengths, targets = collate(frames, labels)
    assert padded.shape == (4, 5, 4)
    assert padded.dtype == torch.float64
    assert got_lengths.dtype == targets.dtype == torch.int64
    assert got_lengths.tolist() == lengths
    for b, length in enumerate(lengths):
        assert torch.equal(padded[b, :length], frames[b])
        assert torch.equal(targets[b, :length], labels[b].long())
        assert (padded[b, length:] == 0).all()
        assert (targets[b, length:] == IGNORE).all()


@pytest.mark.parametrize(
    ("frames", "labels", "message"),
    [
        ([], [], "at least one"),
        ([torch.zeros(3, 4)], [], "got 1 and 0"),
        ([torch.zeros(3, 4)], [torch.zeros(2)], "item 0: 3 frames but 2 labels"),
        ([torch.zeros(3, 4), torch.zeros(3, 5)], [torch.zeros(3), torch.zeros(3)], r"item 1: expected frames \[T, 4\]"),
        ([torch.zeros(3)], [torch.zeros(3)], "item 0: expected frames"),
        ([torch.zeros(3, 4)], [torch.zeros(3, 1)], "item 0: expected frames"),
    ],
)
def test_collate_refuses_what_does_not_fit(
    frames: list[torch.Tensor], labels: list[torch.Tensor], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        collate(frames, labels)
