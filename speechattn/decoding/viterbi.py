"""The best sequence of labels, if every change costs something and segments have a least duration (Viterbi 1967).

The score of a sequence c_0 ... c_{T-1} is

    sum over t of log_probs[t, c_t]  -  change_cost * (number of t with c_t != c_{t-1}),

and each run of equal labels lasts at least the `min_frames` of its class, the first and the last run too. If T is less
than every minimum, nothing of this kind exists, and the result is one run. Of sequences with equal scores the one with
the lower class at the last frame in which they differ is taken.

A stream that has not ended takes the best path so far, whose last run may be shorter: it has only begun. It emits the
label of a frame when `lag_frames` more have arrived, or with None when no later frame can change it.

Not here: CTC, whose blanks are no segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speechattn.decoding.best_paths import BestPaths, Floats, Settings, ViterbiState
from speechattn.decoding.smoothing import Smoothing
from speechattn.dtypes import check_floating


def viterbi(log_probs: Tensor, change_cost: float = 0.0, min_frames: int | Sequence[int] = 1) -> Tensor:
    """Return the best sequence of classes, int64 [T] on the CPU, of log probabilities or logits [T, C].

    Logits give the same sequence: a constant for all classes of a frame changes no comparison. They may be of any
    floating dtype and on any device; scores are float64.

    Args:
        log_probs: finite, [T, C]; T may be 0.
        change_cost: cost in nats of each change of the label, 0 or more.
        min_frames: least frames of a segment: one number, or one for each class.

    Raises:
        TypeError, ValueError: log_probs is no floating tensor [T, C], or a value is not finite.
        ConfigError: a cost or a number of frames is not possible.

    Examples:
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1]])
        >>> viterbi(probabilities.log()).tolist(), viterbi(probabilities.log(), change_cost=1.0).tolist()
        ([0, 1, 0], [0, 0, 0])
    """
    least: Any = tuple(min_frames) if isinstance(min_frames, Sequence) else min_frames
    if log_probs.ndim != 2 or not log_probs.shape[1]:
        raise ValueError(f"log_probs must be [T, C] with C > 0, got {list(log_probs.shape)}.")
    decoder = ViterbiStream(log_probs.shape[1], Smoothing(change_cost, least, lag_frames=None))
    first, state = decoder.step(log_probs, decoder.initial_state())
    return torch.cat((first, decoder.flush(state)))


class ViterbiStream:
    """Viterbi over frames that arrive in pieces: the labels of `viterbi`, or with a lag those of the best path so far.

    `step` and `flush` are pure. Any split of the frames gives the same labels. With a lag, the state is constant in
    size once `lag_frames` have arrived, a frame's label is emitted `lag_frames` later, and the labels equal those of
    `viterbi` for T <= lag_frames; otherwise two decisions may belong to different paths, so that a segment may be
    shorter than its minimum. With `lag_frames=None` the labels are always those of `viterbi`, emitted when all
    paths agree on them: in speech some frames later, in the worst case at the end.

    Args:
        num_classes: C.
        smoothing: cost, minima and lag.

    Raises:
        ConfigError: `min_frames` is for another number of classes.

    Examples:
        >>> decoder = ViterbiStream(2, Smoothing(change_cost=1.0, lag_frames=1))
        >>> probabilities = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1]])
        >>> labels, state = decoder.step(probabilities.log(), decoder.initial_state())
        >>> labels.tolist(), decoder.flush(state).tolist()
        ([0, 0], [0])
    """

    def __init__(self, num_classes: int, smoothing: Smoothing) -> None:
        self.num_classes, self.smoothing = num_classes, smoothing
        self._settings = Settings(num_classes, smoothing)

    def initial_state(self) -> ViterbiState:
        """Return the state before the first frame."""
        return self._settings.initial_state()

    def step(self, log_probs: Tensor, state: ViterbiState) -> tuple[Tensor, ViterbiState]:
        """Return the classes [m] that are decided after the next frames [n, C], n >= 0, and the new state.

        The old state is not changed.

        Raises:
            TypeError, ValueError: log_probs is no floating tensor [n, C], or a value is not finite.
        """
        run = BestPaths(self._settings, state)
        classes = run.add(self._rows(log_probs, state))
        return torch.from_numpy(classes), run.state()

    def flush(self, state: ViterbiState) -> Tensor:
        """Return the pending classes [m] at the end."""
        return torch.from_numpy(BestPaths(self._settings, state).end())

    def _rows(self, log_probs: Tensor, state: ViterbiState) -> Floats:
        check_floating(log_probs)
        if log_probs.ndim != 2 or log_probs.shape[1] != self.num_classes:
            raise ValueError(f"log_probs must be [n, {self.num_classes}], got {list(log_probs.shape)}.")
        rows: Floats = log_probs.detach().to("cpu", torch.float64).numpy()
        if not np.isfinite(rows).all():
            frame, c = np.argwhere(~np.isfinite(rows))[0].tolist()
            raise ValueError(
                f"log_probs of frame {state.frames + frame}, class {c}, is {rows[frame, c]}: scores must be finite. "
                "logits.log_softmax(-1) is, where the logarithm of a probability that was rounded to 0 is not."
            )
        return rows
