"""Consistency regularization: two differently masked views of a batch should have equal posteriors.

As in CR-CTC (Yao et al. 2024, arXiv 2410.05101): each batch is augmented twice, and the symmetric Kullback-Leibler
divergence between the two posteriors of each frame is added to the loss; a step costs two.
"""

from __future__ import annotations

import torch
from torch import Tensor

from speechattn.dtypes import widened


def join_views(first: Tensor, second: Tensor) -> Tensor:
    """Return two views [B, T, F] of a batch as one tensor [B, T, 2 F], so that rows can be taken from both."""
    return torch.cat((first, second), 2)


def split_views(views: Tensor, lengths: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the batch of 2 B rows, first views first: frames [2 B, T, F], lengths [2 B] and labels [2 B, L]."""
    return torch.cat(views.chunk(2, 2)), lengths.repeat(2), labels.repeat(2, 1)


def symmetric_kl(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mean divergence in nats between the two views of each frame.

    Each view is drawn to the other one, which is held fixed: half of KL(first || second) + KL(second || first), without
    a gradient through the first argument of each.

    Args:
        logits: [2 B, T, C], first views first.
        mask: bool [2 B, T], True at frames that count; the same for both views.

    Examples:
        >>> view = torch.randn(1, 3, 5)
        >>> float(symmetric_kl(torch.cat((view, view)), torch.ones(2, 3, dtype=torch.bool)))
        0.0
    """
    first, second = logits.to(widened(logits.dtype)).log_softmax(-1).chunk(2)
    divergence = 0.5 * (kl_divergence(first.detach(), second) + kl_divergence(second.detach(), first))
    counted = mask.chunk(2)[0]
    return torch.where(counted, divergence, 0).sum() / counted.sum().clamp(min=1)


def kl_divergence(log_target: Tensor, log_probs: Tensor) -> Tensor:
    """Return KL(target || probs) in nats of each frame [B, T], of log probabilities [B, T, C]."""
    return (log_target.exp() * (log_target - log_probs)).sum(-1)
