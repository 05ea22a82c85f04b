"""The three output shapes: padding changes nothing, and each can learn its task's loss."""

from typing import Any

import pytest
import torch
from rounding import assert_same

from speechattn.errors import ConfigError
from speechattn.models.heads import CTC, FrameClassifier, UtteranceClassifier

LENGTHS = torch.tensor([7, 0, 3])


def attention_head(d_model: int = 4, num_classes: int = 5, num_queries: int = 1) -> UtteranceClassifier:
    """A head whose queries are not the zeros they begin with."""
    head = UtteranceClassifier(d_model, num_classes, "attention", num_queries)
    torch.nn.init.normal_(head.query.weight, generator=torch.Generator().manual_seed(3))
    return head


def two_queries(d_model: int, num_classes: int) -> UtteranceClassifier:
    return attention_head(d_model, num_classes, num_queries=2)


@pytest.mark.parametrize("kind", [FrameClassifier, UtteranceClassifier, attention_head, two_queries, CTC])
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
    if not isinstance(head, UtteranceClassifier):
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


def test_attention_pooling_is_a_mean_weighted_by_a_softmax_over_valid_frames() -> None:
    head, hidden = attention_head(), torch.randn(3, 7, 4)
    weights, output = head.weights(hidden, LENGTHS), head(hidden, LENGTHS)
    expected = (hidden[2, :3] @ head.query.weight[0]).softmax(0)
    assert_same(weights[2, :3], expected)
    assert torch.all(weights[2, 3:] == 0) and torch.all(weights[1] == 0)
    assert torch.allclose(weights.sum(1), torch.tensor([1.0, 0.0, 1.0]))
    assert_same(output[2], head.output((expected[:, None] * hidden[2, :3]).sum(0)))
    assert_same(output[1], head.output.bias)
    assert_same(head.weights(hidden)[2], (hidden[2] @ head.query.weight[0]).softmax(0))


def test_weights_do_not_depend_on_padding_nor_on_other_rows() -> None:
    head, hidden = attention_head(), torch.randn(3, 7, 4)
    dirty = hidden.clone()
    dirty[1], dirty[2, 3:] = float("nan"), float("inf")
    assert_same(head.weights(dirty, LENGTHS), head.weights(hidden, LENGTHS))
    assert_same(head.weights(hidden[2:, :3]), head.weights(hidden, LENGTHS)[2:, :3])


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_pooling_begins_as_the_mean_and_its_weights_are_what_it_uses(pooling: str) -> None:
    head, hidden = UtteranceClassifier(4, 5, pooling), torch.randn(3, 7, 4)
    assert_same(head.weights(hidden, LENGTHS)[0], torch.full((7,), 1 / 7))
    pooled = (head.weights(hidden, LENGTHS)[:, :, None] * hidden).sum(1)
    assert_same(head(hidden, LENGTHS), head.output(pooled))
    assert head(hidden[:, :0]).shape == (3, 5) and head.weights(hidden[:, :0]).shape == (3, 0)


def test_the_query_learns_and_frames_that_weigh_more_get_more_gradient() -> None:
    head = attention_head()
    hidden = torch.randn(2, 6, 4, requires_grad=True)
    head.loss(head(hidden, torch.tensor([6, 0])), torch.tensor([1, 2])).backward()  # type: ignore[no-untyped-call]
    assert head.query.weight.grad is not None and head.query.weight.grad.abs().sum() > 0
    assert hidden.grad is not None and hidden.grad.isfinite().all() and torch.all(hidden.grad[1] == 0)
    double = attention_head().double()
    frames = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: double(x, torch.tensor([3, 2])), (frames,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_attention_pooling_of_minutes_in_half_precision_is_finite_and_near_float32(dtype: torch.dtype) -> None:
    head = attention_head()
    hidden = 30 + torch.randn(1, 50_000, 4, generator=torch.Generator().manual_seed(0))
    expected = head.weights(hidden.to(dtype).float())
    half = attention_head().to(dtype)
    assert half(hidden.to(dtype)).dtype == dtype and half(hidden.to(dtype)).isfinite().all()
    assert half.weights(hidden.to(dtype)).dtype == torch.float32
    # Scores of about 30 are rounded to 0.03 in float16 and 0.25 in bfloat16; their exponential follows.
    assert torch.allclose(half.weights(hidden.to(dtype)).sum(), expected.sum(), atol=1e-3)


def test_each_query_has_a_mean_of_its_own_and_all_of_them_learn() -> None:
    head, hidden = attention_head(num_queries=2), torch.randn(3, 7, 4)
    own = (hidden[2, :3] @ head.query.weight.T).softmax(0)
    assert_same(head(hidden, LENGTHS)[2], head.output((own.T @ hidden[2, :3]).flatten()))
    assert_same(head.weights(hidden, LENGTHS)[2, :3], own.mean(1))
    assert_same(head(hidden, LENGTHS)[1], head.output.bias)
    fresh = UtteranceClassifier(4, 5, "attention", num_queries=2)
    fresh.loss(fresh(hidden, LENGTHS), torch.tensor([1, 2, 3])).backward()  # type: ignore[no-untyped-call]
    assert fresh.query.weight.grad is not None
    first, second = fresh.query.weight.grad
    assert not torch.allclose(first, second), "queries that begin equal become different"
    with pytest.raises(ValueError, match="no effect with pooling='mean'"):
        UtteranceClassifier(4, 5, "mean", num_queries=2)


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(ConfigError, match="pooling must be one of mean, attention, got 'max'"):
        UtteranceClassifier(4, 5, "max")


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
