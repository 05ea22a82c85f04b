"""Dataclasses as plain JSON types and back, strictly. Standard library only.

An unknown key is an error that names the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin

from speechattn.errors import ConfigError

ConfigT = TypeVar("ConfigT")


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text says, as `json.loads`; ValueError, not RecursionError, if it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("its lists or objects are nested too deeply") from error


def check_choice(owner: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise a ConfigError that names the nearest choice when `value` is none of `choices`."""
    if value not in choices:
        near = difflib.get_close_matches(str(value), choices, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{owner}.{name} must be one of {', '.join(choices)}, got {value!r}.{hint}")


def plain_number(value: Any) -> Any:
    """Return the Python number in a scalar of numpy or a tensor without dimensions; anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () else value


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return `value` as an int. numpy's integers are integers; a bool and a float are not, even 64.0.

    Raises:
        ConfigError: it is none, or less than `least`.
    """
    number = plain_number(value)
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ConfigError(f"{name} must be a whole number from {least}, got {value!r}.")
    return number


def take_numbers(config: Any) -> None:
    """Replace numpy's numbers in the fields of a frozen dataclass by Python's, which JSON, == and hash know.

    Called first in `__post_init__`.
    """
    for entry in dataclasses.fields(config):
        value = getattr(config, entry.name)
        plain = tuple(map(plain_number, value)) if type(value) is tuple else plain_number(value)
        if plain is not value:
            object.__setattr__(config, entry.name, plain)


def to_dict(config: Any) -> Any:
    """Return a config as plain JSON types: dataclasses become dicts, tuples lists."""
    if dataclasses.is_dataclass(config):
        return {entry.name: to_dict(getattr(config, entry.name)) for entry in dataclasses.fields(config)}
    if isinstance(config, (tuple, list)):
        return [to_dict(item) for item in config]
    return config


def from_dict(cls: type[ConfigT], data: Mapping[str, Any], where: str = "") -> ConfigT:
    """Return a config of type `cls` from plain JSON types.

    Raises:
        ConfigError: a key is unknown (the nearest valid one is named), missing, or of the wrong type.
    """
    where = where or cls.__name__
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} must be an object with named settings, got {data!r}.")
    hints = typing.get_type_hints(cls)
    names = [entry.name for entry in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in data:
        if key in (renamed := getattr(cls, "RENAMED", {})):
            raise ConfigError(f"{where} has no setting {key!r}: use {renamed[key]!r}.")
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{where} has no setting {key!r}.{hint} Valid: {', '.join(names)}.")
    for entry in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and entry.name not in data:
            raise ConfigError(f"{where} lacks the setting {entry.name!r}, which has no default.")
    values = {key: _decode(hints[key], value, f"{where}.{key}") for key, value in data.items()}
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise error if isinstance(error, ConfigError) else ConfigError(f"{where}: {error}") from error


def _decode(hint: Any, value: Any, where: str) -> Any:
    """Return `value` as the type `hint`, one of the few types in configs."""
    value = plain_number(value)
    if isinstance(hint, types.UnionType) or get_origin(hint) is typing.Union:
        if value is None and type(None) in get_args(hint):
            return None
        options = [option for option in get_args(hint) if option is not type(None)]
        sequences = [option for option in options if _is_tuple(option)]
        words = [option for option in options if get_origin(option) is Literal]
        others = [option for option in options if option not in sequences and option not in words]
        chosen = sequences if isinstance(value, (list, tuple)) else words if isinstance(value, str) else others
        return _decode((chosen or options)[0], value, where)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where)  # type: ignore[arg-type]
    if get_origin(hint) is Literal:
        owner, name = where.rsplit(".", 1)
        check_choice(owner, name, value, get_args(hint))
        return value
    if _is_tuple(hint):
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where} must be a list, got {value!r}.")
        return tuple(_decode(get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where} must be of type {hint.__name__}, got {value!r}.")
    return value


def _is_tuple(hint: Any) -> bool:
    origin: object = get_origin(hint)
    return origin is tuple
