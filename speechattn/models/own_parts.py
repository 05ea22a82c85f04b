"""Comparison of the parts of a model with those that its config describes: what `load` could not build by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from speechattn.config import EncoderConfig
from speechattn.encoder.input import InputLayer

PARTS = ("frontend", "normalize", "encoder", "head")
OWN_BLOCKS = " with blocks of "
"""What stands between the class of an encoder and that of its blocks, if these are not the usual ones."""
MAX_LISTED = 3
"""Names that a message lists; of the others it gives the number."""
RUNTIME_SETTINGS = ("training", "backend", "slab_frames", "hop_ms")
"""Attributes of parts that change no logits of a model in evaluation mode."""


def own_parts(model: nn.Module, usual: nn.Module) -> dict[str, str]:
    """Return the parts of `model` that are not as in `usual`, each with its class and the settings that differ."""
    own = {}
    for name in PARTS:
        part, described = getattr(model, name), getattr(usual, name)
        if _structure(part) != _structure(described):
            own[name] = class_name(part)
            if getattr(part, "has_own_blocks", False):
                own[name] += f"{OWN_BLOCKS}{class_name(part.blocks[0])}"
        elif changed := changed_settings(part, described):
            own[name] = f"{class_name(part)} with {format_names(changed)}"
    return own


def class_name(module: nn.Module) -> str:
    """Return the class of a module with the module that defines it, as "package.module.Class"."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


def format_names(names: list[str]) -> str:
    """Return the first few of some names, and the number of the others."""
    return ", ".join(names[:MAX_LISTED]) + (f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else "")


def changed_settings(module: nn.Module, usual: nn.Module) -> list[str]:
    """Return the settings that differ between two modules of one structure, as "name=value".

    Settings are public attributes, and constants that are not saved, such as a filterbank.
    """
    changed = []
    for (path, part), other in zip(module.named_modules(), usual.modules(), strict=True):
        prefix = f"{path}." if path else ""
        if isinstance(part, nn.Dropout):
            continue
        mine, theirs = vars(part), vars(other)
        replaced = [name for name in mine if hasattr(type(part), name)]  # a method of this one object, perhaps
        for name in dict.fromkeys([*theirs, *replaced]):
            if name.startswith("_") or name in RUNTIME_SETTINGS:
                continue
            if name not in mine or name not in theirs or not _same_setting(mine[name], theirs[name]):
                changed.append(f"{prefix}{name}={mine.get(name)!r}")
    saved, constants = module.state_dict(), dict(usual.named_buffers())
    for name, tensor in module.named_buffers():
        if name not in saved and not (name in constants and _same_constant(tensor, constants[name])):
            changed.append(f"another {name}")
    return changed


def _same_setting(mine: Any, theirs: Any) -> bool:
    """Return whether two values of an attribute give the same logits."""
    if isinstance(mine, InputLayer) and isinstance(theirs, InputLayer):
        return _same_setting(mine.config, theirs.config)
    if isinstance(mine, EncoderConfig) and isinstance(theirs, EncoderConfig):
        rest: dict[str, Any] = {"backend": "auto", "gradient_checkpointing": False}
        rest |= {"dropout": 0.0, "layer_dropout": 0.0}
        return replace(mine, **rest) == replace(theirs, **rest)
    return bool(mine == theirs)


def _same_constant(mine: Tensor, theirs: Tensor) -> bool:
    """Return whether constants are equal but for the rounding of float32, on any device."""
    if mine.shape != theirs.shape:
        return False
    # Each is computed in the dtype of its model; 1e-4 is far above float32's rounding and below any other filterbank.
    mine, theirs = mine.detach().cpu().double(), theirs.detach().cpu().double()
    return torch.allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def _structure(module: nn.Module) -> tuple[list[Any], dict[str, Any]]:
    """Return the classes of a module's parts and the shapes of its weights."""
    state = {name: getattr(value, "shape", None) for name, value in module.state_dict().items()}
    return [(name, type(part)) for name, part in module.named_modules()], state
