"""The three output shapes: padding changes nothing, and each can learn its task's loss."""

from typing import Any

import pytest
import torch
from rounding import assert_same

from speechattn.models.heads import CTC, FrameClassifier, UtteranceClassifier

LENGTHS = torch.tensor([7, 0, 3])


@pytest.mark.parametrize("kind", [FrameClassifier, UtteranceClassifier, CTC])
def test_padding_changes_nothing_and_empty_rows_are_defined(kind: Any) -> None:
    head = kind(4, 5)
    hidden = torch.randn(3, 7, 4)
    dirty = hidden.clone()
    dirty[1], dirty[2, 3:] = float("nan"), float("inf")
    results = []
    for frames in (hidden, dirty):
        head.zero_grad()
        output = head(frames, LENGTHS)
        output.sum().backward()
        results.append((output, head.output.weight.grad, head.output.bias.grad))
    assert_same(*results)
    assert all(clean.isfinite().all() for clean in results[0])
    if kind is not UtteranceClassifier:
        assert torch.all(output[1] == 0) and torch.all(output[2, 3:] == 0)
    with pytest.raises(ValueError, match="Did you pass samples"):
        head(hidden, LENGTHS + 160)


def test_an_utterance_is_the_mean_of_its_frames() -> None:
    head = UtteranceClassifier(4, 5)
    hidden = torch.randn(3, 7, 4)
    output = head(hidden, LENGTHS)
    assert torch.allclose(output[0], head.output(hidden[0].mean(0)), atol=1e-6)
    assert torch.equal(output[1], head.output.bias)
    assert torch.allclose(head(hidden)[2], head.output(hidden[2].mean(0)), atol=1e-6)


def test_losses_ignore_what_has_no_label() -> None:
    frames = torch.randn(1, 4, 3)
    expected = torch.nn.functional.cross_entropy(frames[0, [0, 2]], torch.tensor([1, 2]))
    assert torch.allclose(FrameClassifier.loss(frames, torch.tensor([[1, -100, 2, -100]])), expected)
    assert FrameClassifier.loss(frames, torch.full((1, 4), -100)) == 0
    rows = torch.randn(2, 3)
    expected = torch.nn.functional.cross_entropy(rows[:1], torch.tensor([2]))
    assert torch.allclose(UtteranceClassifier.loss(rows, torch.tensor([2, -100])), expected)


def test_ctc_loss_falls_on_the_right_sequence_and_decode_reads_it() -> None:
    head = CTC(4, 5)
    path = torch.tensor([[0, 1, 1, 0, 1, 3, 3], [2, 2, 2, 2, 4, 4, 4]])
    log_probs = (torch.nn.functional.one_hot(path, 5) * 20.0).log_softmax(-1)
    lengths = torch.tensor([7, 4])
    assert head.decode(log_probs, lengths) == [[1, 1, 3], [2]]
    targets, target_lengths = torch.tensor([[1, 1, 3], [2, 0, 0]]), torch.tensor([3, 1])
    right = head.loss(log_probs, lengths, targets, target_lengths)
    wrong = head.loss(log_probs, lengths, targets.flip(1).clamp(min=1), target_lengths)
    assert right < 1e-3 < wrong
    with pytest.raises(ValueError, match="Call the head first"):
        head.loss(torch.randn(2, 7, 4), lengths, targets, target_lengths)
    assert head.loss(log_probs, torch.tensor([1, 1]), targets, torch.tensor([3, 1])).isfinite()
