"""The n-gram of labels: probabilities that sum to one, a formula computed by hand, and ARPA files."""

import itertools
import math
from pathlib import Path

import pytest

from speechattn.decoding.ngram import END, START, NGram
from speechattn.errors import DataError

LABELS = ("a", "b", "c")
SEQUENCES = [list("abab"), list("abc"), list("b"), []]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_after_every_history_sum_to_one(order: int) -> None:
    ngram = NGram.estimate(SEQUENCES, LABELS, order)
    for size in range(4):
        for rest in itertools.product(LABELS, repeat=size):
            for history in (rest, (START, *rest)):
                total = sum(math.exp(ngram.log_prob(history, label)) for label in (*LABELS, END))
                assert abs(total - 1) < 1e-9, history


def test_probabilities_are_those_of_the_formula() -> None:
    ngram = NGram.estimate([["a", "b"]], ("a", "b"), order=2)
    unigram = (1 + 3 / 3) / (3 + 3)  # c = 1 of 3, T = 3 different labels, uniform over a, b and the end
    assert abs(math.exp(ngram.log_prob((), "a")) - unigram) < 1e-12
    assert abs(math.exp(ngram.log_prob(("a",), "b")) - (1 + 1 * unigram) / (1 + 1)) < 1e-12
    assert abs(math.exp(ngram.log_prob(("a",), "a")) - 1 * unigram / (1 + 1)) < 1e-12


def test_a_longer_history_than_the_order_is_cut() -> None:
    ngram = NGram.estimate(SEQUENCES, LABELS, order=3)
    assert ngram.log_prob(("c", "c", "a", "b"), "a") == ngram.log_prob(("a", "b"), "a")


def test_an_n_gram_of_nothing_is_uniform() -> None:
    ngram = NGram.estimate([], LABELS, order=3)
    assert abs(math.exp(ngram.log_prob((START,), "a")) - 0.25) < 1e-12
    assert abs(ngram.perplexity([["a", "b"]]) - 4) < 1e-9 and math.isnan(ngram.perplexity([]))


def test_text_like_the_training_text_is_less_perplexing() -> None:
    ngram = NGram.estimate([list("abcabc")] * 20, LABELS, order=3)
    assert ngram.perplexity([list("abc")]) < ngram.perplexity([list("cba")])


def test_wrong_orders_and_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="order must be 1 or more"):
        NGram.estimate([], LABELS, 0)
    with pytest.raises(ValueError, match=r"outside the alphabet: \['z'\]"):
        NGram.estimate([["z"]], LABELS, 2)
    with pytest.raises(KeyError, match="no label"):
        NGram.estimate([], LABELS, 2).log_prob((), "z")


def test_a_saved_n_gram_is_the_same(tmp_path: Path) -> None:
    ngram = NGram.estimate(SEQUENCES, LABELS, order=3)
    ngram.save(tmp_path / "lm.arpa")
    again = NGram.load(tmp_path / "lm.arpa")
    assert again.order == 3 and again.log_probs.keys() == ngram.log_probs.keys()
    for history in [(), (START,), ("a",), ("c", "b"), (START, "a")]:
        for label in (*LABELS, END):
            assert abs(again.log_prob(history, label) - ngram.log_prob(history, label)) < 1e-5  # six decimals


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no n-grams"),
        ("\\1-grams:\n-0.5\n", r"lm.arpa:2: expected a 1-gram"),
        ("\\1-grams:\nx\ta\n", r"lm.arpa:2: expected a 1-gram"),
        ("\\1-grams:\nnan\ta\n", r"lm.arpa:2: expected a 1-gram"),
        ("\\1-grams:\n-0.5\ta\t-0.1\tb\n", r"lm.arpa:2: expected a 1-gram"),
        ("\\x-grams:\n", r"lm.arpa:1: expected a heading"),
    ],
)
def test_a_damaged_file_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "lm.arpa").write_text(text)
    with pytest.raises(DataError, match=message):
        NGram.load(tmp_path / "lm.arpa")
