"""Settings of a run: each is documented under its field, and a value of the wrong type is one line."""

import ast
import inspect
import typing
from dataclasses import fields
from typing import Any

import pytest

from speechattn.errors import ConfigError
from speechattn.training import config
from speechattn.training.config import TrainConfig


def test_every_setting_is_documented_under_its_field() -> None:
    (definition,) = (
        node
        for node in ast.parse(inspect.getsource(config)).body
        if isinstance(node, ast.ClassDef) and node.name == "TrainConfig"
    )
    documented = [
        before.target.id
        for before, after in zip(definition.body, definition.body[1:], strict=False)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    ]
    assert documented == [entry.name for entry in fields(TrainConfig)]


@pytest.mark.parametrize("name", [name for name, hint in typing.get_type_hints(TrainConfig).items() if hint is float])
@pytest.mark.parametrize("value", ["0.5", None, True, [0.5]], ids=repr)
def test_a_setting_that_is_no_number_is_named(name: str, value: object) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=rf"TrainConfig\.{name} must be a number, got "):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_bad": "0.5"}, r"TrainConfig\.max_bad must be a number, got '0\.5'\."),
        ({"speed_perturb": ("fast",)}, r"TrainConfig\.speed_perturb must be numbers, got \['fast'\]\."),
        ({"noise_snr_db": ("5", "20")}, r"TrainConfig\.noise_snr_db must be numbers, got "),
        ({"augment": "no"}, r"TrainConfig\.augment must be True or False, got 'no'\."),
        ({"epochs": 3.5}, r"TrainConfig\.epochs must be a whole number, got 3\.5\."),
    ],
    ids=str,
)
def test_a_setting_of_another_type_is_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**settings)


@pytest.mark.parametrize(
    "settings", [{"alignments": "a"}, {"lexicon": "a"}, {"data": "d", "labels": "speech", "lexicon": "a"}]
)
def test_labels_that_would_not_be_used_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="has no effect"):
        TrainConfig(**settings)


def test_the_recipe_has_a_number_of_mel_bins_of_its_own() -> None:
    assert TrainConfig().num_mels == TrainConfig().num_features == 40


def test_an_old_name_of_a_setting_is_refused_with_the_new_one() -> None:
    for old, new in {"output": "out", "positions": "position_encoding"}.items():
        with pytest.raises(ConfigError, match=rf"no setting '{old}'.* '{new}'"):
            TrainConfig.from_dict({old: "none"})
