"""Classes of frames to rows of labels with their times and probabilities, for a stream and for a whole recording."""

from __future__ import annotations

from torch import Tensor

from speechattn.decoding.smoothing import Smoothing
from speechattn.decoding.viterbi import viterbi
from speechattn.dtypes import widened
from speechattn.models.heads import CTC
from speechattn.models.speech_model import SpeechModel
from speechattn.streaming.labels import FrameLabels


def label_rows(
    model: SpeechModel, classes: Tensor, log_probs: Tensor, first: int = 0, last_class: int = 0
) -> FrameLabels:
    """Return the labels of frames: one a frame, or with CTC one where another class than the blank begins.

    Args:
        model: has the head, the names of classes and the framing.
        classes: class of each frame, [m].
        log_probs: log probabilities [m or more, C] that begin with those of these frames.
        first: number of the first of these frames.
        last_class: class of the frame before it.
    """
    probabilities = log_probs[: len(classes)].gather(1, classes.to(log_probs.device)[:, None])[:, 0].exp()
    names, is_ctc, last = model.config.classes, isinstance(model.head, CTC), last_class
    rows = []
    for i, (c, p) in enumerate(zip(classes.tolist(), probabilities.tolist(), strict=True), first):
        if not is_ctc or c not in (0, last):
            rows.append((_edge_s(model, i), _edge_s(model, i + 1), names[c], p))
        last = c
    return FrameLabels(*zip(*rows, strict=True)) if rows else FrameLabels()


def whole_rows(model: SpeechModel, logits: Tensor, smoothing: Smoothing | None = None) -> FrameLabels:
    """Return the labels of a whole recording's logits [T, C]."""
    log_probs = logits.log_softmax(-1, dtype=widened(logits.dtype))
    if smoothing is None:
        return label_rows(model, log_probs.argmax(-1), log_probs)
    return label_rows(model, viterbi(log_probs, smoothing.change_cost, smoothing.min_frames), log_probs)


def _edge_s(model: SpeechModel, i: int) -> float:
    """Return where label i begins, in seconds."""
    framing = model.config.framing
    return framing.edge_sample(i * model.config.encoder.stack) / framing.sample_rate
