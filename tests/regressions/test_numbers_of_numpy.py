"""Sizes that numpy had computed were refused as no integers, or ended in a config that JSON could not write.

Elsewhere True and 40.0 passed for numbers of mel bins, epochs and heads.
"""

import json
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
import torch

import speechattn as sa
from speechattn.data.synthetic.config import SyntheticConfig
from speechattn.system.serialization import from_dict, to_dict
from speechattn.training.config import TrainConfig

KINDS = (np.int64, np.int32, np.uint8, torch.tensor)


@pytest.mark.parametrize("integer", KINDS)
def test_a_context_of_numpys_integers_is_the_context_of_pythons(integer: Any) -> None:
    context, same = sa.Context(integer(3), integer(2), integer(4)), sa.Context(3, 2, 4)
    assert (context, hash(context), repr(context)) == (same, hash(same), repr(same))
    assert ForkingPickler.loads(ForkingPickler.dumps(context)) == same
    assert json.dumps(to_dict(context)) == json.dumps(to_dict(same))
    assert {type(side) for side in (context.left, context.right, context.chunk)} == {int}


@pytest.mark.parametrize("integer", KINDS)
def test_configs_of_numpys_numbers_are_written_as_those_of_pythons(integer: Any) -> None:
    encoder = sa.EncoderConfig(
        integer(40),
        d_model=integer(16),
        num_heads=integer(2),
        num_layers=integer(1),
        d_ff=integer(8),
        stack=integer(1),
        conv_lookahead=integer(1),
        max_frames=integer(9),
    )
    same = sa.EncoderConfig(40, d_model=16, num_heads=2, num_layers=1, d_ff=8, conv_lookahead=1, max_frames=9)
    framing = sa.Framing(*map(np.int64, (16000, 400, 160)))  # type: ignore[arg-type]
    model = sa.ModelConfig(("A", "B"), encoder, num_mels=integer(40), framing=framing)
    for config, plain in ((encoder, same), (framing, sa.Framing()), (model, sa.ModelConfig(("A", "B"), same, 40))):
        assert (config, hash(config)) == (plain, hash(plain))
        assert json.dumps(to_dict(config)) == json.dumps(to_dict(plain))
    assert sa.EncoderConfig.from_dict({"input_dim": np.int64(40), "dropout": np.float32(0.5)}).to_dict() == (
        sa.EncoderConfig(40, dropout=0.5).to_dict()
    )


def test_numpys_numbers_in_the_recipes_settings_are_written_as_pythons() -> None:
    numbers: dict[str, Any] = {
        "seed": 3,
        "d_model": 32,
        "epochs": 2,
        "dropout": 0.5,
        "learning_rate": 0.25,
        "speed_perturb": (1.0, 1.5),
    }
    settings: dict[str, Any] = {name: np.array(value)[()] for name, value in numbers.items() if name != "speed_perturb"}
    config = TrainConfig(**settings)
    copies = TrainConfig(speed_perturb=tuple(np.array(numbers["speed_perturb"])))
    json.dumps([config.to_dict(), copies.to_dict()])
    assert from_dict(TrainConfig, config.to_dict()) == config
    assert {name: getattr(config, name) for name in numbers if name != "speed_perturb"} == {
        name: value for name, value in numbers.items() if name != "speed_perturb"
    }
    assert SyntheticConfig(train_utterances=np.int64(5)) == SyntheticConfig(train_utterances=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [True, np.True_, 64.0, np.float64(64), torch.tensor(64.0), "64", 0, -1])
@pytest.mark.parametrize(
    "build",
    [
        lambda number: sa.Context(2, 2, number),
        lambda number: sa.EncoderConfig(40, d_model=number),
        lambda number: sa.EncoderConfig(number),
        lambda number: sa.ModelConfig(("A", "B"), sa.EncoderConfig(64), num_mels=number),
        lambda number: sa.ModelConfig(("A", "B"), sa.EncoderConfig(64), num_mels=64, features="mfcc", num_ceps=number),
        lambda number: TrainConfig(epochs=number),
        lambda number: TrainConfig(num_layers=number),
        lambda number: sa.SelfAttention(number, 1, sa.Context(1, 1)),
        lambda number: sa.SelfAttention(64, number, sa.Context(1, 1)),
        lambda number: sa.FrameClassifier(8, number),
        lambda number: sa.UtteranceClassifier(number, 8),
        lambda number: sa.CTC(8, number),
        lambda number: sa.Normalize(number),
        lambda number: sa.LogMel(number),
        lambda number: sa.MFCC(number, 80),
        lambda number: sa.LogMel().initial_state(number),
        lambda number: SyntheticConfig(train_utterances=number),
    ],
)
def test_what_is_no_count_is_refused_in_one_line_that_repeats_it(build: Any, number: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as refused:
        build(number)
    message = str(refused.value)
    assert "\n" not in message
    assert repr(getattr(number, "item", lambda: number)()) in message or repr(number) in message


def test_the_scale_of_attention_may_be_numpys_and_a_tensor_is_refused() -> None:
    q = torch.randn(1, 2, 9, 8)
    context = sa.Context(2, 2)
    for backend in ("dense", "banded", "auto"):
        outputs = [sa.attention(q, q, q, context, scale=kind(0.25), backend=backend) for kind in (float, np.float32)]  # type: ignore[arg-type]
        torch.testing.assert_close(*outputs, atol=0, rtol=0)
        with pytest.raises(TypeError, match=r"scale must be a number, got tensor.*Multiply q"):
            sa.attention(q, q, q, context, scale=torch.tensor(0.25), backend=backend)  # type: ignore[arg-type]
