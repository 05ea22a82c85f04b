"""The directory of a saved model: `config.json` and `model.safetensors`; reading it never runs code.

`config.json` has the keys "format_version" and "model", a ModelConfig; "class" if the model was of a subclass of
SpeechModel, and "own", {part: class}, if a part is not the one that the config describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from speechattn.attention.positions import RESIZE
from speechattn.config import RENAMED
from speechattn.dtypes import packed_entry
from speechattn.errors import UserError, reason
from speechattn.model_config import ModelConfig
from speechattn.models.own_parts import PARTS, class_name, format_names, own_parts
from speechattn.system.atomic_files import write_bytes, write_json
from speechattn.system.serialization import parse_json

FORMAT_VERSION = 2
"""Version 1 had other names for settings of the encoder: `config.RENAMED`."""


@dataclass(frozen=True)
class SavedModel:
    """The contents of a saved model's directory."""

    config: ModelConfig
    tensors: Mapping[str, Tensor]
    model_class: str
    """Subclass of SpeechModel that was saved, or ""."""
    own: Mapping[str, str]
    """Parts that the config does not describe, with their classes."""


def write_model(directory: Path, model: nn.Module, config: ModelConfig, usual: nn.Module) -> None:
    """Write `model` into `directory`; `usual` is what `config` alone describes.

    Raises:
        UserError: layers are quantised, and hold packed weights that are no tensors; or a tensor is in no part.
    """
    if (name := packed_entry(model)) is not None:
        raise UserError(
            f"a quantised model cannot be saved ({name} is no tensor): save the float model, and quantise again "
            "what load returns."
        )
    state = model.state_dict()
    if foreign := [name for name in state if name.split(".")[0] not in PARTS]:
        raise UserError(
            f"{foreign[0]} is in none of the parts that are saved ({', '.join(PARTS)}): put it into one of them, "
            "or save model.state_dict() with torch.save."
        )
    directory.mkdir(parents=True, exist_ok=True)
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    tensors = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}
    data: dict[str, Any] = {"format_version": FORMAT_VERSION, "model": config.to_dict()}
    if type(model) is not type(usual):
        data["class"] = class_name(model)
    if own := own_parts(model, usual):
        data["own"] = own
    write_bytes(directory / "model.safetensors", to_bytes(tensors))
    write_json(directory / "config.json", data)


def read_model(directory: Path) -> SavedModel:
    """Return the contents of a saved model's directory.

    Raises:
        UserError: a file is missing or damaged, or of another format version.
        ConfigError: the config has unknown settings, or impossible ones.
    """
    for name in ("config.json", "model.safetensors"):
        if not (directory / name).is_file():
            raise UserError(
                f"{directory} is not a saved model: {name} is missing. A training run writes one in its model/."
            )
    try:
        data = parse_json((directory / "config.json").read_text(encoding="utf-8"))
        version, own, model_class = data["format_version"], dict(data.get("own", {})), str(data.get("class", ""))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{directory / 'config.json'} is not a model's config: {error}.") from error
    if version == 1:
        renamed = ", ".join(f'"{old}" to "{new}"' for old, new in RENAMED.items())
        raise UserError(
            f"{directory} has format version 1; this speechattn reads version {FORMAT_VERSION}: in its config.json set "
            f'"format_version" to {FORMAT_VERSION} and rename, in "model", "encoder": {renamed}. The weights stay.'
        )
    if version != FORMAT_VERSION:
        raise UserError(f"{directory} has format version {version!r}; this speechattn reads version {FORMAT_VERSION}.")
    config = ModelConfig.from_dict(data.get("model"))
    try:
        tensors = from_bytes((directory / "model.safetensors").read_bytes())
    except SafetensorError as error:
        path = directory / "model.safetensors"
        raise UserError(f"{path} does not hold this model's weights: {reason(error)}") from error
    return SavedModel(config, tensors, model_class, own)


def differing_weights(wanted: Mapping[str, Any], found: Mapping[str, Tensor]) -> str:
    """Return the tensors of another shape, missing or unknown, as one line; "" if all fit."""
    shapes = {name: list(getattr(value, "shape", ())) for name, value in wanted.items()}
    other = [name for name in shapes if name in found and list(found[name].shape) != shapes[name]]
    findings = {
        "of another shape": [f"{name} {list(found[name].shape)} for {shapes[name]}" for name in other],
        "missing": [name for name in wanted if name not in found],
        "unknown": [name for name in found if name not in wanted],
    }
    lines = []
    for what, names in findings.items():
        if names:
            lines.append(f"{len(names)} {what}: {format_names(names)}")
    advice = f" {RESIZE}" if any(name.endswith("relative_bias.table") for name in other) else ""
    return f"{'; '.join(lines)}.{advice}" if lines else ""
