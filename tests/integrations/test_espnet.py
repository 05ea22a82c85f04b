"""An ESPnet encoder: the model that ESPnet's own task builds from a config, its loss, and its streaming call."""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from speechattn.context import Context

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]  # ESPnet's warnings are not ours to mend

CONF = {"d_model": 16, "num_heads": 2, "num_layers": 2, "dropout": 0.0, "context": {"left": 5, "right": 3}}


@pytest.fixture(scope="module")
def adapter() -> ModuleType:
    pytest.importorskip("espnet2")
    from speechattn.integrations import espnet

    return espnet


def streamed(encoder: Any, frames: Tensor, pushes: list[int]) -> Tensor:
    parts, states = [], None
    for number, part in enumerate(torch.split(frames, pushes, 1)):
        final = number == len(pushes) - 1
        output, lengths, states = encoder(part, torch.tensor([part.shape[1]]), states, is_final=final, infer_mode=True)
        assert lengths.tolist() == [output.shape[1]]
        parts.append(output)
    assert states is None
    return torch.cat(parts, 1)


def test_it_is_an_abs_encoder_with_the_weights_of_the_encoder(adapter: ModuleType) -> None:
    from espnet2.asr.encoder.abs_encoder import AbsEncoder

    model = adapter.SpeechAttnEncoder(6, **CONF)
    assert isinstance(model, AbsEncoder) and model.output_size() == 16
    assert model.encoder.config.context == Context(5, 3)
    assert list(model.state_dict()) == [f"encoder.{name}" for name in model.encoder.state_dict()]


def test_padding_changes_nothing(adapter: ModuleType) -> None:
    model = adapter.SpeechAttnEncoder(6, **CONF, stack=2).double().eval()
    alone = torch.randn(1, 21, 6, dtype=torch.float64)
    beside = torch.full((2, 40, 6), torch.nan, dtype=torch.float64)
    beside[0], beside[1, :21] = 1, alone[0]
    output, lengths, states = model(beside, torch.tensor([40, 21]))
    assert lengths.tolist() == [20, 10] and states is None
    assert torch.allclose(output[1, :10], model(alone, torch.tensor([21]))[0][0], atol=1e-10)


@pytest.mark.parametrize("pushes", [[30], [1] * 30, [0, 17, 13], [30, 0]])
def test_a_stream_is_the_whole(adapter: ModuleType, pushes: list[int]) -> None:
    model = adapter.SpeechAttnEncoder(6, **CONF).double().eval()
    frames = torch.randn(1, 30, 6, dtype=torch.float64)
    assert torch.allclose(streamed(model, frames, pushes), model(frames, torch.tensor([30]))[0], atol=1e-10)


def test_the_task_builds_and_trains_a_model_with_it(adapter: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    from espnet2.tasks.asr import ASRTask, encoder_choices

    monkeypatch.setitem(encoder_choices.classes, "speechattn", adapter.SpeechAttnEncoder)
    config = ASRTask.get_default_config() | {
        "token_list": ["<blank>", "<unk>", "a", "b", "c", "<sos/eos>"],
        "input_size": 6,
        "encoder": "speechattn",
        "encoder_conf": CONF,
        "decoder": None,
        "model_conf": {"ctc_weight": 1.0},
        "normalize": None,
        "init": None,
    }
    model = ASRTask.build_model(argparse.Namespace(**config))
    assert isinstance(model.encoder, adapter.SpeechAttnEncoder)
    frames, lengths = torch.randn(2, 30, 6), torch.tensor([30, 18])
    tokens, counts = torch.tensor([[2, 3, 4], [4, 2, -1]]), torch.tensor([3, 2])
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(20):
        optimizer.zero_grad()
        loss, _, _ = model(frames, lengths, tokens, counts)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 4
