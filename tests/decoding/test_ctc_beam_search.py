"""Beam search of CTC against all paths: an exhaustive sum over alignments of every sequence."""

import importlib.util
import itertools
import math
import sys

import pytest
import torch
from torch import Tensor

from speechattn.decoding.ctc_beam_search import BeamSearch, require_decoder
from speechattn.decoding.ngram import END, START, NGram
from speechattn.errors import UserError
from speechattn.models.heads import CTC

CLASSES = ("-", "a", "b", "c")
NGRAM = NGram.estimate([list("abab"), list("ccab"), list("abba")], CLASSES[1:], order=3)
needs_decoder = pytest.mark.skipif(
    importlib.util.find_spec("flashlight") is None or importlib.util.find_spec("torchaudio") is None,
    reason="needs flashlight-text: pip install 'speechattn[ctc]'",
)


def scores(log_probs: Tensor, ngram: NGram | None, weight: float, bonus: float) -> dict[tuple[int, ...], float]:
    """Return the score of every sequence [T, C] can give, by summing the probabilities of all paths."""
    totals: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        probability = math.exp(sum(float(log_probs[t, k]) for t, k in enumerate(path)))
        labels = tuple(k for k, _ in itertools.groupby(path) if k)
        totals[labels] = totals.get(labels, 0.0) + probability
    found = {}
    for labels, total in totals.items():
        names = [CLASSES[k] for k in labels]
        padded = (START, *names, END)
        known = sum(ngram.log_prob(padded[:i], padded[i]) for i in range(1, len(padded))) if ngram else 0.0
        found[labels] = math.log(total) + weight * known + bonus * len(names)
    return found


@needs_decoder
@pytest.mark.parametrize(("ngram", "weight", "bonus"), [(None, 0.0, 0.0), (NGRAM, 1.0, 0.0), (NGRAM, 0.7, 1.5)])
@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_a_wide_beam_finds_the_best_of_all_sequences(
    ngram: NGram | None, weight: float, bonus: float, num_frames: int
) -> None:
    search = BeamSearch(CLASSES, ngram, beam=2000, ngram_weight=weight, label_bonus=bonus)
    compared = 0
    for seed in range(8):
        noise = torch.randn(num_frames, 4, generator=torch.Generator().manual_seed(seed))
        log_probs = (2 * noise).log_softmax(-1)
        expected = scores(log_probs, ngram, weight, bonus)
        best, second = sorted(expected, key=lambda labels: -expected[labels])[:2]
        if expected[best] - expected[second] < 1e-4:  # a tie in float32
            continue
        compared += 1
        assert search.decode(log_probs[None], torch.tensor([num_frames])) == [list(best)]
    assert compared >= 6


@needs_decoder
def test_frames_past_the_length_change_nothing_and_rows_of_no_frames_are_empty() -> None:
    noise = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(0))
    log_probs, lengths = (3 * noise).log_softmax(-1), torch.tensor([4, 0, 6])
    search = BeamSearch(CLASSES, NGRAM, beam=50)
    padded = log_probs.clone()
    padded[0, 4:], padded[1] = math.nan, math.nan
    alone = [search.decode(row[None, :n], torch.tensor([n]))[0] for row, n in zip(log_probs, lengths, strict=True)]
    assert search.decode(padded, lengths) == alone
    assert alone[1] == []


@needs_decoder
def test_certain_frames_give_the_best_path() -> None:
    classes = torch.tensor([[1, 1, 0, 1, 2, 2, 3, 0]])
    log_probs = (torch.nn.functional.one_hot(classes, 4) * 30.0).log_softmax(-1)
    lengths = torch.tensor([8])
    assert BeamSearch(CLASSES, NGRAM, beam=8).decode(log_probs, lengths) == CTC.decode(log_probs, lengths)


@needs_decoder
def test_an_n_gram_decides_between_equal_sounds() -> None:
    frame_b_or_c = torch.tensor([0.02, 0.02, 0.48, 0.48]).log()
    log_probs = torch.stack([torch.tensor([0.01, 0.97, 0.01, 0.01]).log(), frame_b_or_c])[None]
    assert BeamSearch(CLASSES, NGRAM, beam=8, ngram_weight=1.0).decode(log_probs, torch.tensor([2])) == [[1, 2]]


@needs_decoder
def test_settings_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ValueError, match="beam and max_labels"):
        BeamSearch(CLASSES, beam=0)
    with pytest.raises(ValueError, match="no label 'd'"):
        BeamSearch([*CLASSES, "d"], NGRAM)


def test_a_missing_decoder_is_one_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchaudio")
    for name in [name for name in sys.modules if name.startswith("torchaudio.models.decoder._ctc")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "flashlight", None)
    for name in [name for name in sys.modules if name.startswith("flashlight.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'speechattn\[ctc\]'"):
        require_decoder()
