"""Configs: there and back through JSON, strict about keys and types, impossible ones refused at once."""

import json

import pytest

from speechattn.config import EncoderConfig, ModelConfig
from speechattn.context import Context
from speechattn.errors import ConfigError
from speechattn.framing import Framing
from speechattn.trainconfig import TrainConfig

CONFIGS = [
    EncoderConfig(80),
    EncoderConfig(80, num_layers=2, context=(Context(3, 4), Context.full())),
    EncoderConfig(40, block="mlp", splice=Context.truncated(5, 4), d_ff=7),
    ModelConfig(("SIL", "AA"), EncoderConfig(80), framing=Framing(align="snip")),
    TrainConfig(test_subsets=("test", "other"), baselines=()),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_there_and_back_through_json(config):
    data = json.loads(json.dumps(config.to_dict()))
    assert type(config).from_dict(data) == config


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"input_dim": 80, "dmodel": 3}, "no setting 'dmodel'. Did you mean 'd_model'"),
        ({"input_dim": "80"}, "input_dim must be of type int, got '80'"),
        ({"d_model": 3}, "lacks the setting 'input_dim'"),
        ({"input_dim": 80, "context": {"left": -3}}, "EncoderConfig.context: Context.left must be 0 or more"),
        ({"input_dim": 80, "context": {"lft": 3}}, "context has no setting 'lft'. Did you mean 'left'"),
        ({"input_dim": 80, "positions": "rotry"}, "Did you mean 'rotary'"),
        ({"input_dim": 80, "num_layers": True}, "num_layers must be of type int"),
    ],
)
def test_wrong_settings_name_the_right_one(data, message):
    with pytest.raises(ConfigError, match=message):
        EncoderConfig.from_dict(data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": 3}, "256 features do not split into 3 heads; use num_heads=2"),
        ({"d_model": 12, "num_heads": 4, "positions": "rotary"}, "must be even"),
        ({"num_layers": 2, "context": (Context(1, 1),)}, "one per layer: got 1 for num_layers=2"),
        ({"dropout": 1.0}, "dropout"),
        ({"d_ff": 0}, "d_ff"),
        ({"num_layers": 0}, "num_layers must be 1 or more"),
        ({"context": 64}, "must be a Context, or one per layer.*got 64"),
        ({"splice": Context.causal()}, "a window of frames at the input"),
        ({"splice": Context.chunked(4, 4)}, "a window of frames at the input"),
    ],
)
def test_impossible_encoders_are_refused_when_the_config_is_built(settings, message):
    with pytest.raises(ConfigError, match=message):
        EncoderConfig(80, **settings)


def test_a_model_needs_classes_and_matching_features():
    with pytest.raises(ConfigError, match="2 or more different names"):
        ModelConfig(("SIL", "SIL"), EncoderConfig(80))
    with pytest.raises(ConfigError, match="must equal num_mels"):
        ModelConfig(("SIL", "AA"), EncoderConfig(40))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": "somewhere"}, "needs --alignments DIR with train.phones.ctm"),
        ({"epochs": 0}, "epochs"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"left": -1}, "Context.left must be 0 or more frames, got -1"),
        ({"chunk": 0}, "Context.chunk"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"valid_fraction": 1.0}, "valid_fraction"),
        ({"stretch": 1.0}, "stretch"),
        ({"num_heads": 7}, "do not split into 7 heads"),
        ({"encoder": "truncate"}, "Did you mean 'truncated'"),
    ],
)
def test_impossible_runs_are_refused_when_the_config_is_built(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


def test_one_context_a_layer_or_one_for_all():
    assert EncoderConfig(80, num_layers=3, context=Context(1, 2)).contexts == (Context(1, 2),) * 3
    assert EncoderConfig(80, block="linear").contexts == ()
    assert EncoderConfig(80, block="mlp", num_layers=3, splice=Context(5, 5)).contexts == (Context(5, 5),)
    assert EncoderConfig(80, num_layers=2, splice=Context(2, 1)).contexts == (Context(2, 1), *[Context(64, 64)] * 2)


def test_the_encoders_of_a_run_differ_only_in_kind():
    config = TrainConfig(left=9, right=3, splice=0)
    assert config.encoder_config("truncated").contexts == (Context(9, 3),) * config.num_layers
    assert config.encoder_config("full").contexts == (Context.full(),) * config.num_layers
    assert len(config.encoder_config("mlp").contexts[0].offsets()) == 11
    assert config.encoder_config("linear").contexts == ()
