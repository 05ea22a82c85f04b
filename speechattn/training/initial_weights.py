"""Weights of a saved model as the start of a run: normalisation, encoder, and the head where the classes are equal."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from speechattn.errors import UserError
from speechattn.models.speech_model import SpeechModel, load
from speechattn.system.atomic_files import write_json
from speechattn.training.run_folder import read_object

MAY_DIFFER = ("classes", "encoder.dropout", "encoder.layer_dropout", "encoder.gradient_checkpointing")
"""Settings of a model that its weights do not depend on, or only those of the head."""


def load_initial(folder: str) -> SpeechModel:
    """Return the model saved in `folder`, or in `model/` of it if `folder` is that of a run.

    Raises:
        UserError: there is no model, or it is damaged.
    """
    path = Path(folder)
    return load(path / "model" if (path / "model" / "config.json").exists() else path)


def start_from(model: SpeechModel, initial: SpeechModel, folder: str) -> str:
    """Copy the weights of `initial` into `model`, except those of a head of other classes; return a line about it.

    Raises:
        UserError: settings of the two models differ.
    """
    found, wanted = _flat(initial.config.to_dict()), _flat(model.config.to_dict())
    differing = [key for key in sorted({*found, *wanted} - {*MAY_DIFFER}) if found.get(key) != wanted.get(key)]
    if differing:
        changes = ", ".join(f"{key} is {found.get(key)!r} there and {wanted.get(key)!r} here" for key in differing[:5])
        raise UserError(
            f"--init {folder} is a model of other settings: {changes}. Give this run the same ones (of a run, "
            "--config FOLDER/config.json reads them), or start without --init."
        )
    same_head = initial.config.classes == model.config.classes
    parts = ("normalize", "encoder", "head") if same_head else ("normalize", "encoder")
    for part in parts:
        getattr(model, part).load_state_dict(getattr(initial, part).state_dict())
    head = "and head" if same_head else f"but not the head, whose {len(initial.config.classes)} classes are others"
    return f"weights of normalisation, encoder {head} are from {folder}"


def check_initial(run: Path, initial: SpeechModel, folder: str) -> None:
    """Record in the folder of a run which weights it starts from.

    Raises:
        UserError: it has started from others.
    """
    digest, file = fingerprint_weights(initial), run / "init.json"
    if file.exists() and read_object(file).get("weights") != digest:
        raise UserError(
            f"{run} holds a run that started from other weights than those in --init {folder}. Choose another --out, "
            "or --restart to move it aside."
        )
    write_json(file, {"weights": digest, "folder": folder})


def fingerprint_weights(model: SpeechModel) -> str:
    """Return a hash of all weights of a model: their names, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
