"""A SpeechBrain lobe: relative lengths, and with SpeechBrain itself a hparams file, its CTC loss and its Brain."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from rounding import assert_same

from speechattn.context import Context
from speechattn.integrations.speechbrain import SpeechAttnEncoder

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]

HPARAMS = """
encoder: !new:speechattn.integrations.speechbrain.SpeechAttnEncoder
    input_dim: 6
    d_model: 16
    num_heads: 2
    num_layers: 2
    dropout: 0.0
    context: {left: 5, right: 3}
output: !new:speechbrain.nnet.linear.Linear
    input_size: 16
    n_neurons: 5
log_softmax: !new:speechbrain.nnet.activations.Softmax
    apply_log: True
"""


def lobe(**settings: object) -> SpeechAttnEncoder:
    small = {"input_dim": 6, "d_model": 8, "num_heads": 2, "num_layers": 2, "context": Context(5, 3)}
    return SpeechAttnEncoder(**{**small, **settings}).double().eval()


def test_relative_lengths_are_frames_whatever_the_padding_holds() -> None:
    model = lobe()
    alone = torch.randn(1, 33, 6, dtype=torch.float64)
    for length in (100, 47, 33):
        beside = torch.full((2, length, 6), torch.nan, dtype=torch.float64)
        beside[0], beside[1, :33] = 1, alone[0]
        hidden = model(beside, torch.tensor([1.0, 33 / length]))
        assert torch.allclose(hidden[1, :33], model(alone)[0], atol=1e-10)
        assert not hidden[1, 33:].any()


def test_absolute_lengths_are_refused() -> None:
    for wrong in (torch.tensor([9, 4]), torch.tensor([1.0, 1.1]), torch.tensor([0.5, -0.1])):
        with pytest.raises(ValueError, match=r"shares of the longest row, in \[0, 1\]"):
            lobe()(torch.zeros(2, 9, 6, dtype=torch.float64), wrong)


def test_its_weights_are_those_of_the_encoder() -> None:
    model = lobe()
    assert list(model.state_dict()) == [f"encoder.{name}" for name in model.encoder.state_dict()]


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore")
def test_a_brain_trains_what_a_hparams_file_builds() -> None:
    speechbrain = pytest.importorskip("speechbrain")
    load_hyperpyyaml = pytest.importorskip("hyperpyyaml").load_hyperpyyaml
    ctc_loss = importlib.import_module("speechbrain.nnet.losses").ctc_loss

    hparams = load_hyperpyyaml(HPARAMS)
    assert hparams["encoder"].encoder.config.context == Context(5, 3)

    class Brain(speechbrain.Brain):  # type: ignore[name-defined, misc]
        def compute_forward(self, batch: Batch, stage: object) -> torch.Tensor:
            hidden = self.modules.encoder(batch[0], batch[1])
            log_probabilities: torch.Tensor = self.hparams.log_softmax(self.modules.output(hidden))
            return log_probabilities

        def compute_objectives(self, predictions: torch.Tensor, batch: Batch, stage: object) -> torch.Tensor:
            _, wav_lens, tokens, token_lens = batch
            loss: torch.Tensor = ctc_loss(predictions, tokens, wav_lens, token_lens, blank_index=0)
            losses.append(float(loss.detach()))
            return loss

    losses: list[float] = []
    tokens, token_lens = torch.tensor([[1, 2, 3], [4, 1, 0]]), torch.tensor([1.0, 2 / 3])
    batch = (torch.randn(2, 40, 6), torch.tensor([1.0, 0.6]), tokens, token_lens)
    modules = {name: hparams[name] for name in ("encoder", "output")}
    brain = Brain(modules, lambda weights: torch.optim.Adam(weights, 1e-2), hparams)
    batches: Any = [batch]
    brain.fit(range(15), torch.utils.data.DataLoader(batches, batch_size=None), progressbar=False)
    assert losses[-1] < losses[0] / 4

    brain.modules.eval()
    with torch.no_grad():
        first = brain.compute_forward(batch, speechbrain.Stage.TEST)
        batch[0][1, 24:] = torch.nan
        assert_same(first[1, :24], brain.compute_forward(batch, speechbrain.Stage.TEST)[1, :24])
