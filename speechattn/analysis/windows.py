"""The same model with other windows: what its labels lose, and what its latency gains.

Weights do not depend on the context, so nothing is trained anew. A model that was trained with a small window is
better at it than this shows: the curve is a lower bound of what such a window is worth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from speechattn.context import UNLIMITED_OFFSETS, Context
from speechattn.models.speech_model import SpeechModel
from speechattn.receptive_field import latency_frames, max_receptive_field

FRACTIONS = ("1", "1/2", "1/4", "1/8", "0")
"""Windows that are compared by default, as parts of the trained one."""
Contexts = tuple[Context, ...]


@dataclass(frozen=True)
class WindowResult:
    """One window. Agreement, accuracy and divergence are None where the model has no posteriors or no reference."""

    name: str
    """The part of the trained window, or the context."""
    contexts: list[str]
    """The context of each attention layer."""
    frames: int
    """Frames compared."""
    agreement: float | None
    """Share of frames with the label of the trained window."""
    kl_bits: float | None
    """Mean divergence of the posteriors from those of the trained window, in bits."""
    accuracy: float | None
    """Share of the labelled frames with the label of the reference."""
    reference_frames: int
    """Frames with a reference label."""
    latency_ms: float | None
    """The longest that an output waits, the frontend's window included; None without limit."""
    receptive_field_ms: float | None
    """Input that an output depends on at most; None without limit."""

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON types."""
        return asdict(self)


def part_of(context: Context, part: Fraction) -> Context:
    """Return a context with `part` of both sides and of the chunk, rounded down; 0 is the frame alone, 1 all of it.

    A side without limit counts as 128 frames in every smaller part.

    Examples:
        >>> [part_of(Context.truncated(26, 4), Fraction(part)) for part in ("1", "1/4", "0")]
        [Context(left=26, right=4, chunk=1), Context(left=6, right=1, chunk=1), Context(left=0, right=0, chunk=1)]
        >>> part_of(Context.chunked(16, left=None), Fraction("1/2"))
        Context(left=64, right=0, chunk=8)
    """
    if part == 1:
        return context
    left, right = (
        math.floor(part * (UNLIMITED_OFFSETS if side is None else side)) for side in (context.left, context.right)
    )
    return Context(left, right, max(1, math.floor(part * context.chunk)))


class WindowComparison:
    """Sums over frames for each window; the first window is the one that all are compared with."""

    def __init__(self, windows: Sequence[tuple[str, Contexts]]) -> None:
        self.windows = list(windows)
        count = len(self.windows)
        self.agree, self.kl, self.right = (torch.zeros(count, dtype=torch.float64) for _ in range(3))
        self.frames = self.labelled = 0

    def add(self, logits: Sequence[Tensor], labels: Tensor) -> None:
        """Add the logits [T, C] of every window for the same frames; `labels` [T] are below 0 where there is none."""
        trained = logits[0].double().log_softmax(1)
        own, known = trained.argmax(1), labels >= 0
        self.frames += len(own)
        self.labelled += int(known.sum())
        for at, other in enumerate(logits):
            log_probs = other.double().log_softmax(1)
            guess = log_probs.argmax(1)
            self.agree[at] += (guess == own).sum()
            self.kl[at] += (trained.exp() * (trained - log_probs)).sum() / math.log(2)
            self.right[at] += (guess == labels)[known].sum()

    def results(self, model: SpeechModel) -> list[WindowResult]:
        """Return the numbers of every window, the trained one first."""
        return [self._result(model, at, name, contexts) for at, (name, contexts) in enumerate(self.windows)]

    def _result(self, model: SpeechModel, at: int, name: str, contexts: Contexts) -> WindowResult:
        frames, labelled = self.frames, self.labelled
        latency, field = window_cost(model, contexts)
        return WindowResult(
            name=name,
            contexts=[str(context) for context in contexts],
            frames=frames,
            agreement=float(self.agree[at]) / frames if frames else None,
            kl_bits=float(self.kl[at]) / frames if frames else None,
            accuracy=float(self.right[at]) / labelled if labelled else None,
            reference_frames=labelled,
            latency_ms=latency,
            receptive_field_ms=field,
        )


def window_cost(model: SpeechModel, contexts: Contexts) -> tuple[float | None, float | None]:
    """Return the longest wait of an output and its receptive field, in ms, with these contexts of the layers.

    None has no limit, or is not known of a module of your own.
    """
    if not model.is_described or len(contexts) != model.config.encoder.num_layers:
        return None, None
    config, framing = model.config, model.config.framing
    stack = replace(config, encoder=replace(config.encoder, context=contexts)).contexts
    waited, field = latency_frames(stack), max_receptive_field(stack)
    latency = None if waited is None else waited[2] * framing.hop_ms + framing.latency_ms()
    return latency, None if field is None else field * framing.hop_ms
