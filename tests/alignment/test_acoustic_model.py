"""The acoustic model learns separable classes, repeats itself, and its scores are log-likelihoods up to a constant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from speechattn.alignment import acoustic_model
from speechattn.alignment.acoustic_model import (
    NUM_MELS,
    log_prior,
    make_acoustic_model,
    phone_scores,
    train_acoustic_model,
)
from speechattn.data.labels.classes import PHONES
from speechattn.data.labels.segments import IGNORE
from speechattn.models.speech_model import SpeechModel
from speechattn.system.stop_signal import Interrupted, StopSignal


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acoustic_model, "D_MODEL", 24)
    monkeypatch.setattr(acoustic_model, "BATCH_FRAMES", 400)
    monkeypatch.setattr(acoustic_model, "LEARNING_RATE", 1e-2)


def examples() -> list[tuple[Tensor, Tensor]]:
    """Five utterances in which each class of four has a spectrum of its own, and one frame in ten has no label."""
    generator = torch.Generator().manual_seed(0)
    spectra = 3 * torch.randn(4, NUM_MELS, generator=generator)
    found = []
    for length in (90, 130, 210, 260, 300):
        labels = torch.randint(4, (length // 10,), generator=generator).repeat_interleave(10)
        frames = spectra[labels] + torch.randn(len(labels), NUM_MELS, generator=generator)
        labels[::10] = IGNORE
        found.append((frames, labels))
    return found


def trained(augment: bool = False, seed: int = 0) -> SpeechModel:
    model = make_acoustic_model([frames for frames, _ in examples()], seed)
    train_acoustic_model(model, examples(), 30, seed, augment=augment)
    return model


def test_training_learns_what_the_labels_say() -> None:
    model = trained()
    scores = phone_scores(model, [frames for frames, _ in examples()], log_prior(labels for _, labels in examples()))
    hits = np.concatenate(
        [
            (row.argmax(1) == labels.numpy())[labels != IGNORE]
            for row, (_, labels) in zip(scores, examples(), strict=True)
        ]
    )
    assert hits.mean() > 0.9


@pytest.mark.parametrize("augment", [False, True])
def test_training_repeats_itself_and_leaves_the_random_state(augment: bool) -> None:
    state = torch.random.get_rng_state()
    first, second, other = trained(augment), trained(augment), trained(augment, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)
    assert not torch.equal(first.state_dict()["head.output.weight"], other.state_dict()["head.output.weight"])


def test_the_prior_counts_labels_and_no_class_is_impossible() -> None:
    prior = log_prior([torch.tensor([0, 0, 3, IGNORE]), torch.tensor([3, 3])]).exp()
    total = len(PHONES) + 5
    assert prior[0] == pytest.approx(3 / total) and prior[3] == pytest.approx(4 / total)
    assert prior[40] == pytest.approx(1 / total) and float(prior.sum()) == pytest.approx(1)


def test_scores_are_the_posterior_over_the_prior() -> None:
    model = make_acoustic_model([examples()[0][0]], seed=0)
    prior = log_prior([torch.tensor([0, 1])])
    [row] = phone_scores(model, [examples()[0][0]], prior)
    assert np.exp(row + prior.numpy()).sum(1) == pytest.approx(np.ones(len(row)), abs=1e-5)  # rounding of float32


def test_training_stops_at_a_signal() -> None:
    stop = StopSignal()
    stop.received = 2
    model = make_acoustic_model([examples()[0][0]], seed=0)
    with pytest.raises(Interrupted):
        train_acoustic_model(model, examples(), 5, 0, augment=False, stop=stop)


def test_few_recordings_are_not_learnt_by_heart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(acoustic_model, "MAX_EPOCHS", 2)
    model = make_acoustic_model([examples()[0][0]], seed=0)
    train_acoustic_model(model, examples()[:1], 500, 0, augment=False)
    assert "1/1 " in capsys.readouterr().err  # 90 frames twice fit into one batch of 400
