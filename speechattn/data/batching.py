"""Batches of utterances of similar length, and padding of a batch to one tensor.

Similar lengths keep padding small. There is no sampler with state: the batches of epoch e are computed from (lengths,
seed, e) alone, and batch k is element k of that list, so that any process can resume anywhere and all workers and ranks
agree.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from speechattn.data.labels.segments import IGNORE

JITTER = 0.1
"""Lengths within 10 % count as similar and are shuffled from epoch to epoch."""


class Batches:
    """Batches of indices whose padded size, largest length times rows, is at most `max_frames`.

    An item longer than `max_frames` is a batch of its own. `lengths` are in frames.

    Raises:
        ValueError: a length or the seed is negative, or max_frames is less than 1.

    Examples:
        >>> Batches([3, 50, 4, 52], max_frames=104, seed=0).batches(epoch=0)
        [[0, 2], [1, 3]]
    """

    def __init__(self, lengths: Sequence[int] | NDArray[np.int64], max_frames: int, seed: int) -> None:
        self.lengths = np.asarray(lengths, dtype=np.int64).reshape(-1)
        if max_frames < 1:
            raise ValueError(f"max_frames must be 1 or more, got {max_frames}.")
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, got {seed}.")
        if len(self.lengths) and self.lengths.min() < 0:
            raise ValueError(f"lengths must be 0 or more frames, got {self.lengths.min()}.")
        self.max_frames = max_frames
        self.seed = seed

    def batches(self, epoch: int) -> list[list[int]]:
        """Return all batches of one epoch, in order: every index once."""
        generator = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        stretched = self.lengths * generator.uniform(1, 1 + JITTER, len(self.lengths))
        batches: list[list[int]] = []
        max_length = 0
        for i in np.lexsort((generator.permutation(len(self.lengths)), stretched)).tolist():
            length = int(self.lengths[i])
            max_length = max(max_length, length, 1)
            if batches and max_length * (len(batches[-1]) + 1) <= self.max_frames:
                batches[-1].append(i)
            else:
                batches.append([i])
                max_length = max(length, 1)
        return [batches[k] for k in generator.permutation(len(batches)).tolist()]


def collate(
    frames: Sequence[Tensor], labels: Sequence[Tensor], per_frame: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Return (frames [B, T, F] padded with 0, lengths [B] int64, labels [B, L] int64 padded with IGNORE).

    `frames` are B tensors [T_b, F], `labels` B tensors [L_b], L_b = T_b with `per_frame`.

    Raises:
        ValueError: no item, different B, an item whose frames and labels differ in length, or different F.
    """
    if not frames or len(frames) != len(labels):
        raise ValueError(f"collate needs as many frames as labels, at least one, got {len(frames)} and {len(labels)}.")
    for b, (item, target) in enumerate(zip(frames, labels, strict=True)):
        if item.dim() != 2 or target.dim() != 1 or item.shape[1] != frames[0].shape[1]:
            raise ValueError(
                f"item {b}: expected frames [T, {frames[0].shape[-1]}] and labels [L], "
                f"got {list(item.shape)} and {list(target.shape)}."
            )
        if per_frame and len(item) != len(target):
            raise ValueError(f"item {b}: {len(item)} frames but {len(target)} labels. Were both made by one Framing?")
    lengths = torch.tensor([len(item) for item in frames], dtype=torch.int64)
    padded = pad_sequence([target.to(torch.int64) for target in labels], batch_first=True, padding_value=IGNORE)
    return pad_sequence(list(frames), batch_first=True), lengths, padded
