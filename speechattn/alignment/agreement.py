"""How well two alignments of the same recordings agree: frame labels, and the starts of phones.

A phone of the hypothesis is paired with one of the reference by edit distance over the two sequences without silence,
as word errors are counted; of several cheapest pairings the one with the closest starts is taken. A pair of equal
phones is a match. Starts are compared for matches alone (`within`), and with every phone of the reference that has no
match counted as a miss (`within_all`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from speechattn.data.labels.frame_labels import frame_labels
from speechattn.data.labels.segments import IGNORE, SILENCE, Segment
from speechattn.framing import Framing

_ROUNDING_S = 1e-9
_TIE = 1e-5
"""Price of one second between two starts, in edits: it decides between equally cheap pairings only."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of a hypothesis with a reference, over all frames and all phones of all utterances."""

    frames: int
    """Frames that the reference labels."""
    equal_frames: int
    """Those with the same class in the hypothesis."""
    reference_phones: int
    """Phones of the reference without silence."""
    errors_s: Sequence[float]
    """Start in the hypothesis minus start in the reference, in seconds, of each match."""

    @property
    def frame_share(self) -> float:
        """Share of frames with the same class."""
        return self.equal_frames / max(1, self.frames)

    @property
    def match_share(self) -> float:
        """Share of the reference's phones that have a match."""
        return len(self.errors_s) / max(1, self.reference_phones)

    @property
    def mean_error_ms(self) -> float:
        """Mean of `errors_s` in ms: positive if the hypothesis is late."""
        return 1000 * float(np.mean(self.errors_s)) if self.errors_s else 0.0

    def within(self, tolerance_ms: float) -> float:
        """Return the share of matches whose starts differ by at most `tolerance_ms`."""
        return self._close(tolerance_ms) / max(1, len(self.errors_s))

    def within_all(self, tolerance_ms: float) -> float:
        """Return the share of all phones of the reference that have a match within `tolerance_ms`."""
        return self._close(tolerance_ms) / max(1, self.reference_phones)

    def _close(self, tolerance_ms: float) -> int:
        return sum(abs(error) <= tolerance_ms / 1000 + _ROUNDING_S for error in self.errors_s)


def compare_alignments(
    pairs: Iterable[tuple[Sequence[Segment], Sequence[Segment]]], framing: Framing | None = None
) -> Agreement:
    """Return the agreement of (hypothesis, reference) pairs, each the phones of one recording, classes of PHONES.

    Frames are those of `framing` (by default Framing()) up to the end of the reference; frames that the reference
    leaves unlabelled are not counted.
    """
    framing = framing or Framing()
    frames = equal = phones = 0
    errors: list[float] = []
    for hypothesis, reference in pairs:
        if not reference:
            continue
        num_samples = framing.samples_at(reference[-1].stop_s)
        inside = [segment for segment in hypothesis if framing.samples_at(segment.start_s) < num_samples]
        wanted = frame_labels(reference, num_samples, framing)
        found = frame_labels(inside, num_samples + framing.sample_rate, framing)[: len(wanted)]
        frames += int((wanted != IGNORE).sum())
        equal += int(((wanted == found) & (wanted != IGNORE)).sum())
        phones += sum(segment.label != SILENCE for segment in reference)
        errors += [ours.start_s - theirs.start_s for ours, theirs in match_phones(hypothesis, reference)]
    return Agreement(frames, equal, phones, errors)


def match_phones(hypothesis: Sequence[Segment], reference: Sequence[Segment]) -> list[tuple[Segment, Segment]]:
    """Return the pairs (hypothesis, reference) of equal phones in the cheapest pairing, silence left out.

    Examples:
        >>> ours = [Segment(0.0, 0.1, "SIL"), Segment(0.1, 0.2, "DH"), Segment(0.2, 0.3, "AH")]
        >>> theirs = [Segment(0.0, 0.2, "DH"), Segment(0.2, 0.3, "IY")]
        >>> [(a.start_s, b.start_s) for a, b in match_phones(ours, theirs)]
        [(0.1, 0.0)]
    """
    ours = [segment for segment in hypothesis if segment.label != SILENCE]
    theirs = [segment for segment in reference if segment.label != SILENCE]
    costs = [[float(j) for j in range(len(theirs) + 1)]]
    for i, mine in enumerate(ours, start=1):
        above = costs[-1]
        row = [float(i)]
        for j, other in enumerate(theirs, start=1):
            row.append(min(above[j - 1] + _pair_cost(mine, other), above[j] + 1, row[-1] + 1))
        costs.append(row)
    pairs = []
    i, j = len(ours), len(theirs)
    while i and j:
        mine, other = ours[i - 1], theirs[j - 1]
        if costs[i][j] == costs[i - 1][j - 1] + _pair_cost(mine, other):
            if mine.label == other.label:
                pairs.append((mine, other))
            i, j = i - 1, j - 1
        elif costs[i][j] == costs[i - 1][j] + 1:
            i -= 1
        else:
            j -= 1
    return pairs[::-1]


def _pair_cost(mine: Segment, other: Segment) -> float:
    return (mine.label != other.label) + _TIE * abs(mine.start_s - other.start_s)
