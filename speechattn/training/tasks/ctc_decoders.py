"""Greedy decoding and beam search of one CTC model on the same utterances."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from speechattn.data.labels.segments import IGNORE
from speechattn.decoding.ctc_beam_search import BeamSearch
from speechattn.decoding.ngram import NGram
from speechattn.models.heads import CTC
from speechattn.models.speech_model import SpeechModel
from speechattn.training.dataset import Example
from speechattn.training.tasks.ctc_scores import CTCScores


@dataclass(frozen=True)
class BeamSettings:
    """Settings of a beam search with an n-gram; `BeamSearch` says what they mean."""

    beam: int = 32
    order: int = 4
    ngram_weight: float = 0.5
    label_bonus: float = 0.5


class DecoderComparison:
    """Scores of greedy decoding, of a beam search without an n-gram, and of one with it.

    Args:
        classes: names of the classes; the first is the blank.
        ngram: estimated from training transcripts.
        settings: of the search.

    Raises:
        UserError: flashlight-text is not installed.
    """

    def __init__(self, classes: tuple[str, ...], ngram: NGram, settings: BeamSettings) -> None:
        names = ("greedy", f"beam {settings.beam}", f"beam {settings.beam}, {ngram.order}-gram")
        weight, bonus = settings.ngram_weight, settings.label_bonus
        self._searches = [
            None,
            BeamSearch(classes, beam=settings.beam),
            BeamSearch(classes, ngram, settings.beam, ngram_weight=weight, label_bonus=bonus),
        ]
        self.classes = classes
        self.scores = {name: CTCScores(classes) for name in names}
        self.seconds = dict.fromkeys(names, 0.0)

    @torch.no_grad()
    def add(self, model: SpeechModel, examples: Iterable[Example]) -> DecoderComparison:
        """Decode and count examples; return the comparison."""
        for example in examples:
            log_probs, lengths = model.classify(example.frames[None])
            labels = example.labels
            reference = [self.classes[index] for index in labels[labels != IGNORE].tolist()]
            for (name, scores), search in zip(self.scores.items(), self._searches, strict=True):
                begin = time.perf_counter()
                found = (CTC.decode if search is None else search.decode)(log_probs, lengths)[0]
                self.seconds[name] += time.perf_counter() - begin
                scores.add(reference, [self.classes[index] for index in found])
        return self

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each decoder: its name, error rates, counts of errors, and seconds."""
        kept = ("error_rate", "word_error_rate", "substitutions", "insertions", "deletions", "labels")
        rows = []
        for name, scores in self.scores.items():
            summary = scores.summary()
            numbers = {key: summary[key] for key in kept if key in summary}
            rows.append({"decoder": name, **numbers, "seconds": self.seconds[name]})
        return rows
