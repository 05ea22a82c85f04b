"""Beam search over the labels of CTC, with an n-gram of labels: torchaudio's decoder, which is flashlight-text's.

The best path takes the most probable class of each frame. The most probable *sequence* sums over all paths that give
it, and an n-gram adds what is known about sequences of labels. The score of a sequence y of M labels is

    log p_ctc(y | x) + ngram_weight * log p_ngram(y) + label_bonus * M,

in nats. The decoder without a lexicon is used: the one with a lexicon cannot hold the last label of a word for two
frames. The n-gram is a language model in Python, because flashlight's KenLM begins without <s>, and has no bonus.

It needs the optional package flashlight-text: pip install 'speechattn[ctc]'.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from torch import Tensor

from speechattn.decoding.ngram import END, START, NGram
from speechattn.errors import UserError, reason
from speechattn.system.optional_imports import require_torchaudio

_THRESHOLD = 1e4  # nats below the best hypothesis: the size of the beam alone limits it


class BeamSearch:
    """Beam search over log probabilities of a CTC head.

    Args:
        classes: names of the C classes; the first is the blank.
        ngram: model of sequences of classes; None is none.
        beam: hypotheses that are kept at each frame.
        ngram_weight: weight of the n-gram's log probability.
        label_bonus: added for each label, in nats: an n-gram alone prefers short sequences.
        max_labels: most probable classes of a frame that are tried.

    Raises:
        UserError: flashlight-text or torchaudio is not installed.
        ValueError: a number is out of range, or the n-gram lacks a class.

    Examples:
        >>> import torch
        >>> log_probs = torch.tensor([[[0.4, 0.6], [0.6, 0.4]]]).log()
        >>> BeamSearch(["-", "a"], beam=4).decode(log_probs, torch.tensor([2]))
        [[1]]
    """

    def __init__(
        self,
        classes: Sequence[str],
        ngram: NGram | None = None,
        beam: int = 32,
        ngram_weight: float = 0.5,
        label_bonus: float = 0.0,
        max_labels: int = 12,
    ) -> None:
        decoder = require_decoder()
        if beam < 1 or max_labels < 1:
            raise ValueError(f"beam and max_labels must be 1 or more, got {beam} and {max_labels}.")
        lost = [] if ngram is None else [name for name in classes[1:] if (name,) not in ngram.log_probs]
        if lost:
            raise ValueError(f"the n-gram has no label {lost[0]!r}: it is of other classes than the model.")
        uses_model = ngram is not None or label_bonus != 0
        weight = ngram_weight if ngram is not None and ngram_weight > 0 else 1.0
        model = _language_model(decoder, classes, ngram if ngram_weight > 0 else None, label_bonus / weight)
        self._decoder = decoder.ctc_decoder(
            lexicon=None,
            tokens=list(classes),
            lm=model if uses_model else None,
            nbest=1,
            beam_size=beam,
            beam_size_token=min(max_labels, len(classes)),
            beam_threshold=_THRESHOLD,
            lm_weight=weight if uses_model else 0.0,
            sil_score=0.0,
            log_add=True,
            blank_token=classes[0],
            sil_token=classes[0],
            unk_word=classes[0],
        )

    def decode(self, log_probs: Tensor, lengths: Tensor) -> list[list[int]]:
        """Return the best sequence of each row of `log_probs` [B, T, C] with `lengths` [B]: lists of classes."""
        rows: list[list[int]] = []
        for row, length in zip(log_probs.detach().float().cpu(), lengths.tolist(), strict=True):
            if length == 0:
                rows.append([])
                continue
            found = self._decoder(row[None, :length].contiguous())
            rows.append(found[0][0].tokens.tolist() if found[0] else [])
        return rows


def require_decoder() -> ModuleType:
    """Return torchaudio's module of CTC decoders.

    Raises:
        UserError: torchaudio or flashlight-text is missing.
    """
    require_torchaudio("beam search")
    try:
        return importlib.import_module("torchaudio.models.decoder._ctc_decoder")
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"beam search needs flashlight-text, which cannot be imported here ({reason(error)}): "
            "pip install 'speechattn[ctc]'. Greedy decoding, sa.CTC.decode, needs nothing."
        ) from error


def _language_model(decoder: ModuleType, classes: Sequence[str], ngram: NGram | None, bonus: float) -> Any:
    """Return the n-gram as the decoder's language model, `bonus` added to each label."""
    Model, State = decoder.CTCDecoderLM, decoder.CTCDecoderLMState  # known when the package is installed
    size = 0 if ngram is None else ngram.order - 1

    class NGramModel(Model):  # type: ignore[misc, valid-type]
        """Scores of labels; a state is a history, and knows its children."""

        def __init__(self) -> None:
            Model.__init__(self)
            self.histories: dict[Any, tuple[str, ...]] = {}
            self.known: dict[tuple[tuple[str, ...], int], float] = {}

        def start(self, start_with_nothing: bool) -> Any:
            """Return the state before the first label."""
            self.histories.clear()
            state = State()
            self.histories[state] = (START,)[:size]
            return state

        def score(self, state: Any, index: int) -> tuple[Any, float]:
            """Return the state after a label, and its score."""
            history, child = self.histories[state], state.child(index)
            key = (history, index)
            if key not in self.known:
                found = 0.0 if ngram is None else ngram.log_prob(history, classes[index])
                self.known[key] = found + bonus
            if child not in self.histories:
                self.histories[child] = (*history, classes[index])[-size:] if size else ()
            return child, self.known[key]

        def finish(self, state: Any) -> tuple[Any, float]:
            """Return the score of the end."""
            return state, 0.0 if ngram is None else ngram.log_prob(self.histories[state], END)

    return NGramModel()
