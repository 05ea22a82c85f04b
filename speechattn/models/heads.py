"""Heads: hidden frames [B, T, D] -> labels, in three output shapes: N -> N, N -> 1, N -> M.

Losses ignore padding, and the label -100. Sums over frames, log probabilities and losses are float32 for logits of any
dtype, autocast included, and float64 for float64: in half precision a sum over some minutes is infinite.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, ctc_loss

from speechattn.data.labels.segments import IGNORE
from speechattn.dtypes import check_floating, fitting, widened
from speechattn.lengths import check_lengths, full_lengths, lengths_of, valid_mask, zero_padding
from speechattn.model_config import POOLINGS
from speechattn.system.serialization import check_choice, whole


class FrameClassifier(nn.Module):
    """N -> N: one label per frame, logits [B, T, C].

    Examples:
        >>> FrameClassifier(d_model=8, num_classes=41)(torch.zeros(2, 100, 8)).shape
        torch.Size([2, 100, 41])
    """

    def __init__(self, d_model: int, num_classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(whole("d_model", d_model), whole("num_classes", num_classes))

    def forward(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return logits [B, T, C], exactly 0 at and past `lengths` [B]."""
        hidden = fitting(hidden, self, "head")
        lengths = check_lengths(lengths, hidden.shape[0], hidden.shape[1])
        return zero_padding(self.output(zero_padding(hidden, lengths)), lengths)

    @staticmethod
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross entropy in nats over the frames of `labels` [B, T] that are not -100; 0 without any.

        Raises:
            ValueError: labels are not one for each frame of logits [B, T, C].
        """
        if labels.shape != logits.shape[:2]:
            raise ValueError(
                f"labels must be one for each of the frames {list(logits.shape[:2])}, got {list(labels.shape)}. An "
                "encoder with stack=s gives one frame for s of its input: take labels[:, s // 2 :: s], or stack=1."
            )
        return _mean_cross_entropy(logits.flatten(0, 1), labels.flatten())


class UtteranceClassifier(nn.Module):
    """N -> 1: one label per utterance, logits [B, C], from a weighted mean of its valid frames.

    With pooling="mean" all frames have one weight. With "attention" a frame's weight is the softmax, over the valid
    frames, of its product with a learned query (Safari et al. 2020, equation 1). The query is 0 at first, which is the
    mean. Several queries give several weighted means, which are joined. An utterance without frames has a mean of zero,
    so its logits are the bias.

    Args:
        d_model: D, features of a frame.
        num_classes: C.
        pooling: "mean" or "attention".
        num_queries: queries of pooling="attention".

    Examples:
        >>> head = UtteranceClassifier(d_model=8, num_classes=10, pooling="attention")
        >>> hidden = torch.zeros(2, 4, 8)
        >>> head(hidden).shape, head.weights(hidden, torch.tensor([4, 2])).tolist()
        (torch.Size([2, 10]), [[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]])
    """

    def __init__(self, d_model: int, num_classes: int, pooling: str = "mean", num_queries: int = 1) -> None:
        super().__init__()
        d_model, num_queries = whole("d_model", d_model), whole("num_queries", num_queries)
        check_choice("UtteranceClassifier", "pooling", pooling, POOLINGS)
        if pooling != "attention" and num_queries != 1:
            raise ValueError(f'num_queries={num_queries} has no effect with pooling={pooling!r}: use "attention".')
        self.pooling = pooling
        if pooling == "attention":
            self.query = nn.Linear(d_model, num_queries, bias=False)
            nn.init.zeros_(self.query.weight)  # the weights of `output` differ, so the queries become different
        self.output = nn.Linear(num_queries * d_model, whole("num_classes", num_classes))

    def forward(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return logits [B, C] of hidden frames [B, T, D] with `lengths` [B]."""
        hidden = fitting(hidden, self, "head")
        lengths = check_lengths(lengths, hidden.shape[0], hidden.shape[1])
        if self.pooling == "mean":
            counts = full_lengths(hidden) if lengths is None else lengths.to(hidden.device)
            total = zero_padding(hidden, lengths).sum(1, dtype=widened(hidden.dtype))
            pooled = total / counts.clamp(min=1)[:, None]
        else:
            hidden = zero_padding(hidden, lengths)
            weights = self._attention(hidden, lengths)
            pooled = (weights.mT @ hidden.to(weights.dtype)).flatten(1)
        logits: Tensor = self.output(pooled.to(hidden.dtype))
        return logits

    def weights(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the weight of each frame [B, T]: 0 at and past `lengths` [B], with sum 1 over the frames of a row.

        With several queries it is the mean of their weights.
        """
        hidden = fitting(hidden, self, "head")
        lengths = check_lengths(lengths, hidden.shape[0], hidden.shape[1])
        if self.pooling == "attention":
            return self._attention(zero_padding(hidden, lengths), lengths).mean(2)
        counts = lengths_of(hidden, lengths).to(hidden.device)
        share = hidden.new_ones(hidden.shape[:2], dtype=widened(hidden.dtype)) / counts.clamp(min=1)[:, None]
        return zero_padding(share, lengths)

    def _attention(self, hidden: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the weights [B, T, queries], float32 at least, of frames without padding values."""
        scores = self.query(hidden)
        scores = scores.to(widened(scores.dtype))
        if lengths is not None:
            # The lowest finite score, and not -inf: a row without frames would be NaN, and so would its gradient.
            valid = valid_mask(lengths.to(hidden.device), hidden.shape[1])
            scores = scores.masked_fill(~valid[:, :, None], torch.finfo(scores.dtype).min)
        return zero_padding(scores.softmax(1), lengths)

    @staticmethod
    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross entropy in nats over the rows of `labels` [B] that are not -100; 0 without any.

        Raises:
            ValueError: labels are not one integer for each row of logits [B, C].
        """
        if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.is_floating_point():
            raise ValueError(
                f"labels must be one integer for each row of logits [B, C], got {labels.dtype} {list(labels.shape)} "
                f"for {list(logits.shape)}."
            )
        return _mean_cross_entropy(logits, labels)


class CTC(nn.Module):
    """N -> M: a sequence of labels shorter than the frames, by connectionist temporal classification.

    Class 0 is the blank (Graves et al. 2006).

    Examples:
        >>> head = CTC(d_model=8, num_classes=30)
        >>> head(torch.zeros(1, 100, 8)).exp().sum(-1).allclose(torch.ones(1, 100))
        True
    """

    def __init__(self, d_model: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes = whole("num_classes", num_classes)
        self.output = nn.Linear(whole("d_model", d_model), num_classes)

    def forward(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return log probabilities [B, T, C], float32 at least, exactly 0 at and past `lengths` [B]."""
        hidden = fitting(hidden, self, "head")
        lengths = check_lengths(lengths, hidden.shape[0], hidden.shape[1])
        logits = self.output(zero_padding(hidden, lengths))
        return zero_padding(logits.log_softmax(-1, dtype=widened(logits.dtype)), lengths)

    def loss(self, log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> Tensor:
        """Return the mean over the batch of the negative log likelihood per target label, in nats.

        `log_probs` [B, T, C], `lengths` [B] frames, `targets` [B, M] classes from 1 on, `target_lengths` [B].
        A target that does not fit into its frames costs 0, instead of infinity.

        Raises:
            ValueError: log_probs do not have the head's classes (hidden frames, perhaps); or targets are no classes, or
                fewer than target_lengths.
        """
        if log_probs.shape[-1] != self.num_classes:
            raise ValueError(
                f"log_probs must be [B, T, {self.num_classes}], got {list(log_probs.shape)}. "
                "Call the head first: head(hidden, lengths)."
            )
        _check_targets(targets, target_lengths, log_probs.shape[-1])
        log_probs = log_probs.to(widened(log_probs.dtype)).transpose(0, 1)
        return ctc_loss(log_probs, targets, lengths, target_lengths, zero_infinity=True)

    @staticmethod
    def decode(log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
        """Return the best path of each row, repeats merged and blanks removed: a list of classes per row."""
        rows = []
        for row, length in zip(log_probs.argmax(-1), lengths.tolist(), strict=True):
            merged = torch.unique_consecutive(row[:length])
            rows.append(merged[merged != 0].tolist())
        return rows


def _check_targets(targets: Tensor, target_lengths: Tensor, num_classes: int) -> None:
    """Raise ValueError for targets that torch's CTC would silently read out of bounds."""
    if targets.ndim != 2 or target_lengths.shape != targets.shape[:1]:
        raise ValueError(
            f"targets must be [B, M] and target_lengths [B], got {list(targets.shape)}, {list(target_lengths.shape)}."
        )
    max_length = int(target_lengths.max()) if len(target_lengths) else 0
    if max_length > targets.shape[1]:
        raise ValueError(f"target_lengths must be at most M = {targets.shape[1]}, got {max_length}.")
    used = targets[valid_mask(target_lengths.to(targets.device), targets.shape[1])]
    wrong = used[(used < 1) | (used >= num_classes)]
    if len(wrong):
        raise ValueError(
            f"targets must be classes from 1 to {num_classes - 1} (0 is the blank) up to their target_lengths, "
            f"got {int(wrong[0])}."
        )


def _mean_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    check_floating(logits)
    total = cross_entropy(logits.to(widened(logits.dtype)), labels, ignore_index=IGNORE, reduction="sum")
    return total / (labels != IGNORE).sum().clamp(min=1)
