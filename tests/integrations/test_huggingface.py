"""A transformers model and a hub folder: round trips, the Auto classes, masks, and training under its Trainer."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from rounding import assert_same
from torch import Tensor, nn

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.encoder.encoder import Encoder
from speechattn.errors import ConfigError, UserError

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]  # the toolkit's warnings are not ours


@pytest.fixture(scope="module")
def adapter() -> ModuleType:
    pytest.importorskip("transformers")
    from speechattn.integrations import huggingface

    return huggingface


@pytest.fixture(scope="module")
def hub() -> ModuleType:
    pytest.importorskip("huggingface_hub")
    from speechattn.integrations import hub

    return hub


def config(**settings: Any) -> EncoderConfig:
    small: dict[str, Any] = {"input_dim": 6, "d_model": 8, "num_heads": 2, "num_layers": 2, "dropout": 0.0}
    return EncoderConfig(**{**small, "context": (Context(5, 3), Context.chunked(4, left=8)), **settings})


EVERY_KIND = [
    *({"position_encoding": kind} for kind in ("none", "sinusoidal", "learned", "rotary", "relative", "alibi")),
    {"block": "conformer", "conv_kernel": 5, "conv_lookahead": "symmetric"},
    {"stack": 2},
]


@pytest.mark.parametrize("settings", EVERY_KIND, ids=str)
def test_what_is_saved_comes_back_through_auto_model(
    adapter: ModuleType, tmp_path: Path, settings: dict[str, object]
) -> None:
    from transformers import AutoConfig, AutoModel

    model = adapter.SpeechAttnModel(adapter.SpeechAttnConfig(config(**settings))).eval()
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]

    again = AutoModel.from_pretrained(tmp_path)
    assert isinstance(again, adapter.SpeechAttnModel)
    assert EncoderConfig.from_dict(AutoConfig.from_pretrained(tmp_path).encoder) == config(**settings)
    frames = torch.randn(2, 20, 6)
    assert_same(again(frames).last_hidden_state, model(frames).last_hidden_state)


def test_the_config_is_checked_and_plain(adapter: ModuleType) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'num_heads'"):
        adapter.SpeechAttnConfig({"input_dim": 6, "num_head": 2})
    made = adapter.SpeechAttnConfig(config())
    assert json.loads(made.to_json_string())["encoder"] == json.loads(json.dumps(config().to_dict()))
    assert made.hidden_size == 8


def test_a_new_model_starts_as_the_encoder_does(adapter: ModuleType) -> None:
    model = adapter.SpeechAttnModel(adapter.SpeechAttnConfig(config(d_model=256, num_heads=4)))
    expected = Encoder(config(d_model=256, num_heads=4)).state_dict()
    assert list(model.state_dict()) == [f"encoder.{name}" for name in expected]
    for name, tensor in expected.items():
        mine = model.state_dict()[f"encoder.{name}"]
        assert torch.allclose(mine.std(), tensor.std(), rtol=0.2, atol=1e-3), name
    table = "blocks.0.attention.relative_bias.table"  # it is not drawn at random
    assert torch.equal(model.encoder.state_dict()[table], expected[table])


def test_a_checkpoint_that_does_not_fill_the_encoder_is_refused(adapter: ModuleType, tmp_path: Path) -> None:
    model = adapter.SpeechAttnModel(adapter.SpeechAttnConfig(config()))
    some = {name: tensor for name, tensor in model.state_dict().items() if "blocks.1" not in name}
    model.save_pretrained(tmp_path / "some", state_dict=some)
    with pytest.raises(UserError, match=r"does not fill \d+ tensors of the encoder, encoder\.blocks\.1"):
        adapter.SpeechAttnModel.from_pretrained(tmp_path / "some")

    model.save_pretrained(tmp_path / "all")
    wider = adapter.SpeechAttnConfig(config(context=Context(9, 9)))
    with pytest.raises(UserError, match="does not fill 2 tensors"):
        adapter.SpeechAttnModel.from_pretrained(tmp_path / "all", config=wider, ignore_mismatched_sizes=True)


def test_the_head_of_a_subclass_is_drawn_when_only_the_encoder_is_there(adapter: ModuleType, tmp_path: Path) -> None:
    class WithHead(adapter.SpeechAttnModel):  # type: ignore[name-defined, misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.head = nn.Linear(config.hidden_size, 3)
            self.post_init()

    model = adapter.SpeechAttnModel(adapter.SpeechAttnConfig(config()))
    model.save_pretrained(tmp_path)
    again, info = WithHead.from_pretrained(tmp_path, output_loading_info=True)
    assert set(info["missing_keys"]) == {"head.weight", "head.bias"}
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert 0 < again.head.weight.abs().max() <= 8**-0.5  # what torch draws


def test_the_mask_is_padding_at_the_end(adapter: ModuleType) -> None:
    model = adapter.SpeechAttnModel(adapter.SpeechAttnConfig(config())).double().eval()
    alone = torch.randn(1, 13, 6, dtype=torch.float64)
    beside = torch.full((2, 30, 6), torch.nan, dtype=torch.float64)
    beside[0], beside[1, :13] = 1, alone[0]
    mask = torch.arange(30) < torch.tensor([[30], [13]])
    for kind in (torch.bool, torch.int64, torch.float32):
        hidden = model(beside, attention_mask=mask.to(kind)).last_hidden_state
        assert torch.allclose(hidden[1, :13], model(alone).last_hidden_state[0], atol=1e-10)
    (hidden,) = model(alone, return_dict=False)
    assert_same(hidden, model(alone)[0])
    with pytest.raises(ValueError, match="got padding before a real frame"):
        model(beside, attention_mask=mask.flip(1))
    with pytest.raises(ValueError, match=r"must be \[2, 30\]"):
        model(beside, attention_mask=mask[:, :20])


def test_the_trainer_trains_a_head_on_it(adapter: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    from transformers import PreTrainedModel, Trainer, TrainingArguments

    class FrameLabels(PreTrainedModel):  # type: ignore[misc]
        config_class = adapter.SpeechAttnConfig

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.base = adapter.SpeechAttnModel(config)
            self.head = nn.Linear(config.hidden_size, 3)
            self.post_init()

        def forward(self, input_features: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.head(self.base(input_features, attention_mask).last_hidden_state)
            return {"loss": nn.functional.cross_entropy(logits.mT, labels), "logits": logits}

    rows = [{"input_features": torch.randn(20, 6), "attention_mask": torch.ones(20)} for _ in range(4)]
    rows = [row | {"labels": row["input_features"][:, :3].argmax(1)} for row in rows]
    model = FrameLabels(adapter.SpeechAttnConfig(config()))
    quiet = {"report_to": [], "save_strategy": "no", "disable_tqdm": True}
    arguments = TrainingArguments(str(tmp_path), max_steps=60, learning_rate=1e-2, use_cpu=True, **quiet)
    trainer = Trainer(model, arguments, train_dataset=rows)
    before = trainer.evaluate(rows)["eval_loss"]
    trainer.train()
    assert trainer.evaluate(rows)["eval_loss"] < before / 3


def test_a_hub_folder_comes_back_with_the_names_of_the_encoder(hub: ModuleType, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    model = hub.HubEncoder(config()).eval()
    assert list(model.state_dict()) == list(Encoder(config()).state_dict())
    model.save_pretrained(tmp_path / "once")
    assert json.loads((tmp_path / "once" / "config.json").read_text()) == json.loads(json.dumps(config().to_dict()))

    plain = Encoder(config()).eval()
    plain.load_state_dict(load_file(tmp_path / "once" / "model.safetensors"))
    hub.HubEncoder.from_pretrained(tmp_path / "once").save_pretrained(tmp_path / "twice")
    again = hub.HubEncoder.from_pretrained(tmp_path / "twice")
    assert again.config == config() and not again.training
    frames, lengths = torch.randn(2, 20, 6), torch.tensor([20, 9])
    for other in (plain, again):
        assert_same(other(frames, lengths)[0], model(frames, lengths)[0])


def test_a_hub_folder_that_lacks_weights_is_refused(hub: ModuleType, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    hub.HubEncoder(config()).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["norm.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match=r"norm\.weight"):
        hub.HubEncoder.from_pretrained(tmp_path)
