"""The state of an optimizer as named tensors and JSON, as checkpoints store it, and back bit for bit.

torch returns the state as one nested dictionary, meant for pickle, which can run code. Here its tensors become one
flat group, and the other values become JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from speechattn.errors import UserError


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return (tensors, meta): the tensors of an optimizer's state by name, and its other values as JSON.

    Tensors are named ``state.<parameter>.<key>`` and, if a setting is a tensor, ``group.<group>.<key>``.
    """
    state_dict = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    meta: dict[str, Any] = {"state": {}, "groups": []}
    for index, entries in state_dict["state"].items():
        meta["state"][str(index)] = _split(entries, f"state.{index}", tensors)
    for index, settings in enumerate(state_dict["param_groups"]):
        meta["groups"].append(_split(settings, f"group.{index}", tensors))
    return tensors, meta


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Load the state that `pack_optimizer` returned into `optimizer`, bit for bit; the tensors are copied.

    Raises:
        UserError: the state is of another optimizer: groups, parameters or their shapes differ.
    """
    state = {int(index): dict(entries) for index, entries in meta["state"].items()}
    groups = [dict(settings) for settings in meta["groups"]]
    for name, tensor in tensors.items():
        kind, index, key = name.split(".", 2)
        (state if kind == "state" else groups)[int(index)][key] = tensor.clone()
    for settings, current in zip(groups, optimizer.param_groups, strict=False):
        # JSON has no tuples; load_state_dict compares the groups below
        settings.update({key: tuple(settings[key]) for key in settings if isinstance(current.get(key), tuple)})
    _check_shapes(optimizer, state, groups)
    try:
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except ValueError as error:
        raise UserError(f"The saved optimizer belongs to another model or configuration: {error}.") from error


def _split(entries: Mapping[str, Any], prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Move the tensors of `entries` into `tensors`; return the other entries."""
    tensors.update({f"{prefix}.{key}": value for key, value in entries.items() if isinstance(value, Tensor)})
    return {key: value for key, value in entries.items() if not isinstance(value, Tensor)}


def _check_shapes(optimizer: torch.optim.Optimizer, state: dict[int, Any], groups: list[dict[str, Any]]) -> None:
    """Raise UserError if an average does not have its parameter's shape, which load_state_dict does not check."""
    for settings, current in zip(groups, optimizer.param_groups, strict=False):
        for index, parameter in zip(settings["params"], current["params"], strict=False):
            for key, value in state.get(index, {}).items():
                if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                    raise UserError(
                        f"The saved optimizer belongs to another model: {key} of parameter {index} has shape "
                        f"{list(value.shape)}, the parameter {list(parameter.shape)}."
                    )
