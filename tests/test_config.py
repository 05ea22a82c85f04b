"""Configs: there and back through JSON, strict about keys and types, impossible ones refused at once."""

import json
from typing import Any, get_args

import pytest

from speechattn.config import EncoderConfig
from speechattn.context import Context
from speechattn.errors import ConfigError
from speechattn.framing import Framing
from speechattn.model_config import ModelConfig
from speechattn.training.config import EncoderKind, TrainConfig

CONFIGS = [
    EncoderConfig(80),
    EncoderConfig(80, num_layers=2, context=(Context(3, 4), Context.full())),
    EncoderConfig(40, block="mlp", splice=Context.truncated(5, 4), d_ff=7),
    ModelConfig(("SIL", "AA"), EncoderConfig(80), framing=Framing(align="snip")),
    TrainConfig(test_subsets=("test", "other"), baselines=()),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_there_and_back_through_json(config: Any) -> None:
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
        ({"input_dim": 80, "position_encoding": "rotry"}, "Did you mean 'rotary'"),
        ({"input_dim": 80, "num_layers": True}, "num_layers must be of type int"),
    ],
)
def test_wrong_settings_name_the_right_one(data: Any, message: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderConfig.from_dict(data)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_heads": 3}, "256 features do not split into 3 heads; use num_heads=2"),
        ({"d_model": 12, "num_heads": 4, "position_encoding": "rotary"}, "must be even"),
        ({"num_layers": 2, "context": (Context(1, 1),)}, "one per layer: got 1 for num_layers=2"),
        ({"dropout": 1.0}, "dropout"),
        ({"d_ff": 0}, "d_ff"),
        ({"num_layers": 0}, "num_layers must be 1 or more"),
        ({"context": 64}, "must be a Context, or one per layer.*got 64"),
        ({"splice": Context.causal()}, "a window of frames at the input"),
        ({"splice": Context.chunked(4, 4)}, "a window of frames at the input"),
    ],
)
def test_impossible_encoders_are_refused_when_the_config_is_built(settings: Any, message: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderConfig(80, **settings)


def test_a_model_needs_classes_and_matching_features() -> None:
    with pytest.raises(ConfigError, match="2 or more different names"):
        ModelConfig(("SIL", "SIL"), EncoderConfig(80))
    with pytest.raises(ConfigError, match="must equal num_mels"):
        ModelConfig(("SIL", "AA"), EncoderConfig(40))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": "somewhere", "alignments": "a", "lexicon": "l"}, "lexicon='l' has no effect"),
        ({"lexicon": "l"}, "lexicon='l' has no effect"),
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
def test_impossible_runs_are_refused_when_the_config_is_built(settings: Any, message: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


def test_one_context_a_layer_or_one_for_all() -> None:
    assert EncoderConfig(80, num_layers=3, context=Context(1, 2)).contexts == (Context(1, 2),) * 3
    assert EncoderConfig(80, block="linear").contexts == ()
    assert EncoderConfig(80, block="mlp", num_layers=3, splice=Context(5, 5)).contexts == (Context(5, 5),)
    assert EncoderConfig(80, num_layers=2, splice=Context(2, 1)).contexts == (Context(2, 1), *[Context(64, 64)] * 2)


def test_the_encoders_of_a_run_differ_only_in_kind() -> None:
    config = TrainConfig(left=9, right=3, splice=0)
    assert config.encoder_config("truncated").contexts == (Context(9, 3),) * config.num_layers
    assert config.encoder_config("full").contexts == (Context.full(),) * config.num_layers
    assert len(config.encoder_config("mlp").contexts[0].offsets()) == 11
    assert config.encoder_config("linear").contexts == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"conv_kernel": 14, "conv_lookahead": "symmetric"}, r"conv_kernel must be odd .* got 14: use conv_kernel=15"),
        ({"conv_kernel": 5, "conv_lookahead": 5}, r"conv_lookahead must be in \[0, conv_kernel - 1 = 4\]"),
        ({"conv_lookahead": -1}, "conv_lookahead must be in"),
        ({"conv_lookahead": "same"}, "conv_lookahead must be in"),
        ({"conv_kernel": 0}, "conv_kernel must be 1 or more"),
        ({"stack": 3}, r"stack must be one of \(1, 2, 4\) frames, got 3"),
        ({"layer_dropout": 1.0}, r"layer_dropout must be in \[0, 1\)"),
        ({"max_frames": 0}, "max_frames must be 1 or more"),
        ({"block": "bigru", "d_model": 81}, "d_model must be even .* use 82"),
        ({"block": "conformer", "num_heads": 3}, "num_heads must divide d_model.* use num_heads="),
        ({"stack": True}, "stack must be 1 or more, and whole, got True"),
        ({"conv_kernel": 7.0}, "conv_kernel must be 1 or more, and whole, got 7.0"),
        ({"max_frames": None}, "max_frames must be 1 or more, and whole, got None"),
        ({"layer_dropout": "0.1"}, "layer_dropout must be in"),
        ({"gradient_checkpointing": "no"}, "gradient_checkpointing is True or False"),
        ({"splice": 3}, "EncoderConfig.splice must be a Context, got 3"),
        ({"block": "confomer"}, "Did you mean 'conformer'"),
        ({"position_encoding": "alibii"}, "Did you mean 'alibi'"),
    ],
)
def test_impossible_encoders_are_refused_with_the_fix(settings: Any, message: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderConfig(80, **settings)


def test_labels_of_another_rate_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"encoder.stack must be 1.*every 10 ms: got 2.*Framing\(sample_rate=16000, hop=320\)"
    ):
        ModelConfig(("SIL", "AA"), EncoderConfig(80, stack=2))


def test_a_table_of_positions_that_is_too_short_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_frames=300 .* use max_frames=444"):
        TrainConfig(position_encoding="learned", max_frames=300, stretch=0.1)
    assert (
        TrainConfig(position_encoding="learned", max_frames=444, stretch=0.1).encoder_config("truncated").max_frames
        == 444
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"conv_kernel": 8},
        {"conv_lookahead": 10, "encoder": "conformer", "baselines": ("cnn",)},
        {"cnn_kernel": 8, "encoder": "cnn"},
        {"num_heads": 7, "encoder": "linear", "baselines": ()},
        {"d_model": 161, "encoder": "mlp", "baselines": ("cnn",)},
        {"position_encoding": "learned", "max_frames": 300, "encoder": "cnn", "baselines": ()},
    ],
    ids=str,
)
def test_a_setting_is_checked_only_for_encoders_that_use_it(settings: Any) -> None:
    TrainConfig(**settings)


def test_the_width_of_a_bigru_is_named_as_the_recipe_names_it() -> None:
    with pytest.raises(ConfigError, match=r"TrainConfig.gru_width must be even.* 255: use 256"):
        TrainConfig(encoder="bigru", gru_width=255)


def test_every_encoder_kind_has_a_config() -> None:
    config = TrainConfig(conv_lookahead=2, mlp_splice=7)
    blocks = {kind: config.encoder_config(kind).block for kind in get_args(EncoderKind)}
    assert blocks == {
        "truncated": "transformer",
        "conformer": "conformer",
        "full": "transformer",
        "cnn": "cnn",
        "bigru": "bigru",
        "mlp": "mlp",
        "linear": "linear",
    }
    assert config.encoder_config("conformer").convolution == Context(12, 2)
    assert config.encoder_config("mlp").splice == Context(7, 7)


@pytest.mark.parametrize("lookahead", [0, 3, "symmetric"])
def test_look_ahead_survives_json(lookahead: Any) -> None:
    config = EncoderConfig(80, block="conformer", conv_lookahead=lookahead, context=(Context(3, 1),) * 6)
    assert EncoderConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ConfigError, match="must be one of symmetric, got 'half'"):
        EncoderConfig.from_dict({**config.to_dict(), "conv_lookahead": "half"})
