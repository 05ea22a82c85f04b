"""An n-gram model of label sequences, estimated from training transcripts, for beam search; files are ARPA.

Interpolated Witten-Bell smoothing (Witten and Bell 1991): the probability of a label after a history is mixed with that
after the shorter history, by the number T of different labels seen after it,

    p(w | h) = (c(h w) + T(h) p(w | h')) / (c(h) + T(h)),

and the shortest one is uniform, so that every label has a probability. Kneser-Ney is better with millions of words; for
some tens of labels Witten-Bell needs no count of counts, which are 0 here. Files can be read by KenLM.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechattn.data.text_files import read_lines
from speechattn.errors import DataError
from speechattn.system.atomic_files import write_bytes

START, END = "<s>", "</s>"
_NEVER = -99.0
"""log10 probability of the start, which is never predicted."""


class NGram:
    """Log probabilities of labels after the labels before, in nats.

    Args:
        order: n, the length of the longest history plus one.
        log_probs: natural logarithm of the probability of each n-gram, a tuple of labels.
        backoffs: natural logarithm of the back-off weight of each history.

    Examples:
        >>> ngram = NGram.estimate([["a", "b"], ["a", "b", "b"]], ["a", "b"], order=2)
        >>> [round(math.exp(ngram.log_prob((START,), label)), 3) for label in ("a", "b", END)]
        [0.767, 0.133, 0.1]
    """

    def __init__(
        self, order: int, log_probs: dict[tuple[str, ...], float], backoffs: dict[tuple[str, ...], float]
    ) -> None:
        self.order, self.log_probs, self.backoffs = order, log_probs, backoffs

    @classmethod
    def estimate(cls, sequences: Iterable[Sequence[str]], labels: Sequence[str], order: int) -> NGram:
        """Return the model of `sequences` of `labels`.

        Raises:
            ValueError: order is less than 1, or a sequence has another label.
        """
        if order < 1:
            raise ValueError(f"order must be 1 or more, got {order}.")
        known = set(labels)
        followers: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
        for sequence in sequences:
            if not known.issuperset(sequence):
                raise ValueError(f"labels outside the alphabet: {sorted(set(sequence) - known)}.")
            padded = [START, *sequence, END]
            for i in range(1, len(padded)):
                for size in range(min(order, i + 1)):
                    followers[tuple(padded[i - size : i])][padded[i]] += 1
        every = [*labels, END]
        uniform = 1 / len(every)
        probs: dict[tuple[str, ...], float] = {}
        backoffs: dict[tuple[str, ...], float] = {}
        counts = followers[()]
        kinds, total = len(counts), counts.total()
        for label in every:
            probs[(label,)] = (counts[label] + kinds * uniform) / (total + kinds) if total else uniform
        for history in sorted((h for h in followers if h), key=len):
            counts = followers[history]
            kinds, total = len(counts), counts.total()
            share = kinds / (total + kinds)
            backoffs[history] = math.log(share)
            for label, count in counts.items():
                shorter = _interpolated(probs, backoffs, history[1:], label)
                probs[(*history, label)] = count / (total + kinds) + share * shorter
        return cls(order, {gram: math.log(p) for gram, p in probs.items()}, backoffs)

    def log_prob(self, history: tuple[str, ...], label: str) -> float:
        """Return the log probability of `label` after the last order - 1 labels of `history`, in nats."""
        history = history[len(history) - self.order + 1 :] if len(history) >= self.order else history
        total = 0.0
        while (*history, label) not in self.log_probs:
            if not history:
                raise KeyError(f"{label!r} is no label of this n-gram.")
            total += self.backoffs.get(history, 0.0)
            history = history[1:]
        return total + self.log_probs[(*history, label)]

    def perplexity(self, sequences: Iterable[Sequence[str]]) -> float:
        """Return the perplexity of sequences, ends included; NaN without any."""
        total, count = 0.0, 0
        for sequence in sequences:
            padded = (START, *sequence, END)
            for i in range(1, len(padded)):
                total += self.log_prob(padded[max(0, i - self.order + 1) : i], padded[i])
                count += 1
        return math.exp(-total / count) if count else math.nan

    def save(self, path: str | Path) -> None:
        """Write an ARPA file, which has logarithms to base 10."""
        grams = {**self.log_probs, (START,): _NEVER * math.log(10)}
        lines = ["\\data\\"]
        lines += [f"ngram {n}={sum(len(gram) == n for gram in grams)}" for n in range(1, self.order + 1)]
        for n in range(1, self.order + 1):
            lines += ["", f"\\{n}-grams:"]
            for gram in sorted(gram for gram in grams if len(gram) == n):
                backoff = f"\t{self.backoffs[gram] / math.log(10):.6f}" if gram in self.backoffs else ""
                lines.append(f"{grams[gram] / math.log(10):.6f}\t{' '.join(gram)}{backoff}")
        write_bytes(path, "\n".join([*lines, "", "\\end\\", ""]).encode())

    @classmethod
    def load(cls, path: str | Path) -> NGram:
        """Return the model of an ARPA file.

        Raises:
            DataError: the file cannot be read, or a line is no n-gram; file and line are named.
        """
        log_probs: dict[tuple[str, ...], float] = {}
        backoffs: dict[tuple[str, ...], float] = {}
        order = 0
        for number, line in enumerate(read_lines(Path(path)), start=1):
            text = line.strip()
            if text.endswith("-grams:"):
                order = _order(text, path, number)
            if not order or not text or text.startswith("\\"):
                continue
            fields = text.split()
            try:
                log_prob, gram = float(fields[0]) * math.log(10), tuple(fields[1 : 1 + order])
                backoff = float(fields[1 + order]) * math.log(10) if len(fields) == order + 2 else 0.0
            except ValueError:
                gram, log_prob, backoff = (), math.nan, math.nan
            if not math.isfinite(log_prob + backoff) or len(gram) != order or len(fields) > order + 2:
                raise DataError(
                    f"{path}:{number}: expected a {order}-gram 'log10 labels [back-off]', got {text[:80]!r}."
                )
            if gram != (START,):
                log_probs[gram] = log_prob
            if backoff:
                backoffs[gram] = backoff
        if not log_probs:
            raise DataError(f"{path} holds no n-grams: expected an ARPA file with a section \\1-grams:.")
        return cls(max(map(len, log_probs)), log_probs, backoffs)


def _interpolated(
    probs: dict[tuple[str, ...], float], backoffs: dict[tuple[str, ...], float], history: tuple[str, ...], label: str
) -> float:
    """Return the probability of a label after a history that is estimated already."""
    share = 1.0
    while (*history, label) not in probs:
        share *= math.exp(backoffs.get(history, 0.0))
        history = history[1:]
    return share * probs[(*history, label)]


def _order(text: str, path: str | Path, number: int) -> int:
    digits = text.strip("\\").removesuffix("-grams:")
    if not digits.isdigit() or int(digits) < 1:
        raise DataError(f"{path}:{number}: expected a heading such as \\2-grams:, got {text[:80]!r}.")
    return int(digits)
