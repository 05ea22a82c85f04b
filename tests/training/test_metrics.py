"""Facts about frame scores: what counts, what does not, and a log that a kill has cut."""

import json
import math
from pathlib import Path

import pytest
import torch

from speechattn.errors import UserError
from speechattn.training.metrics import ClassScores, constant_accuracy, most_frequent, per_class, validate
from speechattn.training.run_log import read_metrics


def filled(seed: int = 0, num_classes: int = 5) -> tuple[ClassScores, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, num_classes, (3, 40), generator=generator)
    labels[1, 25:] = -100
    predicted = torch.randint(0, num_classes, (3, 40), generator=generator)
    scores = ClassScores(num_classes)
    scores.update(predicted, labels)
    return scores, predicted, labels


def test_the_floor_is_a_constant_class_and_the_most_frequent_one_is_the_highest() -> None:
    labels = [torch.tensor([1, 1, 2, -100]), torch.tensor([0, 1]), torch.tensor([], dtype=torch.int64)]
    assert most_frequent(labels, 4) == 1
    scores = ClassScores(4)
    for row in labels:
        scores.update(torch.ones_like(row), row)
    assert constant_accuracy(scores.confusion.sum(1), 1) == (scores.accuracy, scores.accuracy_no_sil) == (0.6, 0.75)
    assert constant_accuracy(scores.confusion.sum(1), 0) == (scores.always_silence, 0.0) == (0.2, 0.0)


def test_accuracies_equal_the_plain_formula() -> None:
    scores, predicted, labels = filled()
    counted = labels != -100
    right = (predicted == labels) & counted
    phones = counted & (labels != 0)
    assert scores.count == int(counted.sum()) == 105
    assert scores.accuracy == pytest.approx(right.sum().item() / counted.sum().item())
    assert scores.accuracy_no_sil == pytest.approx((right & phones).sum().item() / phones.sum().item())
    assert scores.always_silence == pytest.approx(((labels == 0) & counted).sum().item() / counted.sum().item())


def test_confusion_has_the_reference_in_rows() -> None:
    scores = ClassScores(3)
    scores.update(torch.tensor([[2, 2, 1]]), torch.tensor([[0, 0, 1]]))
    assert scores.confusion.tolist() == [[0, 0, 2], [0, 1, 0], [0, 0, 0]]
    assert scores.confusion.dtype == torch.int64


def test_accuracy_no_sil_counts_silence_in_speech_as_an_error_and_ignores_speech_in_silence() -> None:
    scores = ClassScores(3, silence=2)
    scores.update(torch.tensor([2, 0, 0, 1]), torch.tensor([0, 0, 2, 1]))
    assert scores.accuracy == 0.5
    assert scores.accuracy_no_sil == pytest.approx(2 / 3)
    assert scores.always_silence == 0.25


def test_logits_and_their_best_classes_count_the_same() -> None:
    logits = torch.randn(2, 30, 7)
    labels = torch.randint(0, 7, (2, 30))
    from_logits, from_classes = ClassScores(7), ClassScores(7)
    from_logits.update(logits, labels)
    from_classes.update(logits.argmax(-1), labels)
    assert torch.equal(from_logits.confusion, from_classes.confusion)


def test_batches_equal_one_update() -> None:
    whole, predicted, labels = filled()
    parts = ClassScores(5)
    for rows in (slice(0, 1), slice(1, 3)):
        parts.update(predicted[rows], labels[rows])
    assert torch.equal(parts.confusion, whole.confusion)


def test_ignored_frames_may_hold_anything() -> None:
    logits = torch.randn(1, 4, 3)
    labels = torch.tensor([[0, 2, -100, -100]])
    clean, dirty = ClassScores(3), ClassScores(3)
    clean.update(logits, labels)
    logits[0, 2:] = float("nan")
    dirty.update(logits, labels)
    assert torch.equal(clean.confusion, dirty.confusion)
    predicted = torch.tensor([[0, 1, 99, -7]])
    dirty.update(predicted, labels)
    assert dirty.count == 4


def test_no_frames_is_nan_and_never_a_number() -> None:
    scores = ClassScores(4)
    scores.update(torch.zeros(0, 5, 4), torch.zeros(0, 5, dtype=torch.int64))
    scores.update(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64))
    assert scores.count == 0
    assert math.isnan(scores.accuracy) and math.isnan(scores.accuracy_no_sil) and math.isnan(scores.always_silence)
    recall, count = scores.per_class(["SIL", "A", "B", "C"])["A"]
    assert math.isnan(recall) and count == 0
    assert "0 labels" in repr(scores)


def test_only_silence_has_no_accuracy_without_it() -> None:
    scores = ClassScores(2)
    scores.update(torch.tensor([0, 1]), torch.tensor([0, 0]))
    assert scores.accuracy == 0.5 and scores.always_silence == 1.0
    assert math.isnan(scores.accuracy_no_sil)


def test_per_class_is_recall_and_count() -> None:
    table = per_class(torch.tensor([[6, 2], [1, 3]]), ["SIL", "AA"])
    assert table == {"SIL": (0.75, 8), "AA": (0.75, 4)}
    with pytest.raises(ValueError, match="2 classes is square"):
        per_class(torch.zeros(3, 3), ["SIL", "AA"])


@pytest.mark.parametrize(
    ("predicted", "labels", "error", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 3).long(), TypeError, "integer classes"),
        (torch.zeros(2, 3).long(), torch.zeros(2, 4).long(), ValueError, "same shape"),
        (torch.full((2, 3), 5), torch.zeros(2, 3).long(), ValueError, r"predictions must be in \[0, 5\)"),
        (torch.zeros(2, 3).long(), torch.full((2, 3), -1), ValueError, r"labels must be in \[0, 5\).*got -1"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 3).long(), ValueError, "5 classes on the last axis"),
        (torch.full((2, 3, 5), float("nan")), torch.zeros(2, 3).long(), ValueError, "NaN"),
        (torch.zeros(2, 4, 5), torch.zeros(2, 3).long(), ValueError, "same shape"),
    ],
)
def test_what_cannot_be_counted_says_why_and_counts_nothing(
    predicted: torch.Tensor, labels: torch.Tensor, error: type[Exception], message: str
) -> None:
    scores = ClassScores(5)
    with pytest.raises(error, match=message):
        scores.update(predicted, labels)
    assert scores.count == 0


def test_scores_need_classes_and_one_of_them_for_silence() -> None:
    with pytest.raises(ValueError, match="silence"):
        ClassScores(5, silence=5)
    with pytest.raises(ValueError, match="num_classes"):
        ClassScores(0)


def test_validate_accepts_small_integers() -> None:
    validate(torch.zeros(2, 3, dtype=torch.int16), torch.zeros(2, 3, dtype=torch.uint8), 5)
    scores = ClassScores(41)
    scores.update(torch.full((1, 3), 40, dtype=torch.uint8), torch.full((1, 3), 40, dtype=torch.int8))
    assert scores.confusion[40, 40] == 3


def line(step: int) -> str:
    return json.dumps({"kind": "train", "encoder": "truncated", "step": step, "loss": 1.0})


def test_a_cut_last_line_is_dropped_without_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = f"{line(1)}\n{line(2)}\n"
    for cut in range(1, len(line(3))):
        path.write_text(whole + line(3)[:cut])
        assert [record["step"] for record in read_metrics(path)] == [1, 2]
    path.write_bytes((whole + '{"note": "\u00e9').encode()[:-1])
    assert len(read_metrics(path)) == 2


def test_a_whole_last_line_counts_without_its_line_break(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(f"{line(1)}\r\n\r\n{line(2)}".encode())
    assert [record["step"] for record in read_metrics(path)] == [1, 2]


def test_a_broken_line_inside_is_dropped_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{line(1)}\n{line(2)[:20]}{line(2)}\n17\n{line(3)}\n")
    with pytest.warns(UserWarning, match="2 of 4 lines"):
        records = read_metrics(path)
    assert [record["step"] for record in records] == [1, 3]


def test_the_error_without_a_log_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no metrics at .*metrics\.jsonl"):
        read_metrics(tmp_path / "metrics.jsonl")
    (tmp_path / "empty.jsonl").touch()
    assert read_metrics(tmp_path / "empty.jsonl") == []
