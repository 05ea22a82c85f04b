"""A NeMo encoder: neural types, and the CTC model that NeMo builds from a config, trained, saved and restored."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from rounding import assert_same

from speechattn.context import Context

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]  # NeMo's own warnings

SETTINGS: dict[str, Any] = {"input_dim": 16, "d_model": 16, "num_heads": 2, "num_layers": 2, "dropout": 0.0}
SETTINGS |= {"context": {"left": 5, "right": 3}}
LETTERS = [" ", "a", "b", "c"]


@pytest.fixture(scope="module")
def adapter() -> ModuleType:
    pytest.importorskip("nemo")
    from speechattn.integrations import nemo

    return nemo


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow NeMo to build our encoder from a config, as the script of a user does."""
    from nemo.core.classes import common

    prefixes = [*common.ALLOWED_TARGET_PREFIXES, "speechattn.integrations.nemo."]
    monkeypatch.setattr(common, "ALLOWED_TARGET_PREFIXES", prefixes)


def ctc_model(**settings: Any) -> Any:
    from nemo.collections.asr.models import EncDecCTCModel
    from omegaconf import OmegaConf

    asr = "nemo.collections.asr.modules"
    preprocessor = {"_target_": f"{asr}.AudioToMelSpectrogramPreprocessor", "features": 16, "dither": 0.0, "pad_to": 0}
    encoder = {"_target_": "speechattn.integrations.nemo.SpeechAttnEncoder", **SETTINGS, **settings}
    decoder = {"_target_": f"{asr}.ConvASRDecoder", "feat_in": None, "num_classes": 4, "vocabulary": LETTERS}
    parts = {"preprocessor": preprocessor, "encoder": encoder, "decoder": decoder, "optim": {"name": "adam"}}
    return EncDecCTCModel(OmegaConf.create({"sample_rate": 16000, "labels": LETTERS, **parts}))


def test_it_is_a_neural_module_with_types_and_the_weights_of_the_encoder(adapter: ModuleType) -> None:
    from nemo.core.classes import NeuralModule

    model = adapter.SpeechAttnEncoder(**SETTINGS)
    assert isinstance(model, NeuralModule)
    assert model.encoder.config.context == Context(5, 3)
    assert list(model.state_dict()) == [f"encoder.{name}" for name in model.encoder.state_dict()]
    with pytest.raises(TypeError, match="kwargs"):
        model(torch.zeros(1, 16, 9), torch.tensor([9]))
    with pytest.raises(TypeError):
        model(audio_signal=torch.zeros(1, 9, 16, 2), length=torch.tensor([9]))


def test_padding_changes_nothing(adapter: ModuleType) -> None:
    model = adapter.SpeechAttnEncoder(**SETTINGS, stack=2).double().eval()
    alone = torch.randn(1, 16, 21, dtype=torch.float64)
    beside = torch.full((2, 16, 40), torch.nan, dtype=torch.float64)
    beside[0], beside[1, :, :21] = 1, alone[0]
    output, lengths = model(audio_signal=beside, length=torch.tensor([40, 21]))
    expected, _ = model(audio_signal=alone, length=torch.tensor([21]))
    assert output.shape == (2, 16, 20) and lengths.tolist() == [20, 10]
    assert torch.allclose(output[1, :, :10], expected[0], atol=1e-10)


def test_a_config_builds_it_only_where_it_is_trusted(adapter: ModuleType) -> None:
    with pytest.raises(ValueError, match="unsafe target"):
        ctc_model()


def test_the_ctc_model_trains(adapter: ModuleType, trusted: None) -> None:
    model = ctc_model(stack=2)
    assert isinstance(model.encoder, adapter.SpeechAttnEncoder) and model.encoder.subsampling_factor == 2
    audio, lengths = torch.randn(2, 16000), torch.tensor([16000, 9000])
    tokens, counts = torch.tensor([[1, 2, 3], [3, 1, 0]]), torch.tensor([3, 2])
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(20):
        optimizer.zero_grad()
        scores, frames, _ = model(input_signal=audio, input_signal_length=lengths)
        loss = model.loss(log_probs=scores, targets=tokens, input_lengths=frames, target_lengths=counts)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 4


def test_a_nemo_file_brings_it_back(adapter: ModuleType, trusted: None, tmp_path: Path) -> None:
    from nemo.collections.asr.models import EncDecCTCModel

    model = ctc_model(context=[{"left": 5, "right": 3}, {"left": 8, "right": 0, "chunk": 4}]).eval()
    model.save_to(str(tmp_path / "model.nemo"))
    again = EncDecCTCModel.restore_from(str(tmp_path / "model.nemo"), map_location="cpu").eval()
    assert again.encoder.encoder.config == model.encoder.encoder.config
    audio, lengths = torch.randn(1, 8000), torch.tensor([8000])
    with torch.no_grad():
        found, expected = (m(input_signal=audio, input_signal_length=lengths)[0] for m in (again, model))
    assert_same(found, expected)
