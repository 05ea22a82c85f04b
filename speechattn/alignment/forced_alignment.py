"""The Viterbi algorithm over a batch of phone graphs: the best path of each utterance through its graph.

`torchaudio.functional.forced_align` takes one sequence of labels: it has no alternatives, no minimum duration, and
forces a blank between equal phones. docs/alignment.md has the numbers of both. All states of all utterances
of a batch advance together, so that numpy's cost per call is shared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from speechattn.alignment.phone_graph import PhoneGraph

MAX_BYTES = 2**28
"""Memory of the table of moves: one byte for each frame and state of a batch."""

Scores = NDArray[np.float32]
_NEVER = np.float32(-np.inf)
_STAY, _NEXT = 0, 1  # moves; above, the number of the jump plus 2


def best_paths(scores: Sequence[Scores], graphs: Sequence[PhoneGraph]) -> list[NDArray[np.int64]]:
    """Return the state of every frame, [T] per utterance, on the path with the largest sum of scores.

    `scores` are finite and [T, C] per utterance, with the classes of the graphs. Utterances of similar length and
    number of states waste least.

    Raises:
        ValueError: an utterance has fewer frames than its graph's shortest path.
    """
    for row, graph in zip(scores, graphs, strict=True):
        if len(row) < graph.min_frames:
            raise ValueError(f"{len(row)} frames are fewer than the {graph.min_frames} of the shortest path.")
    if not graphs:
        return []
    batch = _Batch(graphs, scores[0].shape[1])
    lengths = np.array([len(row) for row in scores])
    padded = np.zeros((lengths.max(), len(scores), scores[0].shape[1]), dtype=np.float32)
    for b, each in enumerate(scores):
        padded[: len(each), b] = each
    moves = np.zeros((len(padded), batch.size), dtype=np.int8)
    last = np.zeros(len(scores), dtype=np.int64)
    best = batch.begin + padded[0].ravel()[batch.emitted]
    for t in range(len(padded)):
        if t:
            best = batch.advance(best, moves[t]) + padded[t].ravel()[batch.emitted]
        for b in np.flatnonzero(lengths == t + 1).tolist():
            ends = batch.ends[b]
            last[b] = ends[best[ends].argmax()]
    return batch.trace(moves, last, lengths)


def max_batch(num_frames: int, num_states: int) -> int:
    """Return how many utterances of this size are aligned in MAX_BYTES; 0 if one is too long."""
    return MAX_BYTES // max(1, num_frames * num_states)


class _Batch:
    """Graphs side by side in flat arrays of `size` states: utterance b has those from b * width."""

    def __init__(self, graphs: Sequence[PhoneGraph], num_classes: int) -> None:
        self.width = width = max(map(len, graphs))
        self.size = width * len(graphs)
        self.begin = np.full(self.size, _NEVER)
        self.emitted = np.zeros(self.size, dtype=np.int64)
        """Index of each state's score in the flat scores [B, C] of a frame."""
        self.stay = np.full(self.size, _NEVER)
        self.next = np.full(self.size, _NEVER)
        self.ends: list[NDArray[np.int64]] = []
        jumps: dict[int, list[int]] = {}
        costs: dict[int, float] = {}
        for b, graph in enumerate(graphs):
            first = b * width
            here = slice(first, first + len(graph))
            self.emitted[here] = graph.classes + b * num_classes
            self.stay[here][graph.repeats] = 0
            self.next[here][graph.chained] = 0
            for s in graph.starts:
                self.begin[first + s] = -graph.costs.get(s, 0.0)
            costs |= {first + s: cost for s, cost in graph.costs.items()}
            self.ends.append(np.array([first + s for s in graph.ends]))
            jumps.update({first + s: [first + source for source in sources] for s, sources in graph.jumps.items()})
        jumps_in_order = sorted(jumps)
        self.targets = np.array(jumps_in_order, dtype=np.int64)
        most = max(map(len, jumps.values()), default=0)
        # A jump with fewer sources repeats its first one, which changes no maximum.
        rows = [jumps[s] + jumps[s][:1] * (most - len(jumps[s])) for s in jumps_in_order]
        self.sources = np.array(rows, dtype=np.int64).reshape(len(rows), most)
        self.jump_costs = np.array([costs.get(s, 0.0) for s in jumps_in_order], dtype=np.float32)
        self.jump_row = np.zeros(self.size, dtype=np.int64)
        self.jump_row[self.targets] = np.arange(len(rows))

    def advance(self, before: Scores, moves: NDArray[np.int8]) -> Scores:
        """Return the best score of each state before its own emission, and write how it was reached into `moves`."""
        best = before + self.stay
        entered = self.next.copy()
        entered[1:] += before[:-1]
        np.greater(entered, best, out=moves.view(bool))
        np.maximum(best, entered, out=best)
        if len(self.targets):
            candidates = before[self.sources]
            choice = candidates.argmax(1)
            value = candidates[np.arange(len(choice)), choice] - self.jump_costs
            better = value > best[self.targets]
            reached = self.targets[better]
            best[reached] = value[better]
            moves[reached] = choice[better] + 2
        return best

    def trace(
        self, moves: NDArray[np.int8], last: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> list[NDArray[np.int64]]:
        """Return the states of each utterance's path, which ends in `last`."""
        paths = np.zeros((len(moves), len(last)), dtype=np.int64)
        state = last.copy()
        for t in range(len(moves) - 1, -1, -1):
            paths[t] = state
            move = np.where(t < lengths, moves[t, state], _STAY)
            jumped = move > _NEXT
            state = np.where(move == _NEXT, state - 1, state)
            if jumped.any():
                state[jumped] = self.sources[self.jump_row[state[jumped]], move[jumped] - 2]
        return [paths[:length, b] - b * self.width for b, length in enumerate(lengths)]
