"""Scores of each speaker, and intervals for scores and differences that treat speakers, not frames, as independent.

Frames of one speaker are right or wrong together, so the binomial interval of a hundred thousand frames is far too
narrow. The bootstrap here draws whole speakers; two runs are compared on the same draws, which cancels how hard each
speaker is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from speechattn.training.tasks.task import Scores

DRAWS = 10_000
MIN_SPEAKERS = 10
"""Fewer speakers have no interval: a bootstrap of them would be too narrow."""

Counts = Mapping[str, Sequence[float]]
"""Speaker -> [what was right, what was counted]."""


class Interval(NamedTuple):
    """The middle 95 % of bootstrap draws."""

    low: float
    high: float


def update_scores(
    scores: Scores,
    by_speaker: dict[str, list[float]],
    speaker: str,
    logits: Tensor,
    lengths: Tensor,
    labels: Tensor,
) -> None:
    """Count an utterance in `scores`, and in the counts of its speaker what it adds to them."""
    hits_before, count = hits(scores), scores.count
    scores.update(logits, lengths, labels)
    before = by_speaker.setdefault(speaker, [0, 0])
    before[0], before[1] = before[0] + hits(scores) - hits_before, before[1] + scores.count - count


def hits(scores: Scores) -> int:
    """Return what was right: frames, utterances, or labels less errors of sequences."""
    return round(scores.accuracy * scores.count) if scores.count else 0


def interval(counts: Counts, seed: int = 0) -> Interval | None:
    """Return the interval of an accuracy; None with fewer than MIN_SPEAKERS speakers.

    Examples:
        >>> interval({str(i): (70 + i, 100) for i in range(20)}) == interval({str(i): (70 + i, 100) for i in range(20)})
        True
    """
    hits, total = _arrays(counts)
    return None if len(total) < MIN_SPEAKERS else _middle(_share(hits, total, _draws(len(total), seed)))


def paired_interval(first: Counts, second: Counts, seed: int = 0) -> Interval | None:
    """Return the interval of the accuracy of `second` minus that of `first`, on the same speakers and counts.

    None if speakers or counts differ, or there are fewer than MIN_SPEAKERS.
    """
    if first.keys() != second.keys() or any(first[name][1] != second[name][1] for name in first):
        return None
    (hits, total), (other, _) = _arrays(first), _arrays({name: second[name] for name in first})
    return None if len(total) < MIN_SPEAKERS else _middle(_share(other - hits, total, _draws(len(total), seed)))


def _arrays(counts: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what was right and what was counted, of speakers with anything counted."""
    pairs = [(hits, total) for hits, total in counts.values() if total]
    array = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def _draws(count: int, seed: int) -> NDArray[np.float64]:
    """Return how often each of `count` speakers is in each draw [DRAWS, count]."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(np.float64)


def _share(part: NDArray[np.float64], whole: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(draws @ part / (draws @ whole))


def _middle(values: NDArray[np.float64]) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))
