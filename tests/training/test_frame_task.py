"""The task of labelling frames: targets on the grid of the frontend, loss and accuracy over labelled frames only."""

import math
from pathlib import Path

import torch

from speechattn.data.labelled_corpus import LabelledUtterance
from speechattn.data.labels.segments import IGNORE, Segment, Utterance
from speechattn.framing import Framing
from speechattn.training.tasks.frames import FrameTask

TASK = FrameTask(("SIL", "AA", "B"))


def test_targets_are_classes_of_the_frames_and_gaps_are_ignored() -> None:
    utterance = Utterance("1-1-0", "1", Path("none.flac"))
    item = LabelledUtterance(utterance, 800, [Segment(0.0, 0.02, "SIL"), Segment(0.03, 0.05, "B")])
    targets = TASK.targets(item, Framing())
    assert targets.tolist() == [0, 0, 0, IGNORE, 2]
    assert len(targets) == Framing().num_frames(800)


def test_loss_and_accuracy_leave_out_frames_without_a_label() -> None:
    logits = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [9.0, 0.0, 0.0]]])
    labels = torch.tensor([[0, 2, IGNORE]])
    assert int(TASK.num_targets(labels)) == 2
    lengths = torch.tensor([3])
    assert float(TASK.accuracy(logits, lengths, labels)) == 0.5
    norm = math.log(math.exp(2) + 2)
    assert abs(float(TASK.loss(logits, lengths, labels)) - (norm - 2 + norm) / 2) < 1e-6


def test_a_batch_without_labels_has_accuracy_zero() -> None:
    labels = torch.full((1, 2), IGNORE)
    assert float(TASK.accuracy(torch.zeros(1, 2, 3), torch.tensor([2]), labels)) == 0.0


def test_scores_are_those_of_the_confusion_matrix() -> None:
    scores = TASK.scores()
    labels = torch.tensor([[0, 1, 1, IGNORE]])
    scores.update(torch.eye(3)[torch.tensor([[0, 1, 2, 2]])], torch.tensor([4]), labels)
    found = scores.summary()
    assert found["confusion"] == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]
    assert (found["frames"], found["always_sil"], found["accuracy_no_sil"]) == (3, 1 / 3, 0.5)
    assert found["accuracy"] == scores.accuracy == 2 / 3 and found["per_class"]["AA"] == (0.5, 2)
    assert scores.curve() == {"accuracy": 2 / 3, "accuracy_no_sil": 0.5}


def test_the_majority_class_is_that_of_the_training_labels() -> None:
    assert TASK.majority([torch.tensor([1, 1, IGNORE]), torch.tensor([0])]) == 1
