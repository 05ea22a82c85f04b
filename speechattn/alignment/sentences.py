"""Utterances with the pronunciations of their words, and those left out because a transcript or a word has none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from speechattn.alignment.phone_graph import PhoneGraph, Pronunciations, phone_graph
from speechattn.data.labels.segments import Utterance

Pronounce = Callable[[Iterable[str]], Mapping[str, Pronunciations]]
"""Function from words in lower case to the pronunciations of each, in phones of ARPAbet without stress; a word without
a pronunciation is absent from what it returns."""


@dataclass(frozen=True)
class Sentence:
    """An utterance, its words, and the pronunciations of the corpus by word."""

    utterance: Utterance
    words: Sequence[str]
    lexicon: Mapping[str, Pronunciations]

    @property
    def id(self) -> str:
        """The utterance's id."""
        return self.utterance.id

    def graph(self) -> PhoneGraph:
        """Return the graph of the sentence."""
        return phone_graph([self.lexicon[word] for word in self.words])


def read_sentences(
    utterances: Iterable[Utterance], words: Callable[[str], list[str]], pronounce: Pronounce
) -> tuple[list[Sentence], dict[str, str]]:
    """Return the sentences that can be aligned, and the reason why each other utterance cannot, by id.

    `pronounce` is called once, with all words in alphabetical order.
    """
    # One string a word, however often it occurs: 960 h have ten million words, and a hundred thousand different ones.
    split = [(each, [sys.intern(word) for word in words(each.transcript or "")]) for each in utterances]
    lexicon = pronounce(sorted({word for _, text in split for word in text}))
    sentences, excluded = [], {}
    for utterance, text in split:
        if not text:
            excluded[utterance.id] = "no words in the transcript" if utterance.transcript else "no transcript"
        elif unknown := sorted({word for word in text if not lexicon.get(word)}):
            excluded[utterance.id] = f"no pronunciation of {', '.join(unknown)}"
        else:
            sentences.append(Sentence(utterance, text, lexicon))
    return sentences, excluded
