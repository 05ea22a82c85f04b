"""Hidden frames [B, T, D] -> labels. Losses ignore padding and the label -100."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from speechattn.lengths import check_lengths, zero_padding

IGNORE = -100


class FrameClassifier(nn.Module):
    """N -> N: one label per frame, logits [B, T, C]."""

    def __init__(self, d_model: int, num_classes: int) -> None:
        super().__init__()
        self.output = nn.Linear(d_model, num_classes)

    def forward(self, hidden: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits [B, T, C], exactly 0 at and past `lengths` [B]."""
        lengths = check_lengths(lengths, hidden.shape[0], hidden.shape[1])
        return zero_padding(self.output(hidden), lengths)

    @staticmethod
    def loss(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """Mean cross entropy in nats over the frames of `labels` [B, T] that are not -100; 0 without any."""
        flat = labels.flatten()
        total = cross_entropy(
            logits.flatten(0, 1), flat, ignore_index=IGNORE, reduction="sum", label_smoothing=label_smoothing
        )
        return total / (flat != IGNORE).sum().clamp(min=1)
