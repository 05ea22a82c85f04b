"""Error rates of sequences, against counts made by hand and another definition of the edit distance."""

import math
import random

import pytest
import torch

from speechattn.data.labels.segments import IGNORE
from speechattn.data.labels.text_targets import CHARACTERS, PHONE_TARGETS
from speechattn.errors import UserError
from speechattn.training.tasks.ctc_scores import CTCScores, ErrorCounts, align


def distance(reference: list[str], hypothesis: list[str]) -> int:
    """Return the edit distance by the recursion that defines it."""
    row = list(range(len(hypothesis) + 1))
    for i, label in enumerate(reference, start=1):
        before, row = row, [i]
        for j, other in enumerate(hypothesis, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (label != other)))
    return row[-1]


def test_errors_are_the_edit_distance_and_the_alignment_holds_both_sequences() -> None:
    generator = random.Random(0)
    for _ in range(200):
        reference = generator.choices("ab|c", k=generator.randint(0, 12))
        hypothesis = generator.choices("ab|c", k=generator.randint(0, 12))
        edits = align(reference, hypothesis)
        assert [edit.reference for edit in edits if edit.reference] == reference
        assert [edit.hypothesis for edit in edits if edit.hypothesis] == hypothesis
        assert sum(edit.reference != edit.hypothesis for edit in edits) == distance(reference, hypothesis)
        counts = ErrorCounts()
        counts.add(reference, hypothesis)
        assert counts.errors == distance(reference, hypothesis) and counts.labels == len(reference)


def test_an_empty_reference_has_insertions_and_no_rate() -> None:
    counts = ErrorCounts()
    assert math.isnan(counts.error_rate)
    counts.add([], ["a", "b"])
    assert (counts.insertions, counts.labels) == (2, 0) and math.isnan(counts.error_rate)
    counts.add(["a"], [])
    assert (counts.deletions, counts.error_rate) == (1, 3.0)


def test_characters_have_a_word_error_rate_too() -> None:
    scores = CTCScores(CHARACTERS)
    scores.add(list("the|cat"), list("the|bat|"))
    summary = scores.summary()
    assert summary["word_error_rate"] == 0.5 and summary["words"] == 2
    assert summary["error_rate"] == summary["character_error_rate"] == 2 / 7
    assert "word_error_rate" not in CTCScores(PHONE_TARGETS).summary()


def test_summary_lists_the_most_frequent_confusions_first() -> None:
    scores = CTCScores(PHONE_TARGETS)
    for _ in range(3):
        scores.add(["AH", "T"], ["IH"])
    scores.add(["S"], ["Z", "S"])
    summary = scores.summary()
    assert summary["confusions"] == [["AH", "IH", 3], ["T", "", 3], ["", "Z", 1]]
    assert (summary["substitutions"], summary["deletions"], summary["insertions"]) == (3, 3, 1)
    assert summary["accuracy"] == 1 - summary["error_rate"] == 0.0
    assert (summary["labels"], summary["utterances"], scores.count) == (7, 4, 7)


def test_a_batch_is_decoded_up_to_its_lengths() -> None:
    path = torch.tensor([[1, 1, 0, 1, 5], [2, 2, 2, 2, 2]])
    log_probs = (torch.nn.functional.one_hot(path, len(PHONE_TARGETS)) * 9.0).log_softmax(-1)
    log_probs[0, 4:] = math.nan
    scores = CTCScores(PHONE_TARGETS)
    scores.update(log_probs, torch.tensor([4, 0]), torch.tensor([[1, 1], [3, IGNORE]]))
    assert (scores.tokens.errors, scores.tokens.deletions, scores.count) == (1, 1, 3)


def test_a_model_that_has_diverged_is_an_error() -> None:
    with pytest.raises(UserError, match="NaN: the model has diverged"):
        CTCScores(PHONE_TARGETS).update(torch.full((1, 2, 40), math.nan), torch.tensor([2]), torch.tensor([[1]]))


def test_scores_of_nothing_are_nan() -> None:
    scores = CTCScores(PHONE_TARGETS)
    assert scores.count == 0 and math.isnan(scores.accuracy) and scores.summary()["confusions"] == []
