"""The task of labelling frames: targets on the grid of the frontend, loss and accuracy over labelled frames only."""

import math

import torch

from speechattn.data.labels.segments import IGNORE, Segment
from speechattn.framing import Framing
from speechattn.training.tasks.frames import FrameTask

TASK = FrameTask(("SIL", "AA", "B"))


def test_targets_are_classes_of_the_frames_and_gaps_are_ignored() -> None:
    targets = TASK.targets([Segment(0.0, 0.02, "SIL"), Segment(0.03, 0.05, "B")], 800, Framing())
    assert targets.tolist() == [0, 0, 0, IGNORE, 2]
    assert len(targets) == Framing().num_frames(800)


def test_loss_and_accuracy_leave_out_frames_without_a_label() -> None:
    logits = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [9.0, 0.0, 0.0]]])
    labels = torch.tensor([[0, 2, IGNORE]])
    assert int(TASK.num_targets(labels)) == 2
    assert float(TASK.accuracy(logits, labels)) == 0.5
    norm = math.log(math.exp(2) + 2)
    assert abs(float(TASK.loss(logits, labels)) - (norm - 2 + norm) / 2) < 1e-6


def test_a_batch_without_labels_has_accuracy_zero() -> None:
    assert float(TASK.accuracy(torch.zeros(1, 2, 3), torch.full((1, 2), IGNORE))) == 0.0


def test_scores_have_a_row_for_each_class() -> None:
    assert TASK.scores().confusion.shape == (3, 3) and TASK.head == "frames"
