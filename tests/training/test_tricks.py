"""What makes a model more accurate without changing it: an average of weights, two views, teachers, masks."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import TASK, config_of, example, new_model, run
from torch import nn
from torch.nn.functional import kl_div

from speechattn.errors import ConfigError, UserError
from speechattn.models.speech_model import SpeechModel
from speechattn.system.stop_signal import Interrupted
from speechattn.training.augmentation import make_augment
from speechattn.training.checkpoint import load_checkpoint
from speechattn.training.config import TrainConfig
from speechattn.training.consistency import join_views, split_views, symmetric_kl
from speechattn.training.dataset import Example
from speechattn.training.distillation import Teachers, distillation_loss
from speechattn.training.distributed import Ranks
from speechattn.training.moving_average import MovingAverage
from speechattn.training.trainer import Trainer


@pytest.fixture
def examples() -> list[Example]:
    return [example(i, 60 + 37 * i) for i in range(8)]


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    """Return the folder of a saved model with other weights than `new_model` has."""
    torch.manual_seed(7)
    SpeechModel(new_model(config_of()).config).save(tmp_path / "teacher")
    return str(tmp_path / "teacher")


def tricks(teacher: str) -> list[dict[str, Any]]:
    views = {"consistency": 0.3, "augment": True}
    return [{"ema": 0.9}, views, {"teachers": (teacher,)}, {**views, "ema": 0.9, "teachers": (teacher, teacher)}]


def test_the_average_is_that_of_the_definition() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    average, expected = MovingAverage(model, 0.6), model.weight.detach().clone()
    for n in range(8):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        average.update(n)
        decay = min(0.6, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    assert torch.allclose(average.tensors["weight"], expected, atol=1e-6)


def test_the_average_is_swapped_in_and_out_again_even_after_an_error() -> None:
    model = nn.Linear(3, 2)
    average = MovingAverage(model, 0.5)
    before, own = model.weight.detach().clone(), model.weight.detach() + 1
    with torch.no_grad():
        model.weight.copy_(own)
    with pytest.raises(ZeroDivisionError), average.swapped():
        assert torch.equal(model.weight, before)
        raise ZeroDivisionError
    assert torch.equal(model.weight, own)


def test_a_run_ends_with_the_average_and_its_checkpoint_keeps_both(examples: list[Example], tmp_path: Path) -> None:
    model, _ = run(examples, config_of(ema=0.9), tmp_path)
    checkpoint = load_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    weights = dict(model.named_parameters())
    assert all(torch.equal(weights[name], tensor) for name, tensor in checkpoint.tensors["average"].items())
    assert any(not torch.equal(weights[name], checkpoint.tensors["model"][name]) for name in weights)


@pytest.mark.parametrize("trick", range(4), ids=["ema", "views", "teacher", "all"])
def test_a_stopped_run_with_each_trick_ends_with_the_same_weights(
    examples: list[Example], teacher: str, tmp_path: Path, trick: int
) -> None:
    config = config_of(epochs=2, checkpoint_seconds=0.0, **tricks(teacher)[trick])
    expected, _ = run(examples, config, tmp_path / "whole")
    for stop_after in (2, 3):
        with pytest.raises(Interrupted):
            run(examples, config, tmp_path / "cut", stop_after)
    resumed, _ = run(examples, config, tmp_path / "cut")
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


@pytest.mark.parametrize("trick", range(4), ids=["ema", "views", "teacher", "all"])
def test_a_run_with_each_trick_learns(examples: list[Example], teacher: str, tmp_path: Path, trick: int) -> None:
    config = config_of(epochs=8, learning_rate=1e-2, batch_frames=300, teacher_weight=0.1, **tricks(teacher)[trick])
    before = loss_of(new_model(config), examples[0])
    model, progress = run(examples, config, tmp_path / "run")
    assert progress.bad_steps == 0 and loss_of(model, examples[0]) < 0.9 * before


@torch.no_grad()
def loss_of(model: SpeechModel, labelled: Example) -> float:
    logits = model.eval().classify(labelled.frames[None])[0]
    return float(nn.functional.cross_entropy(logits[0], labelled.labels))


def test_equal_views_are_consistent_and_others_have_the_divergence_of_torch() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 2, 5, 4)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2]).repeat(2, 1)
    assert float(symmetric_kl(torch.cat((first, first)), mask)) == 0
    logs = [view[mask[:2]].log_softmax(-1) for view in (first, second)]
    expected = sum(kl_div(a, b, reduction="batchmean", log_target=True) for a, b in (logs, logs[::-1])) / 2
    assert float(symmetric_kl(torch.cat((first, second)), mask)) == pytest.approx(float(expected), rel=1e-5)


def test_each_view_is_drawn_to_the_other_one_which_is_held_fixed() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 1, 1, 4)
    logits = torch.cat((first, second)).requires_grad_()
    symmetric_kl(logits, torch.ones(2, 1, dtype=torch.bool)).backward()  # type: ignore[no-untyped-call]
    # The gradient of KL(target || softmax(x)) with a fixed target is softmax(x) - target.
    difference = 0.5 * (first.softmax(-1) - second.softmax(-1))
    assert logits.grad is not None and torch.allclose(logits.grad, torch.cat((difference, -difference)), atol=1e-6)


def test_views_are_split_into_rows_with_their_own_labels() -> None:
    frames = torch.randn(2, 6, 3)
    rows, lengths, labels = split_views(join_views(frames, -frames), torch.tensor([6, 4]), torch.arange(12).view(2, 6))
    assert torch.equal(rows, torch.cat((frames, -frames)))
    assert lengths.tolist() == [6, 4, 6, 4] and labels[2:].flatten().tolist() == list(range(12))


def test_parts_of_a_batch_give_the_update_of_the_whole_batch(teacher: str, tmp_path: Path) -> None:
    """Views stay together with their rows, and so do the targets of the teachers."""
    items = [example(i, 80) for i in range(4)]
    frames, labels = torch.stack([item.frames for item in items]), torch.stack([item.labels for item in items])
    lengths = torch.tensor([80, 80, 70, 60])
    labels[2, 70:], labels[3, 60:] = -100, -100
    weights = []
    for accumulate in (1, 2):
        config = config_of(accumulate=accumulate, consistency=0.5, augment=True, teachers=(teacher,), dropout=0.0)
        model = new_model(config)
        trainer = Trainer(model, TASK, config, [9], tmp_path / str(accumulate), Ranks())
        loss, _ = trainer.step(frames, lengths, labels)
        weights.append((loss, torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
    assert weights[0][0] == pytest.approx(weights[1][0], rel=1e-5)
    assert torch.allclose(weights[0][1], weights[1][1], atol=1e-5)


def test_a_teacher_that_equals_the_model_has_no_gradient(tmp_path: Path) -> None:
    model = new_model(config_of(dropout=0.0))
    model.save(tmp_path / "teacher")
    frames, lengths = example(1, 60).frames[None], torch.tensor([60])
    targets = Teachers([str(tmp_path / "teacher")], model).log_posteriors(frames, lengths)
    loss = distillation_loss(model.classify(frames, lengths)[0], targets, torch.ones(1, 60, dtype=torch.bool))
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
    assert all(p.grad is None or p.grad.abs().max() < 1e-5 for p in model.parameters())


def test_several_teachers_have_the_mean_of_their_posteriors(teacher: str, tmp_path: Path) -> None:
    model = new_model(config_of())
    model.save(tmp_path / "run" / "model")  # the folder of a run will do
    folders = [teacher, str(tmp_path / "run")]
    frames, lengths = example(1, 60).frames[None], torch.tensor([60])
    first, second = (Teachers([folder], model).log_posteriors(frames, lengths).exp() for folder in folders)
    both = Teachers(folders, model).log_posteriors(frames, lengths).exp()
    assert torch.allclose(both, (first + second) / 2, atol=1e-6) and not torch.allclose(first, second, atol=1e-3)


def test_a_teacher_of_other_classes_is_refused_in_one_line(tmp_path: Path) -> None:
    student = new_model(config_of())
    SpeechModel(replace(student.config, classes=("SIL", "AA"))).save(tmp_path / "teacher")
    with pytest.raises(UserError, match="another classes than the model to train") as error:
        Teachers([str(tmp_path / "teacher")], student)
    assert "\n" not in str(error.value)


def test_the_settings_of_masks_reach_the_augmentation() -> None:
    augment = make_augment(config_of(time_masks=5, time_mask_frames=7, time_mask_share=0.5), torch.zeros(8))
    assert (augment.time_masks, augment.time_mask_frames, augment.time_mask_share) == (5, 7, 0.5)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"ema": 1.0}, "below 1"),
        ({"ema": math.nan}, "below 1"),
        ({"consistency": -1.0}, "0 .off. or more"),
        ({"consistency": 0.2, "augment": False}, "two augmented views"),
        ({"teacher_weight": 0.0}, "above 0"),
        ({"time_masks": -1}, "0 .off. or more"),
        ({"time_mask_share": 2.0}, "from 0 to 1"),
    ],
)
def test_settings_without_a_meaning_are_refused_in_one_line(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as error:
        TrainConfig(**settings)
    assert "\n" not in str(error.value)
